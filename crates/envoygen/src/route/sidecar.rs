//! Virtual hosts of a sidecar's outbound routes: one for each service of the port, with the routes of the VirtualService that is
//! about it, and one for everything else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3::{self as pb, route::Action, route_action::ClusterSpecifier};
use model::{Protocol, Registry, Resolution, Service, VirtualService, host};

use super::{RouteContext, configuration};
use crate::alpn;
use crate::family::is_any;
use crate::names;
use crate::output::Origins;
use crate::view::Egress;

/// A port's virtual hosts for a sidecar, and the objects behind them.
pub(crate) struct Hosts<'a> {
    context: &'a RouteContext<'a>,
    pub(super) hosts: Vec<pb::VirtualHost>,
    pub(crate) origins: Origins,
}

impl<'a> Hosts<'a> {
    pub(crate) fn new(context: &'a RouteContext<'a>, egress: &'a [&'a Egress]) -> Hosts<'a> {
        let mut build = Build::new(context, egress);
        build.virtual_service_hosts(egress);
        build.services();
        let mut hosts = build.hosts;
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        Hosts {
            context,
            hosts,
            origins: build.origins,
        }
    }

    /// The route configuration of this name: the port's, or for `HOST:PORT` the service's, to which all requests belong
    /// whatever host they name.
    pub(crate) fn configuration(&self, name: &str) -> pb::RouteConfiguration {
        if name.contains(':') {
            let own = self.hosts.iter().find(|host| host.name == name).cloned();
            let own = own.map(|host| pb::VirtualHost {
                domains: vec!["*".to_owned()],
                ..host
            });
            return configuration(name, own.into_iter().collect());
        }
        let mut hosts = self.hosts.clone();
        hosts.push(catch_all(self.context));
        configuration(name, hosts)
    }
}

