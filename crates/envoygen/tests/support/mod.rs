//! What the tests share: a mesh from YAML, a proxy's tables, and short descriptions of them.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod envoy;

use std::fmt::Write;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType,
};
use envoy_types::pb::envoy::config::core::v3::{Address, address, socket_address::PortSpecifier};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteConfiguration, route::Action, route_action::ClusterSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoygen::{Generator, Output, Proxy, Scope, Settings, type_url};
use model::Snapshot;
use prost::Message;

/// The sample mesh.
pub(crate) const SHOP: &str = include_str!("../data/shop.yaml");

/// One of each feature, for the sample mesh.
pub(crate) const FEATURES: &str = include_str!("../data/features.yaml");
/// Mixer's rules for the sample mesh: a check, a quota, a report.
pub(crate) const MIXER: &str = include_str!("../data/mixer.yaml");

/// A snapshot of YAML texts, which must be free of errors.
pub(crate) fn snapshot(texts: &[&str]) -> Arc<Snapshot> {
    let mut objects = Vec::new();
    for text in texts {
        let parsed = config::parse("test.yaml", text.as_bytes(), "default");
        let errors: Vec<_> = parsed
            .findings
            .iter()
            .filter(|f| f.is_error())
            .map(ToString::to_string)
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
        objects.extend(parsed.objects.into_iter().map(Arc::new));
    }
    Arc::new(Snapshot::build(objects))
}

/// A generator for YAML texts.
pub(crate) fn generator(texts: &[&str]) -> Generator {
    Generator::new(
        snapshot(texts),
        Settings {
            mixer_address: Some("127.0.0.1:15004".into()),
            ..Settings::default()
        },
    )
}

/// The tables of a proxy, given by its node id; no interception.
pub(crate) fn tables(generator: &Generator, node: &str) -> Output {
    generator.generate(&scope(generator, node))
}

/// The scope of a proxy without interception.
pub(crate) fn scope(generator: &Generator, node: &str) -> Scope {
    let mut proxy = Proxy::parse(node, None).unwrap();
    proxy.interception = Some(envoygen::Interception::None);
    Scope::of(&proxy, generator)
}

/// Decodes the resource of a name.
pub(crate) fn get<M: Message + Default>(output: &Output, type_url: &str, name: &str) -> M {
    let found = output
        .get(type_url, name)
        .unwrap_or_else(|| panic!("{name} is missing among {:#?}", names(output)));
    M::decode(found.bytes.clone()).unwrap()
}

pub(crate) fn cluster(output: &Output, name: &str) -> Cluster {
    get(output, type_url::CLUSTER, name)
}

pub(crate) fn listener(output: &Output, name: &str) -> Listener {
    get(output, type_url::LISTENER, name)
}

pub(crate) fn routes(output: &Output, name: &str) -> RouteConfiguration {
    get(output, type_url::ROUTES, name)
}

/// The routes of one virtual host.
pub(crate) fn host_routes(output: &Output, name: &str, host: &str) -> Vec<Route> {
    let all = routes(output, name);
    let found = all
        .virtual_hosts
        .iter()
        .find(|vh| vh.name == host || vh.domains.iter().any(|d| d == host));
    found
        .unwrap_or_else(|| panic!("{host} is missing in {:?}", all.virtual_hosts))
        .routes
        .clone()
}

/// Short names of all resources.
pub(crate) fn names(output: &Output) -> Vec<String> {
    let short = |url: &str| url.rsplit('.').next().unwrap().to_owned();
    output
        .resources
        .iter()
        .map(|r| format!("{} {}", short(r.type_url), r.name))
        .collect()
}

