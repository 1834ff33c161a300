//! A sidecar's listeners for what its application sends: of each service's address and port where services are told apart by
//! address, else of the port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use config::networking::CaptureMode;
use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener};
use ipnet::IpNet;
use model::{MESH_GATEWAY, Protocol, Registry, Resolution, Service};

use super::entry::{Chain, Content, Entry};
use super::http::{Class, Http, Routes};
use super::{Bind, tcp};
use crate::alpn;
use crate::extension::Extensions;
use crate::family::is_any;
use crate::filter;
use crate::l4::Weighted;
use crate::names;
use crate::output::Origins;
use crate::proxy::Interception;
use crate::route::RouteContext;
use crate::scope::Outbound;
use crate::telemetry::{Side, Traced};
use crate::topology::Topology;
use crate::view::{Egress, View};

/// A sidecar's outbound listeners.
pub(crate) struct Sidecar<'a> {
    pub(crate) view: &'a View<'a>,
    /// Logs of requests.
    pub(crate) http_log: Vec<AccessLog>,
    /// Logs of connections.
    pub(crate) tcp_log: Vec<AccessLog>,
    /// The cluster for connections that no service claims; none where they cannot keep their destination.
    pub(crate) unclaimed: Option<String>,
    /// How requests are traced.
    pub(crate) tracing: Option<Traced>,
    /// What users add to the filters.
    pub(crate) extensions: &'a Extensions,
}

/// Listeners with the objects behind them, and the route configurations that they name.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) listeners: Vec<(Listener, Origins)>,
    /// By port, the names of route configurations: the port itself, or `HOST:PORT` for one service of it.
    pub(crate) routes: BTreeMap<u16, BTreeSet<String>>,
}

/// Where a service's connections on a port arrive.
struct Place {
    /// Address to listen on; empty for all.
    address: String,
    /// Its addresses if they are prefixes.
    prefixes: BTreeSet<IpNet>,
    /// Whether other services' connections arrive there too.
    shared: bool,
    /// Whether TLS is told apart by name.
    named: bool,
}

