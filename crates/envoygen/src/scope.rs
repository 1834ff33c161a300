//! What a proxy's configuration depends on. Two proxies of one scope get the same tables; the outbound and the inbound part
//! are separate, so that each is shared as widely as it can be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use config::ObjectKey;
use config::networking::PatchContext;
use model::{Locality, Protocol, Service, Snapshot, Workload};
use policy::{Direction, Ports, Traffic, WorkloadView};

use crate::family::Families;
use crate::generator::Generator;
use crate::mixer::{Asks, Enforcement, PortAsks};
use crate::patch::PatchId;
use crate::proxy::{Interception, Proxy, ProxyKind};
use crate::topology::Topology;

/// Everything that a proxy's configuration depends on, beside the snapshot and the settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// What it needs to reach others.
    pub outbound: Outbound,
    /// What it needs to be reached; none for routers, whose servers are part of the outbound scope.
    pub inbound: Option<Inbound>,
}

/// What a proxy needs to reach others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Outbound {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// Its namespace.
    pub namespace: String,
    /// DNS domain of its namespace.
    pub dns_domain: String,
    /// The Sidecar that shapes it.
    pub sidecar: Option<ObjectKey>,
    /// The workload's labels: for a sidecar those that routes and rules read, for a router all.
    pub labels: BTreeMap<String, String>,
    /// How traffic reaches it.
    pub interception: Interception,
    /// Its own address, where listeners and outgoing connections need it (no interception).
    pub address: Option<IpAddr>,
    /// Families of its addresses.
    pub families: Families,
    /// Where it is.
    pub locality: Locality,
    /// Its network.
    pub network: String,
    /// The Kubernetes node that it runs on, where any service looks at that; else empty.
    pub node: String,
    /// What lies between clients and a router.
    pub topology: Topology,
    /// Whether HTTP/1.0 is taken.
    pub http10: bool,
    /// Whether its agent answers DNS, so that addresses of the reserved ranges are used.
    pub dns_capture: bool,
    /// Ports that its services have on a router: (service port, its own port), sorted.
    pub ports: Vec<(u16, u16)>,
    /// The same with the services, by which Gateways find the ports to open.
    pub targets: Vec<GatewayTarget>,
    /// What it must tell Mixer of what it sends.
    pub asks: Asks,
    /// EnvoyFilters' patches for it, in order.
    pub patches: Vec<PatchId>,
    /// Telemetry objects for it, those that count more behind those that count less.
    pub telemetries: Vec<ObjectKey>,
    /// What traces call it; empty where no tracer needs it to be told.
    pub traced_as: String,
    /// WasmPlugins and TrafficExtensions for it.
    pub extensions: Vec<ObjectKey>,
}

/// A port of a service on a router.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayTarget {
    /// The service's host.
    pub host: String,
    /// Its namespace.
    pub namespace: String,
    /// Its port.
    pub port: u16,
    /// The router's own port behind it.
    pub target: u16,
    /// Whether the service has the port over UDP too, so that HTTP/3 can be served there.
    pub udp: bool,
    /// Whether Gateways that select by labels mean the router's own port by the service's.
    pub translates: bool,
}

/// What a sidecar needs to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Inbound {
    /// Its namespace.
    pub namespace: String,
    /// The workload's labels, by which policies select.
    pub labels: BTreeMap<String, String>,
    /// The Sidecar that shapes it.
    pub sidecar: Option<ObjectKey>,
    /// How traffic reaches it.
    pub interception: Interception,
    /// Its own address, where listeners and outgoing connections need it (no interception).
    pub address: Option<IpAddr>,
    /// Families of its addresses.
    pub families: Families,
    /// Whether HTTP/1.0 is taken.
    pub http10: bool,
    /// Its own address, where a Sidecar declares ports, whose chains and default endpoints have it.
    pub ip: Option<IpAddr>,
    /// Ports that its services have on it: (service's host, service port, its own port), sorted.
    pub ports: Vec<(String, u16, u16)>,
    /// What it must ask and tell Mixer.
    pub asks: Asks,
    /// EnvoyFilters' patches for it, in order.
    pub patches: Vec<PatchId>,
    /// Telemetry objects for it, those that count more behind those that count less.
    pub telemetries: Vec<ObjectKey>,
    /// What traces call it; empty where no tracer needs it to be told.
    pub traced_as: String,
    /// WasmPlugins and TrafficExtensions for it.
    pub extensions: Vec<ObjectKey>,
}