/// All resources in a few words each.
pub(crate) fn describe(output: &Output) -> String {
    let mut out = String::new();
    for resource in output.of_type(type_url::CLUSTER) {
        let cluster = Cluster::decode(resource.bytes.clone()).unwrap();
        let kind = match cluster.cluster_discovery_type {
            Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).unwrap().as_str_name(),
            Some(ClusterDiscoveryType::ClusterType(_)) => "DNS",
            None => "?",
        };
        let sockets: Vec<_> = cluster
            .transport_socket_matches
            .iter()
            .map(|m| m.name.as_str())
            .collect();
        writeln!(out, "cluster {} {kind} {}", cluster.name, sockets.join(",")).unwrap();
    }
    for resource in output.of_type(type_url::ENDPOINTS) {
        let set = ClusterLoadAssignment::decode(resource.bytes.clone()).unwrap();
        writeln!(
            out,
            "endpoints {} {}",
            set.cluster_name,
            addresses(&set).join(",")
        )
        .unwrap();
    }
    for resource in output.of_type(type_url::LISTENER) {
        let listener = Listener::decode(resource.bytes.clone()).unwrap();
        writeln!(
            out,
            "listener {} at {}",
            listener.name,
            show(listener.address.as_ref())
        )
        .unwrap();
        for chain in listener
            .filter_chains
            .iter()
            .chain(&listener.default_filter_chain)
        {
            let m = chain.filter_chain_match.clone().unwrap_or_default();
            let tls = if chain.transport_socket.is_some() {
                " ends TLS"
            } else {
                ""
            };
            let filters: Vec<_> = chain.filters.iter().map(show_filter).collect();
            writeln!(
                out,
                "  chain [{}{}{}]{tls}: {}",
                m.transport_protocol,
                if m.application_protocols.is_empty() {
                    ""
                } else {
                    " "
                },
                m.application_protocols.join(","),
                filters.join(", ")
            )
            .unwrap();
        }
    }
    for resource in output.of_type(type_url::ROUTES) {
        let routes = RouteConfiguration::decode(resource.bytes.clone()).unwrap();
        writeln!(out, "routes {}", routes.name).unwrap();
        for host in routes.virtual_hosts {
            writeln!(out, "  host {} {}", host.name, host.domains.join(" ")).unwrap();
            for route in host.routes {
                writeln!(out, "    {}", show_route(&route)).unwrap();
            }
        }
    }
    out
}

/// The addresses of an endpoint set.
pub(crate) fn addresses(set: &ClusterLoadAssignment) -> Vec<String> {
    let all = set.endpoints.iter().flat_map(|locality| &locality.lb_endpoints);
    all.map(|e| match &e.host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => show(endpoint.address.as_ref()),
        _ => "?".to_owned(),
    })
    .collect()
}

fn show(address: Option<&Address>) -> String {
    match address.and_then(|a| a.address.as_ref()) {
        Some(address::Address::SocketAddress(socket)) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
            _ => socket.address.clone(),
        },
        Some(address::Address::Pipe(pipe)) => pipe.path.clone(),
        _ => "?".to_owned(),
    }
}

/// The connection manager of a filter, if it is one.
pub(crate) fn manager(filter: &Filter) -> Option<HttpConnectionManager> {
    match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with(".HttpConnectionManager") => {
            Some(HttpConnectionManager::decode(any.value.as_slice()).unwrap())
        }
        _ => None,
    }
}

fn show_filter(filter: &Filter) -> String {
    let Some(manager) = manager(filter) else {
        return filter.name.rsplit('.').next().unwrap().to_owned();
    };
    let filters: Vec<_> = manager
        .http_filters
        .iter()
        .map(|f| f.name.rsplit('.').next().unwrap())
        .collect();
    let routes = match manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => rds.route_config_name,
        Some(RouteSpecifier::RouteConfig(routes)) => format!("inline {}", routes.name),
        _ => "?".to_owned(),
    };
    format!("http({}) -> {routes}", filters.join(" "))
}

fn show_route(route: &Route) -> String {
    let condition = route.r#match.clone().unwrap_or_default();
    let path = condition
        .path_specifier
        .map(|p| format!("{p:?}"))
        .unwrap_or_default();
    let headers: Vec<_> = condition.headers.iter().map(|h| h.name.as_str()).collect();
    let action = match &route.action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(ClusterSpecifier::Cluster(cluster)) => cluster.clone(),
            Some(ClusterSpecifier::WeightedClusters(all)) => {
                let show =
                    |c: &envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight| {
                        format!("{}={}", c.name, c.weight.map_or(0, |w| w.value))
                    };
                all.clusters.iter().map(show).collect::<Vec<_>>().join(" ")
            }
            _ => "?".to_owned(),
        },
        Some(Action::Redirect(_)) => "redirect".to_owned(),
        Some(Action::DirectResponse(response)) => format!("answer {}", response.status),
        _ => "?".to_owned(),
    };
    format!("{path} {} -> {action}", headers.join(",")).replace("  ", " ")
}