impl Sidecar<'_> {
    pub(crate) fn build(&self) -> Listeners {
        let mut entries: BTreeMap<Bind, Entry> = BTreeMap::new();
        let explicit = |egress: &&Egress| egress.listener.as_ref().is_some_and(|l| l.port.is_some());
        for egress in self.view.egress.iter().filter(explicit) {
            self.explicit(egress, &mut entries);
        }
        entries.values_mut().for_each(|entry| entry.closed = true);
        for egress in self.view.egress.iter().filter(|egress| !explicit(egress)) {
            self.all_services(egress, &mut entries);
        }
        let mut out = Listeners::default();
        for (bind, entry) in entries {
            let routes = out.routes.entry(bind.port).or_default();
            routes.extend(entry.routes().cloned());
            let unclaimed = self
                .unclaimed
                .as_ref()
                .filter(|_| !bind.to_port)
                .map(|cluster| self.opaque(&bind, vec![(cluster.clone(), 1)]));
            let listener = entry.listener(&bind, |content| self.filter(&bind, content), unclaimed);
            out.listeners
                .extend(listener.map(|listener| (listener, entry.origins)));
        }
        out.routes.retain(|_, names| !names.is_empty());
        out
    }

    /// A port that the Sidecar opens.
    fn explicit(&self, egress: &Egress, entries: &mut BTreeMap<Bind, Entry>) {
        let Some(settings) = &egress.listener else { return };
        let Some(declared) = &settings.port else { return };
        let Ok(port) = u16::try_from(declared.number) else {
            return;
        };
        let protocol = Protocol::parse(&declared.protocol);
        let own_socket = settings.capture_mode == CaptureMode::None;
        if protocol.is_http() || protocol == Protocol::Auto {
            let bind = self.bind(&settings.bind, port, own_socket);
            // Where there is no port, the routes have the socket's name (Istio).
            let routes = match port {
                0 => settings.bind.clone(),
                port => port.to_string(),
            };
            let chains = vec![Chain::http(routes, self.sniffs(&bind))];
            let entry = entries
                .entry(bind)
                .or_insert_with(|| Entry::new(Protocol::Http, chains));
            entry.origins.add(self.view.scope.sidecar.iter());
            return;
        }
        // A Unix socket has no port by which services could be told apart.
        let here = |service: &Service| !is_alias(service) && (port == 0 || service.port(port).is_some());
        for service in egress.services.iter().filter(|service| here(service)) {
            self.put(
                egress,
                service,
                (port, protocol),
                (&settings.bind, own_socket),
                entries,
            );
        }
    }

    /// A port for each port of each service.
    fn all_services(&self, egress: &Egress, entries: &mut BTreeMap<Bind, Entry>) {
        let settings = egress.listener.as_ref();
        let bind_to = settings.map(|l| l.bind.as_str()).unwrap_or_default();
        let own_socket = settings.is_some_and(|l| l.capture_mode == CaptureMode::None);
        for service in egress.services.iter().filter(|service| !is_alias(service)) {
            for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
                self.put(
                    egress,
                    service,
                    (port.number, port.protocol),
                    (bind_to, own_socket),
                    entries,
                );
            }
        }
    }

    /// Puts one port of a service where its connections arrive.
    fn put(
        &self,
        egress: &Egress,
        service: &Arc<Service>,
        (port, protocol): (u16, Protocol),
        (bind_to, own_socket): (&str, bool),
        entries: &mut BTreeMap<Bind, Entry>,
    ) {
        let pinned = !bind_to.is_empty() || own_socket || self.view.scope.interception == Interception::None;
        let places = match pinned || protocol.is_http() {
            true => vec![Place {
                address: bind_to.to_owned(),
                prefixes: BTreeSet::new(),
                shared: true,
                named: service.addresses.is_empty(),
            }],
            false => places(service, port, protocol, self.view.scope),
        };
        for place in places {
            let bind = self.bind(&place.address, port, own_socket);
            let mut origins = Origins::of(&service.origins);
            let chains = self.chains(egress, service, (port, protocol), (&place, &bind), &mut origins);
            let used = match entries.get_mut(&bind) {
                Some(entry) => entry.add(protocol, chains),
                None => {
                    // HTTP of a port whose connections keep their destination leaves others to go on.
                    let protocol = if protocol.is_http() && self.sniffs(&bind) {
                        Protocol::Auto
                    } else {
                        protocol
                    };
                    entries.insert(bind.clone(), Entry::new(protocol, chains));
                    true
                }
            };
            // HTTP services stand in the routes; any may be behind the listener.
            if let Some(entry) = entries.get_mut(&bind)
                && (used || protocol.is_http())
                && !entry.closed
            {
                entry.origins.add(&origins.into_vec());
            }
        }
    }

    /// Whether HTTP is recognised on an address, so that other bytes go on to where they wanted.
    fn sniffs(&self, bind: &Bind) -> bool {
        self.unclaimed.is_some() && !bind.to_port && is_any(&bind.address)
    }

    fn chains(
        &self,
        egress: &Egress,
        service: &Arc<Service>,
        (port, protocol): (u16, Protocol),
        (place, bind): (&Place, &Bind),
        origins: &mut Origins,
    ) -> Vec<Chain> {
        if protocol.is_http() {
            return vec![Chain::http(port.to_string(), self.sniffs(bind))];
        }
        let mut chains = if protocol.is_tls() {
            self.tls(egress, service, port, place, origins)
        } else {
            self.tcp(egress, service, port, place, origins)
        };
        if protocol == Protocol::Auto {
            // A service with an address of its own has routes of its own, which need no host.
            let routes = match place.shared {
                true => port.to_string(),
                false => format!("{}:{port}", service.host),
            };
            chains.push(Chain::http(routes, true));
        }
        chains
    }

    /// TLS connections, by name where the address does not tell.
    fn tls(
        &self,
        egress: &Egress,
        service: &Arc<Service>,
        port: u16,
        place: &Place,
        origins: &mut Origins,
    ) -> Vec<Chain> {
        let context = self.context(port);
        let all = egress.virtual_services.iter().map(|vs| &**vs);
        let routed = context
            .l4_services(service, all)
            .filter(|vs| !context.tls(vs).is_empty());
        let mut out = Vec::new();
        for vs in routed {
            origins.add(&vs.origins);
            for route in context.tls(vs) {
                let subnets: BTreeSet<IpNet> = route.subnets.iter().copied().collect();
                let prefixes = if subnets.is_empty() {
                    &place.prefixes
                } else {
                    &subnets
                };
                out.push(Chain::tcp(
                    route.hosts.into_iter().collect(),
                    prefixes,
                    route.clusters,
                ));
            }
        }
        if out.is_empty() {
            let names = match place.named {
                true => std::iter::once(&service.host)
                    .chain(&service.aliases)
                    .cloned()
                    .collect(),
                false => BTreeSet::new(),
            };
            out.push(Chain::tcp(names, &place.prefixes, own_cluster(service, port)));
        }
        out
    }

    /// Opaque connections.
    fn tcp(
        &self,
        egress: &Egress,
        service: &Arc<Service>,
        port: u16,
        place: &Place,
        origins: &mut Origins,
    ) -> Vec<Chain> {
        let context = self.context(port);
        let all = egress.virtual_services.iter().map(|vs| &**vs);
        let mut out = Vec::new();
        for vs in context.l4_services(service, all) {
            for route in context.tcp_routes(vs) {
                origins.add(&vs.origins);
                let subnets: BTreeSet<IpNet> = route.subnets.iter().copied().collect();
                let last = subnets.is_empty() || subnets == place.prefixes;
                let prefixes = if subnets.is_empty() {
                    &place.prefixes
                } else {
                    &subnets
                };
                out.push(Chain::tcp(BTreeSet::new(), prefixes, route.clusters));
                if last {
                    return out;
                }
            }
        }
        out.push(Chain::tcp(
            BTreeSet::new(),
            &place.prefixes,
            own_cluster(service, port),
        ));
        out
    }

    fn bind(&self, address: &str, port: u16, own_socket: bool) -> Bind {
        let none = self.view.scope.interception == Interception::None;
        let to_port = none || own_socket || address.starts_with("unix://");
        let families = self.view.scope.families;
        let address = match (address, to_port, self.view.scope.address) {
            ("", true, Some(own)) => own.to_string(),
            ("", true, None) => families.loopback().to_owned(),
            ("", false, _) => families.any().to_owned(),
            (given, _, _) => given.to_owned(),
        };
        Bind {
            beside: families.beside(&address).filter(|_| !to_port),
            address,
            port,
            to_port,
            exclusive: to_port,
        }
    }

    fn context(&self, port: u16) -> RouteContext<'_> {
        RouteContext {
            view: self.view,
            mesh: self.view.snapshot.mesh(),
            port,
            gateway: MESH_GATEWAY,
            tls: false,
        }
    }

    fn filter(&self, bind: &Bind, content: &Content) -> Filter {
        match content {
            Content::Http(routes) => self.http(bind, routes.clone()),
            Content::Tcp(clusters) => self.opaque(bind, clusters.clone()),
        }
    }

    fn http(&self, bind: &Bind, routes: String) -> Filter {
        Http {
            mesh: self.view.snapshot.mesh(),
            class: Class::SidecarOutbound,
            stat_prefix: format!("outbound_{}", bind.name()),
            routes: Routes::Named(routes),
            filters: self.extensions.weave(
                vec![
                    filter::grpc_web(),
                    alpn::filter(),
                    filter::fault(),
                    filter::cors(),
                ],
                Side::Client,
                bind.port,
            ),
            access_log: self.http_log.clone(),
            tracing: self.tracing.clone(),
            replies: Vec::new(),
            http3: false,
            http10: self.view.scope.http10,
            topology: Topology::default(),
            decides: false,
        }
        .build()
    }

    fn opaque(&self, bind: &Bind, clusters: Weighted) -> Filter {
        let prefix = match clusters.as_slice() {
            [(only, _)] => only.clone(),
            _ => format!("outbound_{}", bind.name()),
        };
        let policy = self.view.policy(&clusters);
        tcp::governed(&prefix, clusters, self.tcp_log.clone(), &policy)
    }
}