struct Build<'a> {
    context: &'a RouteContext<'a>,
    /// Services that have the port, by host.
    services: BTreeMap<&'a str, &'a Arc<Service>>,
    /// VirtualServices with routes for this client, and those routes.
    routed: Vec<(&'a Arc<VirtualService>, Vec<pb::Route>)>,
    /// The first of `routed` for each host without wildcard.
    by_host: HashMap<&'a str, usize>,
    /// Wildcard hosts with their place in `routed`, the most specific first.
    wildcards: Vec<(&'a str, usize)>,
    hosts: Vec<pb::VirtualHost>,
    /// Domains that are taken; Envoy refuses a domain that stands in two virtual hosts.
    taken: HashSet<String>,
    origins: Origins,
}

impl<'a> Build<'a> {
    fn new(context: &'a RouteContext<'a>, egress: &[&'a Egress]) -> Build<'a> {
        let on_port = |service: &Service| {
            service
                .port(context.port)
                .is_some_and(|p| routed_as_http(p.protocol))
        };
        let all = egress.iter().flat_map(|e| &e.services);
        let concrete = all.filter(|s| !matches!(s.resolution, Resolution::Alias(_)) && on_port(s));
        let mut seen = HashSet::new();
        let virtual_services = egress
            .iter()
            .flat_map(|e| &e.virtual_services)
            .filter(|vs| seen.insert(&vs.key));
        let routed: Vec<_> = virtual_services
            .map(|vs| (vs, context.routes(vs)))
            .filter(|(_, routes)| !routes.is_empty())
            .collect();
        let (mut by_host, mut wildcards) = (HashMap::new(), Vec::new());
        for (index, (vs, _)) in routed.iter().enumerate() {
            for host in &vs.spec.hosts {
                if host::is_wildcard(host) {
                    wildcards.push((host.as_str(), index));
                } else {
                    by_host.entry(host.as_str()).or_insert(index);
                }
            }
        }
        wildcards.sort_by(|a, b| host::by_specificity(a.0, b.0).then(a.1.cmp(&b.1)));
        Build {
            context,
            services: concrete.map(|service| (service.host.as_str(), service)).collect(),
            routed,
            by_host,
            wildcards,
            hosts: Vec::new(),
            taken: HashSet::new(),
            origins: Origins::default(),
        }
    }

    /// Hosts of VirtualServices that no service of the port has. They count on port 80 and on the ports of services that the same
    /// VirtualService is about (Istio, `BuildSidecarVirtualHostWrapper`), and on ports that a Sidecar opens if no service at
    /// all has them.
    fn virtual_service_hosts(&mut self, egress: &[&Egress]) {
        let opens = |egress: &&Egress| egress.listener.as_ref().is_some_and(|l| l.port.is_some());
        let opened = egress.iter().any(opens);
        // An alias has no virtual host of its own; a VirtualService gives it one.
        let all = egress
            .iter()
            .filter(|_| opened)
            .flat_map(|egress| &egress.services);
        let all = all.filter(|service| !matches!(service.resolution, Resolution::Alias(_)));
        let all: HashSet<&str> = all.map(|service| service.host.as_str()).collect();
        let here: HashSet<&str> = self.services.keys().copied().collect();
        for (vs, routes) in std::mem::take(&mut self.routed) {
            let (served, others): (Vec<_>, Vec<_>) =
                vs.spec.hosts.iter().partition(|host| covers(&here, host));
            let counts = self.context.port == 80 || !served.is_empty();
            for host in others {
                if counts || (opened && !covers(&all, host)) {
                    self.push(host, vec![host.clone()], routes.clone());
                    self.origins.add(&vs.origins);
                }
            }
            self.routed.push((vs, routes));
        }
    }

    fn services(&mut self) {
        for (host, service) in self.services.clone() {
            let routes = match self.best(host) {
                Some(index) => {
                    let chosen = self
                        .routed
                        .get(index)
                        .map(|(vs, routes)| (&vs.origins, routes.clone()));
                    let Some((origins, routes)) = chosen else { continue };
                    self.origins.add(origins);
                    self.hash_origins(&routes);
                    routes
                }
                None => vec![self.default_route(service)],
            };
            self.origins.add(&service.origins);
            let domains = self.domains(service);
            self.push(host, domains, routes);
        }
    }

    /// The VirtualService for a host: the one with the most specific matching host, the oldest of several.
    fn best(&self, host: &str) -> Option<usize> {
        let exact = self.by_host.get(host).copied();
        let wildcard = || {
            self.wildcards
                .iter()
                .find(|(pattern, _)| host::subset_of(host, pattern))
                .map(|(_, at)| *at)
        };
        exact.or_else(wildcard)
    }

    fn default_route(&mut self, service: &Service) -> pb::Route {
        let port = self.context.port;
        let mut route = self
            .context
            .default_route(names::outbound_cluster(port, "", &service.host));
        if let Some(announcement) = self.context.service_announcement(service, "", port) {
            let settings = &mut route.typed_per_filter_config;
            settings.insert(alpn::FILTER.to_owned(), announcement);
        }
        if let Some(hash) = self.context.service_hash(service, port)
            && let Some(Action::Route(action)) = &mut route.action
        {
            action.hash_policy.push(hash);
            self.origins.add(
                self.context
                    .view
                    .rule(service)
                    .iter()
                    .flat_map(|rule| &rule.origins),
            );
        }
        route
    }

    /// DestinationRules whose hashes went into routes.
    fn hash_origins(&mut self, routes: &[pb::Route]) {
        for route in routes {
            let Some(Action::Route(action)) = &route.action else {
                continue;
            };
            if action.hash_policy.is_empty() {
                continue;
            }
            let clusters: Vec<&str> = match &action.cluster_specifier {
                Some(ClusterSpecifier::Cluster(cluster)) => vec![cluster],
                Some(ClusterSpecifier::WeightedClusters(all)) => {
                    all.clusters.iter().map(|c| c.name.as_str()).collect()
                }
                _ => Vec::new(),
            };
            let hosts = clusters
                .into_iter()
                .filter_map(|cluster| cluster.split('|').nth(3));
            for service in hosts.filter_map(|host| self.context.view.service(host)) {
                self.origins.add(
                    self.context
                        .view
                        .rule(service)
                        .iter()
                        .flat_map(|rule| &rule.origins),
                );
            }
        }
    }

    /// All names by which clients call a service; short forms yield to services that really have that name.
    fn domains(&self, service: &Service) -> Vec<String> {
        let scope = self.context.view.scope;
        let mut domains = Vec::new();
        for host in std::iter::once(&service.host).chain(&service.aliases) {
            domains.push(host.clone());
            for alternative in names::alternatives(host, &scope.dns_domain) {
                if !self.services.contains_key(alternative.as_str()) {
                    domains.push(alternative);
                }
            }
        }
        let headless =
            service.resolution == Resolution::Passthrough && service.registry == Registry::Kubernetes;
        if headless {
            let wildcards: Vec<String> = domains.iter().map(|domain| format!("*.{domain}")).collect();
            domains.extend(wildcards);
        }
        let addresses = service
            .addresses
            .iter()
            .filter(|a| !a.contains('/') && !is_any(a));
        domains.extend(addresses.map(|address| names::bracketed(address)));
        if service.addresses.is_empty() && scope.dns_capture {
            let given = service.auto_addresses.iter();
            domains.extend(given.map(|ip| names::bracketed(&ip.to_string())));
        }
        domains
    }

    fn push(&mut self, host: &str, mut domains: Vec<String>, routes: Vec<pb::Route>) {
        domains.retain(|domain| domain != "*" && self.taken.insert(domain.to_ascii_lowercase()));
        if domains.is_empty() {
            return;
        }
        self.hosts.push(pb::VirtualHost {
            name: names::domain(host, self.context.port),
            domains,
            routes,
            include_request_attempt_count: true,
            ..Default::default()
        });
    }
}

/// Whether one of some services has a host, or one that a wildcard stands for.
fn covers(services: &HashSet<&str>, host: &str) -> bool {
    match host::is_wildcard(host) {
        true => services.iter().any(|service| host::subset_of(service, host)),
        false => services.contains(host),
    }
}

/// Whether a service's port is routed as HTTP on a listener for HTTP.
pub(super) fn routed_as_http(protocol: Protocol) -> bool {
    protocol.is_http() || protocol == Protocol::Auto
}

/// Everything else: let through (`allow_any`) where connections keep their original destination, else 502 (`block_all`).
pub(super) fn catch_all(context: &RouteContext<'_>) -> pb::VirtualHost {
    let redirected = context.view.scope.interception != crate::proxy::Interception::None;
    let mut settings = HashMap::new();
    let (name, action) = if redirected && context.view.allows_any() {
        let proxy = context.view.egress_proxy();
        let announcement = proxy.and_then(|to| context.announcement(to));
        settings.extend(announcement.map(|announcement| (alpn::FILTER.to_owned(), announcement)));
        let cluster = proxy.map(|to| context.cluster(to));
        let forward = pb::RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(
                cluster.unwrap_or_else(|| names::PASSTHROUGH_CLUSTER.to_owned()),
            )),
            ..super::timed_action(std::time::Duration::ZERO)
        };
        ("allow_any", Action::Route(forward))
    } else {
        (
            "block_all",
            Action::DirectResponse(pb::DirectResponseAction {
                status: 502,
                ..Default::default()
            }),
        )
    };
    let route = pb::Route {
        name: name.to_owned(),
        r#match: Some(super::matches::route_match(None)),
        action: Some(action),
        typed_per_filter_config: settings,
        ..Default::default()
    };
    pb::VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        include_request_attempt_count: true,
        ..Default::default()
    }
}