impl Scope {
    /// The scope of a proxy in the generator's snapshot.
    pub fn of(proxy: &Proxy, generator: &Generator) -> Scope {
        let snapshot = &*generator.snapshot;
        let workload = proxy.workload(snapshot);
        let labels = workload.map(|w| (*w.labels).clone()).unwrap_or_default();
        let interception = proxy.interception(snapshot);
        let own = workload.and_then(Workload::ip).unwrap_or(proxy.ip);
        let address = (interception == Interception::None && !own.is_unspecified()).then_some(own);
        let families = families(proxy, workload);
        let sidecar = match proxy.kind {
            ProxyKind::Sidecar => snapshot
                .sidecar_for(&proxy.namespace, &labels)
                .map(|s| s.key.clone()),
            ProxyKind::Router => None,
        };
        let ports = workload.map(|w| service_ports(snapshot, w)).unwrap_or_default();
        let patches = |context| generator.patches.of(proxy, &labels, context);
        let telemetries = generator.selected.telemetries(&proxy.namespace, &labels);
        let extensions = generator.selected.extensions(&proxy.namespace, &labels);
        let traced_as = traced_as(proxy, &labels, snapshot);
        let sends = match proxy.kind {
            ProxyKind::Sidecar => patches(PatchContext::SidecarOutbound),
            ProxyKind::Router => patches(PatchContext::Gateway),
        };
        let declares = sidecar
            .as_ref()
            .and_then(|key| snapshot.sidecar(key))
            .is_some_and(|s| !s.spec.ingress.is_empty());
        let inbound = (proxy.kind == ProxyKind::Sidecar).then(|| Inbound {
            ip: (declares && !own.is_unspecified()).then_some(own),
            http10: proxy.http10,
            namespace: proxy.namespace.clone(),
            labels: labels.clone(),
            sidecar: sidecar.clone(),
            interception,
            address,
            families,
            ports: ports.clone(),
            asks: asks(generator, workload, Direction::Inbound),
            patches: patches(PatchContext::SidecarInbound),
            telemetries: telemetries.clone(),
            traced_as: traced_as.clone(),
            extensions: extensions.clone(),
        });
        let outbound = Outbound {
            kind: proxy.kind,
            namespace: proxy.namespace.clone(),
            dns_domain: proxy.dns_domain.clone(),
            sidecar,
            labels: client_labels(proxy.kind, labels, snapshot),
            interception,
            address,
            families,
            locality: workload.map(|w| w.locality.clone()).unwrap_or_default(),
            network: workload.map(|w| w.network.clone()).unwrap_or_default(),
            topology: match proxy.kind {
                ProxyKind::Router => proxy
                    .topology
                    .unwrap_or_else(|| Topology::of_mesh(snapshot.mesh())),
                ProxyKind::Sidecar => Topology::default(),
            },
            http10: proxy.http10,
            dns_capture: proxy.dns_capture,
            node: workload
                .filter(|_| snapshot.reads_nodes())
                .map(|w| w.node.clone())
                .unwrap_or_default(),
            ports: match proxy.kind {
                ProxyKind::Router => ports
                    .into_iter()
                    .map(|(_, port, target)| (port, target))
                    .collect(),
                ProxyKind::Sidecar => Vec::new(),
            },
            targets: match (proxy.kind, workload) {
                (ProxyKind::Router, Some(workload)) => targets(snapshot, workload),
                _ => Vec::new(),
            },
            asks: asks(generator, workload, Direction::Outbound),
            patches: sends,
            telemetries,
            traced_as,
            extensions,
        };
        Scope { outbound, inbound }
    }
}

