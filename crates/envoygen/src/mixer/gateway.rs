//! What gateways ask Mixer about the requests and connections that they send (`policy`, [`policy::Rules::checks_to`]): the same
//! filters stand in front of all routes, and each route says for which service they ask, by its own clusters and not by what the
//! client writes, or that they do not.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteConfiguration, route::Action, route_action::ClusterSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{
    CheckSettings, ExtAuthzPerRoute, ext_authz_per_route::Override,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::google::protobuf::Any;
use policy::{Check, GatewayView, Matcher, SENT, Sent as Said, ServiceView, Target, all_headers};

use super::{Enforcement, check};
use crate::generator::Generator;
use crate::view::{View, destinations};
use crate::wire::plain_any;

/// What is asked about one service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    namespace: String,
    host: String,
    http: Vec<Check>,
    tcp: Vec<Check>,
}

/// What a gateway asks, by the service's host in its clusters' names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    services: BTreeMap<String, Asked>,
    /// Whether all pass where Mixer cannot be asked.
    allow: bool,
}

impl Sent {
    /// What is asked about the services that a gateway's routes lead to; nothing where policies are disabled.
    pub(crate) fn new(generator: &Generator, view: &View<'_>) -> Sent {
        let mut services = BTreeMap::new();
        let enforcement = view.scope.asks.enforcement;
        if enforcement == Enforcement::Off {
            return Sent::default();
        }
        let gateway = GatewayView {
            namespace: &view.scope.namespace,
            labels: &view.scope.labels,
        };
        let all = view.egress.iter().flat_map(|egress| &egress.virtual_services);
        for service in all
            .flat_map(|vs| destinations(vs))
            .filter_map(|to| view.service(&to.host))
        {
            if services.contains_key(&service.host) {
                continue;
            }
            let called = ServiceView::called(service);
            let target = Target {
                service: &called,
                guarded: service.is_guarded(),
            };
            let asked = Asked {
                http: generator.rules.checks_to(gateway, target, false),
                tcp: generator.rules.checks_to(gateway, target, true),
                namespace: called.namespace,
                host: called.host,
            };
            services.insert(service.host.clone(), asked);
        }
        services.retain(|_, asked| !(asked.http.is_empty() && asked.tcp.is_empty()));
        Sent {
            services,
            allow: enforcement.allows_errors(),
        }
    }

    /// Whether anything is asked.
    pub(crate) fn checks(&self) -> bool {
        !self.services.is_empty()
    }

    /// Whether anything is asked about requests.
    pub(crate) fn checks_http(&self) -> bool {
        self.services.values().any(|asked| !asked.http.is_empty())
    }

    /// The HTTP filters that ask: one for each failure mode, with the headers that any of its rules reads.
    pub(crate) fn http_filters(&self, cluster: &str) -> Vec<HttpFilter> {
        let filter = |fail_open: bool| {
            let mut own = self.http(fail_open).peekable();
            own.peek()?;
            let own: Vec<&Check> = own.collect();
            Some(Check {
                fail_open,
                headers: all_headers(own.iter().copied()),
                claims: own.iter().any(|check| check.claims),
                // Each route names its own.
                rules: Vec::new(),
                selective: false,
                removes: own.iter().flat_map(|check| check.removes.clone()).collect(),
                when: Matcher::Always,
            })
        };
        let checks: Vec<Check> = MODES.into_iter().filter_map(filter).collect();
        check::http_filters(cluster, &checks, self.allow)
    }

    fn http(&self, fail_open: bool) -> impl Iterator<Item = &Check> {
        let all = self.services.values().flat_map(|asked| &asked.http);
        all.filter(move |check| check.fail_open == fail_open)
    }

    /// Tells each route what it asks.
    pub(crate) fn steer(&self, routes: &mut RouteConfiguration) {
        if !self.checks_http() {
            return;
        }
        let hosts = routes.virtual_hosts.iter_mut();
        hosts
            .flat_map(|host| &mut host.routes)
            .for_each(|route| self.steer_route(route));
    }

    fn steer_route(&self, route: &mut Route) {
        let cluster = match &mut route.action {
            Some(Action::Route(action)) => action.cluster_specifier.as_mut(),
            _ => None,
        };
        match cluster {
            Some(ClusterSpecifier::WeightedClusters(all)) => {
                for one in &mut all.clusters {
                    self.settings(&one.name, &mut one.typed_per_filter_config);
                }
            }
            Some(ClusterSpecifier::Cluster(name)) => {
                let name = std::mem::take(name);
                self.settings(&name, &mut route.typed_per_filter_config);
                if let Some(Action::Route(action)) = &mut route.action {
                    action.cluster_specifier = Some(ClusterSpecifier::Cluster(name));
                }
            }
            // Redirects and answers of its own reach no service.
            _ => self.settings("", &mut route.typed_per_filter_config),
        }
    }

    /// What the filters do about requests to a cluster.
    fn settings(&self, cluster: &str, own: &mut HashMap<String, Any>) {
        for fail_open in MODES {
            if self.http(fail_open).next().is_none() {
                continue;
            }
            let asked = self.of_cluster(cluster);
            let found = asked.and_then(|asked| {
                let check = asked.http.iter().find(|check| check.fail_open == fail_open)?;
                Some(asked.about(check))
            });
            let settings = match found {
                None => Override::Disabled(true),
                // One entry alone, so that its bytes are always the same.
                Some(said) => Override::CheckSettings(CheckSettings {
                    context_extensions: [(SENT.to_owned(), said)].into(),
                    ..Default::default()
                }),
            };
            let settings = ExtAuthzPerRoute {
                r#override: Some(settings),
            };
            own.insert(check::http_name(fail_open), plain_any(&settings));
        }
    }

    /// The network filters that ask about connections to some clusters.
    pub(crate) fn tcp_filters(&self, mixer: &str, clusters: &[(String, u32)]) -> Vec<Filter> {
        let mut asked: Vec<&Asked> = clusters
            .iter()
            .filter_map(|(cluster, _)| self.of_cluster(cluster))
            .collect();
        asked.dedup();
        let filters = asked.into_iter().flat_map(|asked| {
            let checks = asked.tcp.iter();
            checks.map(|check| check::network_to(mixer, check, &asked.about(check), self.allow))
        });
        filters.collect()
    }

    fn of_cluster(&self, cluster: &str) -> Option<&Asked> {
        let mut parts = cluster.split('|');
        let outbound = parts.next()? == "outbound";
        self.services.get(parts.nth(2).filter(|_| outbound)?)
    }
}

impl Asked {
    /// What Mixer is told of a check.
    fn about(&self, check: &Check) -> String {
        let said = Said {
            namespace: &self.namespace,
            host: &self.host,
            rules: check.rules.iter().map(String::as_str).collect(),
        };
        said.to_string()
    }
}

/// Whether it fails open, of both filters in their order.
const MODES: [bool; 2] = [false, true];