fn is_alias(service: &Service) -> bool {
    matches!(service.resolution, Resolution::Alias(_))
}

/// A service's own cluster; a service with one port is meant by a Unix socket, which has none.
fn own_cluster(service: &Service, port: u16) -> Weighted {
    let port = match service.ports.as_slice() {
        [only] => only.number,
        _ => port,
    };
    vec![(names::outbound_cluster(port, "", &service.host), 1)]
}

/// Where a service's redirected connections arrive: at its addresses, for a headless Service at its endpoints', and at any
/// address for one that has none. Addresses that were given to a ServiceEntry count where DNS answers with them. Of families
/// that the proxy has not, nothing arrives.
fn places(service: &Service, port: u16, protocol: Protocol, scope: &Outbound) -> Vec<Place> {
    let has = |address: &IpAddr| scope.families.has(*address);
    let own = |address: IpAddr| Place {
        address: address.to_string(),
        prefixes: BTreeSet::new(),
        shared: false,
        named: false,
    };
    let (mut out, mut prefixes) = (Vec::new(), BTreeSet::new());
    for text in service.addresses.iter().filter(|address| !is_any(address)) {
        match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
            (Ok(address), _) => out.extend(Some(address).filter(has).map(own)),
            (_, Ok(net)) if !has(&net.addr()) => {}
            (_, Ok(net)) if net.prefix_len() == net.max_prefix_len() => out.push(own(net.addr())),
            (_, Ok(net)) => drop(prefixes.insert(net)),
            _ => {}
        }
    }
    if scope.dns_capture && service.addresses.is_empty() {
        out.extend(service.auto_addresses.iter().copied().filter(has).map(own));
    }
    let any = |prefixes, shared| Place {
        address: String::new(),
        prefixes,
        shared,
        named: shared,
    };
    if !prefixes.is_empty() {
        out.push(any(prefixes, true));
    }
    let headless = service.resolution == Resolution::Passthrough && out.is_empty();
    if headless && (service.registry == Registry::Kubernetes || !service.endpoints.is_empty()) {
        let served = service
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.port(port).is_some());
        let addresses: BTreeSet<IpAddr> = served.filter_map(|endpoint| endpoint.address.ip()).collect();
        // Bytes: one listener for all endpoints. With HTTP to recognise each needs its own: Envoy looks at addresses first.
        return match protocol {
            Protocol::Auto => addresses.into_iter().map(own).collect(),
            _ if addresses.is_empty() => Vec::new(),
            _ => vec![any(addresses.into_iter().map(IpNet::from).collect(), false)],
        };
    }
    if out.is_empty() {
        out.push(any(BTreeSet::new(), true));
    }
    out
}
