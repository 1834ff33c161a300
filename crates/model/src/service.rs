//! Services: a host, its ports and the endpoints behind them, whether Kubernetes or a ServiceEntry declared it.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::ObjectKey;

use crate::export::ExportTo;
use crate::protocol::Protocol;
use crate::workload::{Address, Locality};

/// What declared a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    ServiceEntry,
}

/// How a proxy finds a service's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// From the control plane.
    Static,
    /// By DNS, all addresses.
    Dns,
    /// By DNS, the first address of each answer.
    DnsRoundRobin,
    /// The connection's original destination.
    Passthrough,
    /// By DNS for each request's own host.
    DynamicDns,
    /// The service is another name of this host.
    Alias(String),
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name, may be empty.
    pub name: String,
    /// Number that clients use.
    pub number: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// Whether an endpoint takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Ready.
    Healthy,
    /// Not ready.
    Unhealthy,
    /// Ending: finishes what it has.
    Draining,
}

/// One place where a service's ports are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// (service port, endpoint's port), in the service's order; a port that it does not serve is missing.
    pub ports: Vec<(u16, u16)>,
    /// Labels, which subsets choose by.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Kubernetes namespace of the workload.
    pub namespace: String,
    /// Name of the workload, empty if unknown.
    pub workload: String,
    /// Service account of the workload, if known.
    pub service_account: Option<String>,
    /// Whether its proxy accepts mutual TLS.
    pub mtls: bool,
    /// Network.
    pub network: String,
    /// Where it is.
    pub locality: Locality,
    /// Share of the load, at least 1.
    pub weight: u32,
    /// Whether it takes requests.
    pub health: Health,
    /// The object that it came from.
    pub origin: ObjectKey,
}

impl Endpoint {
    /// Its port behind the service's port.
    pub fn port(&self, service_port: u16) -> Option<u16> {
        self.ports
            .iter()
            .find(|(port, _)| *port == service_port)
            .map(|(_, target)| *target)
    }
}

/// A host that the mesh knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// FQDN, lower case; a wildcard is possible for a ServiceEntry.
    pub host: String,
    /// Name of the object that declared it.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What declared it.
    pub registry: Registry,
    /// Ports, in the object's order, each number once.
    pub ports: Vec<Port>,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Whether it is outside the mesh, where nobody speaks mutual TLS.
    pub mesh_external: bool,
    /// Virtual addresses: IPs or CIDR prefixes.
    pub addresses: Vec<String>,
    /// Who sees it.
    pub export_to: ExportTo,
    /// Names that servers may present beside their accounts' identities.
    pub subject_alt_names: Vec<String>,
    /// Labels of the object.
    pub labels: BTreeMap<String, String>,
    /// When the object was made, seconds since 1970.
    pub created: Option<i64>,
    /// Where it is served, sorted.
    pub endpoints: Vec<Endpoint>,
    /// The object that declared it, then those that added to it.
    pub origins: Vec<ObjectKey>,
}

impl Service {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }
}
