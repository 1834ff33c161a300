//! What a walk finds.

use std::fmt;

use serde::Serialize;

/// Why the proxy refuses a connection or a request. Names in JSON and in [`Refusal::name`] are those of Istio's simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Nothing listens there.
    NoListener,
    /// The listener closes connections that no filter chain takes.
    NoFilterChain,
    /// Several filter chains take it: Envoy refuses such a listener as a whole.
    MultipleFilterChain,
    /// No virtual host has the host: 404.
    NoVirtualHost,
    /// The virtual host has no route for the request: 404.
    NoRoute,
    /// The virtual host demands TLS: 301.
    TlsRedirect,
    /// Plaintext to a filter chain that ends TLS.
    TlsError,
    /// TLS or other bytes to a filter chain that reads HTTP.
    ProtocolError,
    /// Client and filter chain do not agree on mutual TLS.
    MtlsError,
    /// A policy denies it: 403.
    Denied,
    /// It needs a valid token: 401.
    Unauthorized,
}

impl Refusal {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::NoListener => "ErrNoListener",
            Refusal::NoFilterChain => "ErrNoFilterChain",
            Refusal::MultipleFilterChain => "ErrMultipleFilterChain",
            Refusal::NoVirtualHost => "ErrNoVirtualHost",
            Refusal::NoRoute => "ErrNoRoute",
            Refusal::TlsRedirect => "ErrTLSRedirect",
            Refusal::TlsError => "ErrTLSError",
            Refusal::ProtocolError => "ErrProtocolError",
            Refusal::MtlsError => "ErrMTLSError",
            Refusal::Denied => "ErrDenied",
            Refusal::Unauthorized => "ErrUnauthorized",
        }
    }

    /// The status that the client of a request gets; none where the connection ends.
    pub(crate) fn status(self) -> Option<u16> {
        match self {
            Refusal::NoVirtualHost | Refusal::NoRoute => Some(404),
            Refusal::TlsRedirect => Some(301),
            Refusal::Denied => Some(403),
            Refusal::Unauthorized => Some(401),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Refusal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Why a request that is routed reaches nobody; 503, or the end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Unavailable {
    /// The proxy has no cluster of that name.
    #[serde(rename = "ErrNoCluster")]
    NoCluster,
    /// The cluster has no endpoint that takes requests.
    #[serde(rename = "ErrNoEndpoints")]
    NoEndpoints,
}

/// A resource of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Resource {
    /// Its type URL.
    pub type_url: &'static str,
    /// Its name.
    pub name: String,
}

/// One thing that was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is: `listener`, `filter chain`, `route`, `cluster`, …
    pub what: &'static str,
    /// What happened there, in words.
    pub text: String,
    /// The resource that it stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
}

/// Where a cluster may send to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// `IP:PORT`, `NAME:PORT` to be resolved, or a Unix socket's path.
    pub address: String,
    /// Share among those of its priority.
    pub weight: u32,
    /// 0 is used first.
    pub priority: u32,
    /// Whether it takes requests, as far as the configuration says.
    pub healthy: bool,
}

/// What a call meets. Names are those of the resources; one without a name is an empty text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Why the proxy refuses it.
    pub error: Option<Refusal>,
    /// Why it reaches nobody although it is routed.
    pub unavailable: Option<Unavailable>,
    /// Listener.
    pub listener: Option<String>,
    /// Filter chain.
    pub filter_chain: Option<String>,
    /// Route configuration, unless it stands inside the listener.
    pub route_config: Option<String>,
    /// Virtual host.
    pub virtual_host: Option<String>,
    /// Route.
    pub route: Option<String>,
    /// Cluster; none while several are possible.
    pub cluster: Option<String>,
    /// The possible clusters with their weights, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<(String, u32)>,
    /// Path with its query, as the cluster gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Host, as the cluster gets it; none while it depends on which of several clusters is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Status of an answer that the proxy gives itself.
    pub status: Option<u16>,
    /// `location` of a redirect.
    pub location: Option<String>,
    /// Endpoints of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Everything that was met, in order.
    pub steps: Vec<Step>,
}

impl Verdict {
    pub(crate) fn step(&mut self, what: &'static str, text: impl Into<String>, resource: Option<Resource>) {
        self.steps.push(Step {
            what,
            text: text.into(),
            resource,
        });
    }

    /// Ends the walk with a refusal.
    pub(crate) fn refuse(&mut self, error: Refusal, text: impl Into<String>) {
        self.error = Some(error);
        self.status = error.status();
        self.step("refusal", format!("{error}: {}", text.into()), None);
    }
}
