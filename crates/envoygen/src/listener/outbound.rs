//! A sidecar's listeners for what its application sends.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch, Listener};
use model::{MESH_GATEWAY, Port, Protocol, Resolution, Service};

use super::http::{Class, Http, Routes};
use super::{Bind, PLAIN_HTTP, listener, tcp};
use crate::filter;
use crate::l4::Weighted;
use crate::names;
use crate::output::Origins;
use crate::proxy::Interception;
use crate::route::RouteContext;
use crate::view::{Egress, View};

/// What stands on one address and port.
#[derive(Default)]
struct Entry {
    /// Whether requests are routed as HTTP.
    http: bool,
    /// Whether HTTP has to be told from other bytes first.
    detect: bool,
    /// Opaque connections, of the first service that claims them.
    tcp: Option<Weighted>,
    /// TLS connections by name.
    sni: Vec<(Vec<String>, Weighted)>,
    origins: Origins,
}

/// A sidecar's outbound listeners.
pub(crate) struct Sidecar<'a> {
    pub(crate) view: &'a View<'a>,
    /// Logs of requests.
    pub(crate) http_log: Vec<AccessLog>,
    /// Logs of connections.
    pub(crate) tcp_log: Vec<AccessLog>,
}

/// Listeners with the objects behind them, and the ports whose HTTP routes they need.
#[derive(Default)]
pub(crate) struct Listeners {
    pub(crate) listeners: Vec<(Listener, Origins)>,
    pub(crate) http_ports: Vec<u16>,
}

