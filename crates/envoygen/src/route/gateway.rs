//! Virtual hosts of a gateway's routes: the hosts that a server and a VirtualService have in common, with the VirtualServices'
//! routes merged.

use std::collections::{BTreeMap, HashMap, HashSet};

use config::ObjectKey;
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::config::route::v3::{self as pb, virtual_host::TlsRequirementType};
use model::{VirtualService, host};

use super::{RouteContext, configuration, is_catch_all};
use crate::gateway::GatewayServer;
use crate::names;
use crate::output::Origins;
use crate::view::View;

/// A virtual host while VirtualServices are merged into it.
#[derive(Default)]
struct Host {
    port: u16,
    routes: Vec<pb::Route>,
    /// Where the routes come from: gateway and VirtualService, in order.
    sources: Vec<(String, ObjectKey)>,
    redirects: bool,
}

/// The route configuration that some servers share, and the objects behind it.
pub(crate) fn route_configuration(
    view: &View<'_>,
    name: &str,
    servers: &[&GatewayServer],
) -> (pb::RouteConfiguration, Origins) {
    let mut origins = Origins::default();
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    let mut merged: HashSet<(ObjectKey, String)> = HashSet::new();
    for server in servers {
        origins.add([&server.gateway]);
        let all = view.egress.iter().flat_map(|egress| &egress.virtual_services);
        for vs in all.filter(|vs| vs.is_for(&server.gateway_name)) {
            let common = common_hosts(server, vs);
            if common.is_empty() {
                continue;
            }
            let routes = context(view, server).routes(vs);
            origins.add(&vs.origins);
            for common in common {
                if routes.is_empty() || !merged.insert((vs.key.clone(), common.clone())) {
                    continue;
                }
                let slot = hosts.entry(common).or_insert_with(|| Host {
                    port: server.port,
                    ..Host::default()
                });
                slot.routes.extend(routes.iter().cloned());
                slot.sources.push((server.gateway_name.clone(), vs.key.clone()));
                slot.redirects |= server.https_redirect();
            }
        }
        if server.https_redirect() {
            for (_, host) in &server.hosts {
                let slot = hosts.entry(host.clone()).or_insert_with(|| Host {
                    port: server.port,
                    ..Host::default()
                });
                slot.redirects = true;
            }
        }
    }
    let mut virtual_hosts = collapse(hosts);
    if virtual_hosts.is_empty() {
        let port = servers.first().map_or(0, |server| server.port);
        virtual_hosts.push(pb::VirtualHost {
            name: names::domain("blackhole", port),
            domains: vec!["*".to_owned()],
            ..Default::default()
        });
    }
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let mut routes = configuration(name, virtual_hosts);
    if let Some(server) = servers.iter().find(|server| server.http3 && !server.clashes) {
        routes.response_headers_to_add.push(alt_svc(server.port));
    }
    (routes, origins)
}

/// Tells clients that the host is served by HTTP/3 too, on the port of the same number, for a day (RFC 7838; Istio).
fn alt_svc(port: u16) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: "alt-svc".to_owned(),
            value: format!("h3=\":{port}\"; ma=86400"),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..Default::default()
    }
}

/// Virtual hosts; hosts whose routes come from the same VirtualServices share one, named after the most specific (Istio), so
/// that their routes are not sent several times.
fn collapse(hosts: BTreeMap<String, Host>) -> Vec<pb::VirtualHost> {
    let mut sorted: Vec<(String, Host)> = hosts.into_iter().collect();
    sorted.sort_by(|a, b| host::by_specificity(&a.0, &b.0));
    let mut known: HashMap<(Vec<(String, ObjectKey)>, bool), usize> = HashMap::new();
    let mut out: Vec<pb::VirtualHost> = Vec::new();
    for (host, slot) in sorted {
        let key = (slot.sources.clone(), slot.redirects);
        let shared = known.get(&key).and_then(|at| out.get_mut(*at));
        match shared {
            Some(shared) => shared.domains.push(host),
            None => {
                known.insert(key, out.len());
                out.push(virtual_host(&host, slot));
            }
        }
    }
    out
}

fn context<'a>(view: &'a View<'a>, server: &'a GatewayServer) -> RouteContext<'a> {
    RouteContext {
        view,
        mesh: view.snapshot.mesh(),
        port: server.port,
        gateway: &server.gateway_name,
        tls: server.tls().is_some(),
    }
}

/// The hosts for which a server lets a VirtualService route.
pub(crate) fn common_hosts(server: &GatewayServer, vs: &VirtualService) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (namespace, allowed) in &server.hosts {
        if namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != vs.key.namespace)
        {
            continue;
        }
        let common = vs
            .spec
            .hosts
            .iter()
            .filter_map(|host| host::intersect(allowed, host));
        for host in common.map(str::to_owned) {
            if !out.contains(&host) {
                out.push(host);
            }
        }
    }
    out
}

/// Routes that take everything go last, so that merged VirtualServices do not hide each other.
fn virtual_host(host: &str, slot: Host) -> pb::VirtualHost {
    let (last, mut routes): (Vec<_>, Vec<_>) = slot.routes.into_iter().partition(is_catch_all);
    routes.extend(last);
    let tls = if slot.redirects {
        TlsRequirementType::All
    } else {
        TlsRequirementType::None
    };
    pb::VirtualHost {
        name: names::domain(host, slot.port),
        domains: vec![host.to_owned()],
        routes,
        include_request_attempt_count: true,
        require_tls: tls as i32,
        ..Default::default()
    }
}
