//! Services: a host, its ports and the endpoints behind them, whether Kubernetes or a ServiceEntry declared it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::ObjectKey;

use crate::export::ExportTo;
use crate::locality::Locality;
use crate::protocol::Protocol;
use crate::workload::Address;

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
    /// Ending, but serving the sessions that it has: only for services with persistent sessions.
    Draining,
    /// Ending.
    Terminating,
}

/// How near an endpoint a service's clients should use (Kubernetes, `trafficDistribution`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficDistribution {
    /// Any.
    #[default]
    Any,
    /// In the client's zone, then in its region, as long as endpoints are healthy there.
    PreferSameZone,
    /// On the client's node, then in its zone and region.
    PreferSameNode,
}

/// Annotation of a Service, ServiceEntry or Namespace that says the same.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

impl TrafficDistribution {
    /// Reads Kubernetes' spelling, in any case; `None` for an empty text, [`TrafficDistribution::Any`] for an unknown one.
    pub fn parse(text: &str) -> Option<TrafficDistribution> {
        Some(match text.to_ascii_lowercase().as_str() {
            "" => return None,
            "preferclose" | "prefersamezone" => TrafficDistribution::PreferSameZone,
            "prefersamenode" => TrafficDistribution::PreferSameNode,
            _ => TrafficDistribution::Any,
        })
    }

    /// What an object's annotations say.
    pub(crate) fn annotated(annotations: &BTreeMap<String, String>) -> Option<TrafficDistribution> {
        TrafficDistribution::parse(annotations.get(TRAFFIC_DISTRIBUTION)?)
    }
}

/// Names a service: its host and its namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    /// FQDN, lower case.
    pub host: String,
    /// Namespace of the object that declares it.
    pub namespace: String,
}

impl ServiceId {
    /// The name of this service.
    pub fn new(host: impl Into<String>, namespace: impl Into<String>) -> ServiceId {
        ServiceId {
            host: host.into(),
            namespace: namespace.into(),
        }
    }
}

/// One place where a service's ports are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// Its other addresses (dual stack).
    pub additional: Vec<IpAddr>,
    /// (service port, endpoint's port), in the service's order; a port that it does not serve is missing.
    pub ports: Vec<(u16, u16)>,
    /// Labels, which subsets choose by.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Kubernetes namespace of the workload.
    pub namespace: String,
    /// Name of the workload, empty if unknown.
    pub workload: String,
    /// The name that its instances share ([`Workload::workload_name`](crate::Workload::workload_name)), empty if unknown.
    pub workload_name: String,
    /// Service account of the workload, if known.
    pub service_account: Option<String>,
    /// Whether its proxy accepts mutual TLS.
    pub mtls: bool,
    /// Network.
    pub network: String,
    /// Where it is.
    pub locality: Locality,
    /// Name of the Kubernetes node that it runs on; empty if unknown.
    pub node: String,
    /// Share of the load, at least 1.
    pub weight: u32,
    /// Whether it takes requests.
    pub health: Health,
    /// The object that it came from.
    pub origin: ObjectKey,
}

impl Endpoint {
    /// All its IP addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.address
            .ip()
            .into_iter()
            .chain(self.additional.iter().copied())
    }

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
    /// Addresses of Istio's reserved ranges for a ServiceEntry that has none of its own, IPv4 before IPv6. Clients use them if
    /// their proxy answers DNS.
    pub auto_addresses: Vec<IpAddr>,
    /// Addresses outside the cluster: of its load balancer, and external IPs.
    pub external_addresses: Vec<String>,
    /// Other hosts that stand for it (Services of type ExternalName that name it), sorted.
    pub aliases: Vec<String>,
    /// How near an endpoint its clients should use.
    pub traffic_distribution: TrafficDistribution,
    /// Whether clients use endpoints of their own node only (Kubernetes, `internalTrafficPolicy: Local`).
    pub node_local: bool,
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
    /// Its name in the mesh.
    pub fn id(&self) -> ServiceId {
        ServiceId::new(&self.host, &self.namespace)
    }

    /// Whether a session stays with its endpoint while that ends (Istio, `istio.io/persistent-session`).
    pub fn keeps_sessions(&self) -> bool {
        let set = |label: &str| self.labels.get(label).is_some_and(|value| !value.is_empty());
        set("istio.io/persistent-session") || set("istio.io/persistent-session-header")
    }

    /// Whether clients are told of endpoints that are not ready: they need them to know when to leave a zone.
    pub fn shows_unhealthy(&self) -> bool {
        self.traffic_distribution != TrafficDistribution::Any
    }

    /// Whether some of its endpoints may have a proxy that speaks mutual TLS. A ServiceEntry's own endpoints have none unless
    /// they say so; where nothing is known yet, anything may come.
    pub fn meets_proxies(&self) -> bool {
        self.registry != Registry::ServiceEntry
            || self.endpoints.is_empty()
            || (self.endpoints.iter()).any(|e| e.mtls || !e.workload.is_empty() || !e.network.is_empty())
    }

    /// Whether every request to it meets a proxy that decides on it: it is known where it is served, and each endpoint has one.
    pub fn is_guarded(&self) -> bool {
        let proxies = self.endpoints.iter().all(|endpoint| endpoint.mtls);
        proxies && !self.mesh_external && !self.endpoints.is_empty()
    }

    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }
}