impl Sidecar<'_> {
    pub(crate) fn build(&self) -> Listeners {
        let mut entries: BTreeMap<Bind, Entry> = BTreeMap::new();
        let explicit = |egress: &&Egress| egress.listener.as_ref().is_some_and(|l| l.port.is_some());
        for egress in self.view.egress.iter().filter(explicit) {
            self.explicit(egress, &mut entries);
        }
        let opened: Vec<Bind> = entries.keys().cloned().collect();
        for egress in self.view.egress.iter().filter(|egress| !explicit(egress)) {
            self.all_services(egress, &opened, &mut entries);
        }
        let mut out = Listeners::default();
        for (bind, entry) in entries {
            if entry.http {
                out.http_ports.push(bind.port);
            }
            out.listeners.extend(self.listener(&bind, entry));
        }
        out.http_ports.sort_unstable();
        out.http_ports.dedup();
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
        let bind = self.bind(
            &settings.bind,
            port,
            settings.capture_mode == config::networking::CaptureMode::None,
        );
        let entry = entries.entry(bind).or_default();
        entry.origins.add(self.view.scope.sidecar.iter());
        if protocol.is_http() || protocol == Protocol::Auto {
            entry.http = true;
            return;
        }
        for service in egress
            .services
            .iter()
            .filter(|service| service.port(port).is_some())
        {
            self.add_opaque(entry, egress, service, port, protocol);
        }
    }

    /// A port for each port of each service.
    fn all_services(&self, egress: &Egress, opened: &[Bind], entries: &mut BTreeMap<Bind, Entry>) {
        let settings = egress.listener.as_ref();
        let bind_to = settings.map(|l| l.bind.as_str()).unwrap_or_default();
        let own_socket = settings.is_some_and(|l| l.capture_mode == config::networking::CaptureMode::None);
        for service in egress
            .services
            .iter()
            .filter(|s| !matches!(s.resolution, Resolution::Alias(_)))
        {
            for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
                let address = self.service_address(bind_to, service, port);
                let bind = self.bind(&address, port.number, own_socket);
                if opened.contains(&bind) {
                    continue;
                }
                let entry = entries.entry(bind).or_default();
                entry.origins.add(&service.origins);
                if port.protocol.is_http() {
                    entry.http = true;
                } else if port.protocol == Protocol::Auto {
                    entry.detect |= !entry.http;
                    entry.http = true;
                    self.add_opaque(entry, egress, service, port.number, port.protocol);
                } else {
                    self.add_opaque(entry, egress, service, port.number, port.protocol);
                }
            }
        }
    }

    /// Where a service's connections arrive: under interception opaque ones are told apart by the service's address.
    fn service_address(&self, bind: &str, service: &Service, port: &Port) -> String {
        if !bind.is_empty() || self.view.scope.interception == Interception::None || port.protocol.is_http() {
            return bind.to_owned();
        }
        let mut ips = service
            .addresses
            .iter()
            .filter(|a| a.parse::<std::net::IpAddr>().is_ok());
        ips.next().cloned().unwrap_or_default()
    }

    fn bind(&self, address: &str, port: u16, own_socket: bool) -> Bind {
        let none = self.view.scope.interception == Interception::None;
        let to_port = none || own_socket;
        let address = match (address, to_port) {
            ("", true) => self
                .view
                .scope
                .address
                .map_or_else(|| "127.0.0.1".to_owned(), |own| own.to_string()),
            ("", false) => "0.0.0.0".to_owned(),
            (given, _) => given.to_owned(),
        };
        Bind {
            address,
            port,
            to_port,
            exclusive: to_port,
        }
    }

    /// Connections to a service that are not HTTP; the first service of a port keeps it.
    fn add_opaque(
        &self,
        entry: &mut Entry,
        egress: &Egress,
        service: &Arc<Service>,
        port: u16,
        protocol: Protocol,
    ) {
        let context = self.context(port);
        let all = || egress.virtual_services.iter().map(|vs| &**vs);
        if protocol.is_tls() {
            if let Some(vs) = context.l4_service(service, all(), |vs| !context.tls(vs).is_empty()) {
                entry.origins.add(&vs.origins);
                entry.sni.extend(
                    context
                        .tls(vs)
                        .into_iter()
                        .map(|route| (route.hosts, route.clusters)),
                );
            } else if entry.tcp.is_some() || !entry.sni.is_empty() || service.addresses.is_empty() {
                let cluster = names::outbound_cluster(port, "", &service.host);
                entry.sni.push((vec![service.host.clone()], vec![(cluster, 1)]));
            }
            entry.origins.add(&service.origins);
            if !entry.sni.is_empty() {
                return;
            }
        }
        if entry.tcp.is_none() {
            let routed = context.l4_service(service, all(), |vs| context.tcp(vs).is_some());
            entry.origins.add(&service.origins);
            entry.origins.add(routed.iter().flat_map(|vs| &vs.origins));
            let clusters = routed.and_then(|vs| context.tcp(vs));
            let own = || vec![(names::outbound_cluster(port, "", &service.host), 1)];
            entry.tcp = Some(clusters.unwrap_or_else(own));
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

    fn listener(&self, bind: &Bind, entry: Entry) -> Option<(Listener, Origins)> {
        let mut chains = Vec::new();
        let mut default_chain = None;
        let mut taken = std::collections::HashSet::new();
        for (hosts, clusters) in entry.sni {
            let server_names: Vec<String> = hosts
                .into_iter()
                .filter(|host| taken.insert(host.clone()))
                .collect();
            if !server_names.is_empty() {
                let condition = FilterChainMatch {
                    server_names: sni(server_names),
                    ..Default::default()
                };
                chains.push(chain(Some(condition), self.opaque(bind, clusters)));
            }
        }
        if entry.http {
            let http = self.http(bind);
            if entry.detect {
                let protocols = PLAIN_HTTP.iter().map(|p| (*p).to_owned()).collect();
                let condition = FilterChainMatch {
                    application_protocols: protocols,
                    ..Default::default()
                };
                chains.push(chain(Some(condition), http));
                default_chain = entry.tcp.map(|clusters| chain(None, self.opaque(bind, clusters)));
            } else {
                chains.push(chain(None, http));
            }
        } else if let Some(clusters) = entry.tcp {
            chains.push(chain(None, self.opaque(bind, clusters)));
        }
        if chains.is_empty() {
            return None;
        }
        Some((
            listener(bind, TrafficDirection::Outbound, chains, default_chain),
            entry.origins,
        ))
    }

    fn http(&self, bind: &Bind) -> Filter {
        Http {
            mesh: self.view.snapshot.mesh(),
            class: Class::SidecarOutbound,
            stat_prefix: format!("outbound_{}", bind.name()),
            routes: Routes::Named(bind.port.to_string()),
            filters: vec![filter::grpc_web(), filter::fault(), filter::cors()],
            access_log: self.http_log.clone(),
            decides: false,
        }
        .build()
    }

    fn opaque(&self, bind: &Bind, clusters: Weighted) -> Filter {
        let prefix = match clusters.as_slice() {
            [(only, _)] => only.clone(),
            _ => format!("outbound_{}", bind.name()),
        };
        tcp::proxy(&prefix, clusters, self.tcp_log.clone())
    }
}

/// Server names as Envoy takes them: `*` alone matches no name, so it is left out.
fn sni(hosts: Vec<String>) -> Vec<String> {
    hosts.into_iter().filter(|host| host != "*").collect()
}

fn chain(condition: Option<FilterChainMatch>, filter: Filter) -> FilterChain {
    FilterChain {
        filter_chain_match: condition,
        filters: vec![filter],
        ..Default::default()
    }
}
