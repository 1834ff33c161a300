//! Names of resource types, and what the protocol says about each.
//!
//! It knows nothing of the messages behind the names.

use std::fmt;
use std::sync::Arc;

/// A resource type's URL: `type.googleapis.com/envoy.config.cluster.v3.Cluster` for Envoy's types,
/// `GROUP/VERSION/KIND` for the types of Argosy's own feed.
#[derive(Clone)]
pub struct TypeUrl(Text);

#[derive(Clone)]
enum Text {
    Fixed(&'static str),
    Shared(Arc<str>),
}

/// `Cluster` (CDS).
pub const CLUSTER: TypeUrl = TypeUrl::fixed("type.googleapis.com/envoy.config.cluster.v3.Cluster");
/// `ClusterLoadAssignment` (EDS).
pub const ENDPOINTS: TypeUrl =
    TypeUrl::fixed("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment");
/// `Listener` (LDS).
pub const LISTENER: TypeUrl = TypeUrl::fixed("type.googleapis.com/envoy.config.listener.v3.Listener");
/// `RouteConfiguration` (RDS).
pub const ROUTE: TypeUrl = TypeUrl::fixed("type.googleapis.com/envoy.config.route.v3.RouteConfiguration");
/// `Secret` (SDS).
pub const SECRET: TypeUrl =
    TypeUrl::fixed("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret");
/// `TypedExtensionConfig` (ECDS).
pub const EXTENSION: TypeUrl =
    TypeUrl::fixed("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");

impl TypeUrl {
    /// A URL known when the program is compiled.
    #[must_use]
    pub const fn fixed(url: &'static str) -> Self {
        Self(Text::Fixed(url))
    }

    /// The URL as it is written on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Fixed(text) => text,
            Text::Shared(text) => text,
        }
    }

    /// The place of Envoy's types in make-before-break order; all others come first, since none waits for them.
    /// (xDS protocol, "Eventual consistency considerations".)
    pub(crate) fn rank(&self) -> Rank {
        match self {
            url if *url == CLUSTER => Rank::Cluster,
            url if *url == ENDPOINTS => Rank::Endpoints,
            url if *url == LISTENER => Rank::Listener,
            url if *url == ROUTE => Rank::Route,
            _ => Rank::Free,
        }
    }

    /// Whether a first request without names means "all": in the protocol's words only for listeners and clusters,
    /// and so for types that Envoy does not know. Types whose names come from other resources never do.
    pub(crate) fn legacy_wildcard(&self) -> bool {
        ![ENDPOINTS, ROUTE, SECRET, EXTENSION].contains(self)
    }

    /// Whether a state-of-the-world response holds all resources, so that what is missing is removed.
    pub(crate) fn whole_state(&self) -> bool {
        matches!(self.rank(), Rank::Cluster | Rank::Listener)
    }
}

/// Order in which the types of one stream are sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    Free,
    Cluster,
    Endpoints,
    Listener,
    Route,
}

impl From<&str> for TypeUrl {
    /// Known URLs cost no allocation.
    fn from(url: &str) -> Self {
        [CLUSTER, ENDPOINTS, LISTENER, ROUTE, SECRET, EXTENSION]
            .into_iter()
            .find(|known| known.as_str() == url)
            .unwrap_or_else(|| Self(Text::Shared(url.into())))
    }
}

impl From<String> for TypeUrl {
    fn from(url: String) -> Self {
        Self::from(url.as_str())
    }
}

impl PartialEq for TypeUrl {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for TypeUrl {}

impl PartialOrd for TypeUrl {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TypeUrl {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl std::hash::Hash for TypeUrl {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Debug for TypeUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}