/// Istio's default for `serviceCluster`, where a provider of the mesh's does not take it from the node.
fn traced_as(proxy: &Proxy, labels: &BTreeMap<String, String>, snapshot: &Snapshot) -> String {
    let mut providers = snapshot.mesh().extension_providers.iter();
    if providers.any(|p| p.opentelemetry.is_some() || p.datadog.is_some()) {
        format!("{}.{}", labels.get("app").unwrap_or(&proxy.name), proxy.namespace)
    } else {
        String::new()
    }
}

/// What a workload must ask of Mixer in one direction.
fn asks(generator: &Generator, workload: Option<&Workload>, direction: Direction) -> Asks {
    let enforcement = Enforcement::of(&generator.snapshot, workload);
    let Some(workload) = workload else {
        return Asks {
            enforcement,
            ..Asks::default()
        };
    };
    let view = WorkloadView::of(&generator.snapshot, workload);
    let of = |tcp, ports| {
        let traffic = Traffic { direction, tcp };
        enforcement.apply(generator.rules.requirements_at(&view, traffic, ports))
    };
    let (http, tcp) = (of(false, Ports::Undeclared), of(true, Ports::Undeclared));
    let mut ports = BTreeMap::new();
    if direction == Direction::Inbound {
        for port in view.services.iter().flat_map(|service| &service.ports) {
            let at = || PortAsks {
                http: of(false, Ports::Only(*port)),
                tcp: of(true, Ports::Only(*port)),
            };
            ports.entry(*port).or_insert_with(at);
        }
        ports.retain(|_, own| own.http != http || own.tcp != tcp);
    }
    Asks {
        http,
        tcp,
        ports,
        enforcement,
    }
}

fn client_labels(
    kind: ProxyKind,
    mut labels: BTreeMap<String, String>,
    snapshot: &Snapshot,
) -> BTreeMap<String, String> {
    if kind == ProxyKind::Sidecar {
        let read = snapshot.client_label_keys();
        labels.retain(|key, _| read.contains(key));
    }
    labels
}

/// Label of services whose ports Gateways that select by labels take as they are.
const NO_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

fn targets(snapshot: &Snapshot, workload: &Workload) -> Vec<GatewayTarget> {
    let mut out = Vec::new();
    for service in snapshot.services().of_workload(workload) {
        let own = service.endpoints.iter().filter(|e| workload.is_at(&e.address));
        for (port, target) in own.flat_map(|endpoint| &endpoint.ports) {
            out.push(GatewayTarget {
                host: service.host.clone(),
                namespace: service.namespace.clone(),
                port: *port,
                target: *target,
                udp: has_udp(service, *port),
                translates: !service.labels.contains_key(NO_TRANSLATION),
            });
        }
    }
    out.sort();
    out.dedup();
    out
}

/// Whether a service has a port over UDP as well as otherwise.
fn has_udp(service: &Service, number: u16) -> bool {
    let over = |udp: bool| {
        let mut ports = service.ports.iter();
        ports.any(|port| port.number == number && (port.protocol == Protocol::Udp) == udp)
    };
    over(true) && over(false)
}

/// The families of a proxy's addresses: its workload's, and those that it says it has (`INSTANCE_IPS`, Istio's); else of the
/// one in its node id. What it says concerns its own listeners alone.
fn families(proxy: &Proxy, workload: Option<&Workload>) -> Families {
    let said = proxy.metadata.get("INSTANCE_IPS").into_iter();
    let said = said
        .flat_map(|ips| ips.split(','))
        .filter_map(|ip| ip.trim().parse::<IpAddr>().ok());
    let known: Vec<IpAddr> = workload.into_iter().flat_map(Workload::ips).chain(said).collect();
    if known.is_empty() {
        return Families::of([proxy.ip]);
    }
    Families::of(known)
}

fn service_ports(snapshot: &Snapshot, workload: &Workload) -> Vec<(String, u16, u16)> {
    let mut ports = Vec::new();
    for service in snapshot.services().of_workload(workload) {
        let own = service.endpoints.iter().filter(|e| workload.is_at(&e.address));
        for (port, target) in own.flat_map(|endpoint| &endpoint.ports) {
            ports.push((service.host.clone(), *port, *target));
        }
    }
    ports.sort();
    ports.dedup();
    ports
}
