//! What a generator gives: encoded resources, the objects each came from, and what could not be generated.

use std::collections::BTreeSet;

use bytes::Bytes;
use config::{Finding, ObjectKey};

/// Type URLs of the resources that are generated.
pub mod type_url {
    /// Clusters.
    pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    /// Endpoints of a cluster.
    pub const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
    /// Listeners.
    pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
    /// Route configurations.
    pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
    /// Filters' configuration that listeners name instead of holding it.
    pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
    /// Names for agents that answer DNS.
    pub const DNS_TABLE: &str = "type.googleapis.com/envoy.data.dns.v3.DnsTable";
}

/// One resource, ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// One of [`type_url`].
    pub type_url: &'static str,
    /// Unique within its type.
    pub name: String,
    /// The encoded message (not wrapped in `Any`); the same bytes for the same meaning, always.
    pub bytes: Bytes,
    /// The objects that it was made of, sorted.
    pub origins: Vec<ObjectKey>,
}

/// A filter chain that the configuration asks for and no proxy gets: another one of its listener matches the same, and Envoy
/// would refuse both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Name of the listener.
    pub listener: String,
    /// The encoded filter chain.
    pub chain: Bytes,
    /// The object that asks for it.
    pub origin: ObjectKey,
}

/// What a generator gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// By type and name, each once.
    pub resources: Vec<Resource>,
    /// What could not be generated, and why.
    pub findings: Vec<Finding>,
    /// Filter chains that were left out; a finding tells of each.
    pub set_aside: Vec<SetAside>,
}

impl Output {
    /// Both as one; of two resources with one name the first stays.
    pub(crate) fn join(mut self, other: Output) -> Output {
        self.resources.extend(other.resources);
        self.findings.extend(other.findings);
        self.set_aside.extend(other.set_aside);
        self.sorted()
    }

    pub(crate) fn sorted(mut self) -> Output {
        self.resources
            .sort_by(|a, b| (a.type_url, &a.name).cmp(&(b.type_url, &b.name)));
        self.resources
            .dedup_by(|b, a| a.type_url == b.type_url && a.name == b.name);
        self
    }

    /// The resources of one type.
    pub fn of_type(&self, type_url: &str) -> impl Iterator<Item = &Resource> {
        self.resources
            .iter()
            .filter(move |resource| resource.type_url == type_url)
    }

    /// The resource of this type and name.
    pub fn get(&self, type_url: &str, name: &str) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|resource| resource.type_url == type_url && resource.name == name)
    }
}

/// The objects behind a resource while it is being built.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origins(BTreeSet<ObjectKey>);

impl Origins {
    pub(crate) fn of<'a>(keys: impl IntoIterator<Item = &'a ObjectKey>) -> Origins {
        Origins(keys.into_iter().cloned().collect())
    }

    pub(crate) fn add<'a>(&mut self, keys: impl IntoIterator<Item = &'a ObjectKey>) {
        self.0.extend(keys.into_iter().cloned());
    }

    pub(crate) fn into_vec(self) -> Vec<ObjectKey> {
        self.0.into_iter().collect()
    }
}
