//! HTTP routes from VirtualServices: the same for sidecars and gateways. Which virtual hosts they stand in is the business of
//! [`sidecar`] and [`gateway`].

mod action;
mod claims;
mod filters;
pub(crate) mod forward;
pub(crate) mod gateway;
mod headers;
mod matches;
pub(crate) mod retry;
pub(crate) mod sidecar;

use std::collections::BTreeMap;

use config::mesh::MeshConfig;
use config::networking::{HttpMatchRequest, HttpRoute, StringMatch};
use envoy_types::pb::envoy::config::route::v3::{self as pb, route_match::PathSpecifier};
use model::VirtualService;

use crate::telemetry::metrics;
use crate::view::View;
use crate::wire::{bool_value, duration};

/// The route of a host that no VirtualService is about.
const DEFAULT_ROUTE: &str = "default";

/// Where routes are built for.
pub(crate) struct RouteContext<'a> {
    pub(crate) view: &'a View<'a>,
    pub(crate) mesh: &'a MeshConfig,
    /// Port of the listener, for `match.port` and destinations without a port.
    pub(crate) port: u16,
    /// `mesh`, or the gateway's `namespace/name`.
    pub(crate) gateway: &'a str,
    /// Whether clients speak TLS to the listener.
    pub(crate) tls: bool,
}

impl RouteContext<'_> {
    /// The routes of a VirtualService that apply here, in order, up to the first that takes everything.
    pub(crate) fn routes(&self, vs: &VirtualService) -> Vec<pb::Route> {
        let mut out = Vec::new();
        for http in &vs.spec.http {
            if http.r#match.is_empty() {
                out.push(self.route(vs, http, None));
                return out;
            }
            for condition in &http.r#match {
                if !self.applies(condition) {
                    continue;
                }
                let route = self.route(vs, http, Some(condition));
                let catches_all = is_catch_all(&route);
                out.push(route);
                if catches_all {
                    return out;
                }
            }
        }
        out
    }

    /// Whether the parts of a condition that are known beforehand hold: port, gateway, the client's labels and namespace.
    fn applies(&self, condition: &HttpMatchRequest) -> bool {
        if condition.port != 0 && condition.port != u32::from(self.port) {
            return false;
        }
        if !condition.gateways.is_empty() {
            return condition.gateways.iter().any(|gateway| gateway == self.gateway);
        }
        let scope = self.view.scope;
        model::selects(&condition.source_labels, &scope.labels)
            && (condition.source_namespace.is_empty() || condition.source_namespace == scope.namespace)
    }

    fn route(
        &self,
        vs: &VirtualService,
        http: &HttpRoute,
        condition: Option<&HttpMatchRequest>,
    ) -> pb::Route {
        let mut route = pb::Route {
            name: route_name(http, condition),
            r#match: Some(matches::route_match(condition)),
            stat_prefix: condition.map(|c| c.stat_prefix.clone()).unwrap_or_default(),
            typed_per_filter_config: filters::per_route(http),
            ..Default::default()
        };
        let authority = headers::apply(&mut route, http.headers.as_ref());
        self.set_action(&mut route, http, authority);
        route.decorator = Some(pb::Decorator {
            operation: self.operation(&route, &vs.key.name),
            propagate: None,
        });
        route
    }

    /// The route of a service without VirtualService.
    pub(crate) fn default_route(&self, cluster: String) -> pb::Route {
        let retries = self.mesh.default_http_retry_policy.as_ref();
        let action = pb::RouteAction {
            cluster_specifier: Some(pb::route_action::ClusterSpecifier::Cluster(cluster)),
            retry_policy: retry::policy(retries, false),
            ..timed_action(std::time::Duration::ZERO)
        };
        let mut route = pb::Route {
            name: DEFAULT_ROUTE.to_owned(),
            r#match: Some(matches::route_match(None)),
            action: Some(pb::route::Action::Route(action)),
            ..Default::default()
        };
        route.decorator = Some(pb::Decorator {
            operation: self.operation(&route, ""),
            propagate: None,
        });
        route
    }

    /// What a trace calls the route: `HOST:PORT/PATH` of its only destination, else the VirtualService's name.
    fn operation(&self, route: &pb::Route, vs: &str) -> String {
        let path = match route.r#match.as_ref().and_then(|m| m.path_specifier.as_ref()) {
            Some(PathSpecifier::Prefix(prefix)) => format!("{prefix}*"),
            Some(PathSpecifier::Path(path)) => path.clone(),
            Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
            _ => "/*".to_owned(),
        };
        let cluster = match &route.action {
            Some(pb::route::Action::Route(action)) => match &action.cluster_specifier {
                Some(pb::route_action::ClusterSpecifier::Cluster(cluster)) => cluster.as_str(),
                _ => "",
            },
            _ => "",
        };
        let parts: Vec<&str> = cluster.split('|').collect();
        match parts.as_slice() {
            ["outbound", port, _, host] => format!("{host}:{port}{path}"),
            _ => format!("{vs}:{}{path}", self.port),
        }
    }
}

/// An action that ends requests after `longest` (never if that is zero); gRPC clients may ask for less.
#[allow(
    deprecated,
    reason = "with `max_stream_duration`, its successor, Envoy no longer looks at `timeout`"
)]
pub(crate) fn timed_action(longest: std::time::Duration) -> pb::RouteAction {
    pb::RouteAction {
        timeout: duration(longest),
        max_grpc_timeout: duration(longest),
        ..Default::default()
    }
}

fn route_name(http: &HttpRoute, condition: Option<&HttpMatchRequest>) -> String {
    match condition.map(|c| c.name.as_str()).unwrap_or_default() {
        "" => http.name.clone(),
        name => format!("{}.{name}", http.name),
    }
}

/// Whether no request passes a route by.
pub(crate) fn is_catch_all(route: &pb::Route) -> bool {
    let Some(condition) = &route.r#match else {
        return true;
    };
    let any_path = match &condition.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    any_path
        && condition.headers.is_empty()
        && condition.query_parameters.is_empty()
        && condition.dynamic_metadata.is_empty()
}

/// A route configuration with Istio's settings for all of them.
pub(crate) fn configuration(name: &str, virtual_hosts: Vec<pb::VirtualHost>) -> pb::RouteConfiguration {
    pb::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts,
        validate_clusters: bool_value(false),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: crate::wire::u32_value(1024 * 1024),
        // Nobody but this proxy says which workload sends.
        request_headers_to_remove: vec![metrics::PEER_HEADER.to_owned()],
        request_headers_to_add: vec![metrics::peer_header()],
        ..Default::default()
    }
}

/// Conditions on several names, in a stable order.
fn sorted(map: &BTreeMap<String, StringMatch>) -> impl Iterator<Item = (&str, &StringMatch)> {
    map.iter().map(|(name, value)| (name.as_str(), value))
}
