//! What belongs to one inbound port: its cluster and its filter chains.

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Metadata;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain};
use envoy_types::pb::envoy::config::route::v3::{self as routes, route_action};
use model::PeerModes;
use policy::Requirements;

use crate::authz::Authz;
use crate::cluster::{self, Source};
use crate::extension::Extensions;
use crate::generator::Generator;
use crate::jwt::Tokens;
use crate::listener::http::{Class, Http, Routes};
use crate::listener::inbound::{Application, Port, chain, own_tls, variants};
use crate::listener::{tcp, tls};
use crate::mixer::{self, Mixers};
use crate::names;
use crate::route::retry;
use crate::scope::Inbound;
use crate::telemetry::metrics::{self, Peer};
use crate::telemetry::{Side, Telemetry};
use crate::topology::Topology;
use crate::wire::{duration, pipe_address, tcp_address};

/// Builds what belongs to a port.
pub(super) struct Build<'a> {
    pub(super) generator: &'a Generator,
    pub(super) scope: &'a Inbound,
    pub(super) modes: PeerModes,
    pub(super) authz: Authz,
    pub(super) tokens: Tokens,
    pub(super) mixers: Mixers,
    pub(super) telemetry: Telemetry<'a>,
    pub(super) extensions: Extensions,
}

impl Build<'_> {
    pub(super) fn cluster(&self, port: &Port) -> Cluster {
        let address = port.application.as_ref().map(|application| match application {
            Application::Tcp(address, port) => tcp_address(address, *port),
            Application::Unix(path) => pipe_address(path),
        });
        let unix = matches!(port.application, Some(Application::Unix(_)));
        let own = self.scope.address.filter(|_| !unix);
        let mesh = self.generator.snapshot.mesh();
        let source = own.map_or(Source::Mesh(self.scope.families), Source::Own);
        let mut cluster = cluster::inbound(port.number, address, port.protocol, &port.policy, source, mesh);
        if unix {
            cluster.upstream_bind_config = None;
        }
        cluster.metadata = self.services(port);
        cluster
    }

    /// The services that lead to a port, for telemetry.
    fn services(&self, port: &Port) -> Option<Metadata> {
        let snapshot = &self.generator.snapshot;
        let hosts = self
            .scope
            .ports
            .iter()
            .filter(|(_, _, target)| *target == port.number);
        let mut services: Vec<_> = hosts
            .filter_map(|(host, _, _)| snapshot.services().get(host, &self.scope.namespace))
            .collect();
        services.dedup_by(|b, a| a.host == b.host);
        (!services.is_empty()).then(|| cluster::described(services.iter().map(|service| &***service)))
    }

    /// The filter chains of a port; `shared` where a listener takes several ports.
    pub(super) fn chains(&self, port: &Port, shared: Option<u16>) -> Vec<FilterChain> {
        let mode = self.modes.of(port.number);
        let name = |http: bool| match (port.passes, http) {
            (true, true) => names::CATCH_ALL_HTTP.to_owned(),
            (true, false) => names::VIRTUAL_INBOUND.to_owned(),
            (false, _) => names::listener(&port.shown, port.number),
        };
        let stat = match port.passes {
            true => port.cluster.clone(),
            false => format!("inbound_{}", name(true)),
        };
        let socket = || tls::mutual(&self.generator.snapshot, self.generator.settings.secret_timeout);
        let variants = match &port.tls {
            Some(_) => vec![own_tls(port.protocol.is_http())],
            None => variants(port.protocol, mode),
        };
        variants
            .into_iter()
            .map(|variant| {
                let peer = if variant.mtls { Peer::Mutual } else { Peer::Plain };
                let filters = if variant.http {
                    self.http(port, &stat, peer)
                } else {
                    self.tcp(port, peer)
                };
                chain(
                    name(variant.http),
                    variant.condition(shared),
                    filters,
                    port.tls.clone().or_else(|| variant.mtls.then(socket)),
                )
            })
            .collect()
    }

    /// What the proxy says of finished requests by itself, where MeshConfig does not turn Mixer's reports off.
    fn ended(&self, asks: &Requirements) -> Vec<AccessLog> {
        match self.generator.snapshot.mesh().disable_mixer_http_reports {
            true => Vec::new(),
            false => mixer::ended(asks),
        }
    }

    fn http(&self, port: &Port, stat_prefix: &str, peer: Peer) -> Vec<Filter> {
        let asks = self.scope.asks.http_at(port.number);
        let peers = (peer == Peer::Mutual).then(metrics::peer_filters);
        let authz = &self.authz;
        let before = authz.lines.iter().chain(&authz.custom);
        let own = before.chain(&self.tokens.filter).chain(&authz.http);
        let mut filters: Vec<_> = peers.into_iter().flatten().chain(own.cloned()).collect();
        let mut limits = Vec::new();
        let refusals = &asks.refusals;
        let checks: &[_] = self.mixers.check.as_ref().map_or(&[], |_| &asks.checks);
        let mutations = &asks.mutations;
        let allow = self.scope.asks.enforcement.allows_errors();
        filters.extend(mixer::joined(asks, checks));
        filters.extend(mixer::refusals(refusals));
        filters.extend(mixer::capture(mutations));
        if let Some(mixer) = &self.mixers.check {
            filters.extend(mixer::checks(mixer, &asks.checks, allow));
        }
        filters.extend(mixer::buckets(&asks.buckets));
        if let Some(mixer) = &self.mixers.check {
            filters.extend(mixer::quotas(mixer, &asks.quotas, allow));
            limits = mixer::rate_limits(&asks.quotas);
        }
        let may_refuse = !(checks.is_empty() && asks.buckets.is_empty() && limits.is_empty());
        filters.extend(mixer::change(mutations, may_refuse));
        let mesh = self.generator.snapshot.mesh();
        let log = self.mixers.report.as_ref().zip(asks.report.as_ref());
        let log = log.map(|(mixer, report)| mixer::http_log(mixer, policy::LOG_INBOUND, report, mesh));
        let http = Http {
            mesh,
            class: Class::SidecarInbound,
            stat_prefix: stat_prefix.to_owned(),
            routes: Routes::Inline(Box::new(inbound_routes(port, limits))),
            replies: mixer::replies(refusals)
                .into_iter()
                .chain(mixer::used_up(&asks.buckets))
                .collect(),
            http3: false,
            http10: self.scope.http10,
            topology: Topology::default(),
            decides: self.authz.decides()
                || !refusals.is_empty()
                || !asks.buckets.is_empty()
                || (!asks.checks.is_empty() && self.mixers.check.is_some()),
            filters: self.extensions.weave(filters, Side::Server, port.number),
            access_log: self
                .telemetry
                .http_logs(Side::Server, peer, &mut Vec::new())
                .into_iter()
                .chain(log)
                .chain(self.ended(asks))
                .collect(),
            tracing: self
                .telemetry
                .tracing(Side::Server, &self.scope.traced_as, false, &mut Vec::new()),
        };
        vec![http.build()]
    }

    fn tcp(&self, port: &Port, peer: Peer) -> Vec<Filter> {
        let asks = self.scope.asks.tcp_at(port.number);
        let cluster = port.cluster.clone();
        let allow = self.scope.asks.enforcement.allows_errors();
        let mut filters = self.extensions.network(Side::Server, port.number);
        filters.extend(self.authz.tcp.iter().cloned());
        filters.extend(mixer::tcp_refusals(&asks.refusals));
        filters.extend(
            self.mixers
                .check
                .iter()
                .flat_map(|mixer| mixer::tcp_checks(mixer, &asks.checks, allow)),
        );
        let log = self.mixers.report.as_ref().zip(asks.report.as_ref());
        let mesh = self.generator.snapshot.mesh();
        let log = log.map(|(mixer, report)| mixer::tcp_log(mixer, policy::LOG_INBOUND, report, mesh));
        filters.push(tcp::proxy(
            &cluster.clone(),
            vec![(cluster, 1)],
            self.telemetry
                .tcp_logs(Side::Server, peer, &mut Vec::new())
                .into_iter()
                .chain(log)
                .collect(),
        ));
        filters
    }
}

/// Everything goes to the application, without a timeout of the proxy's own.
fn inbound_routes(port: &Port, rate_limits: Vec<routes::RateLimit>) -> routes::RouteConfiguration {
    let cluster = port.cluster.clone();
    // Ports that nobody declares have no number of their own in names.
    let number = if port.passes { 0 } else { port.number };
    let none = duration(std::time::Duration::ZERO);
    let action = routes::RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.clone())),
        timeout: none,
        rate_limits,
        // A gRPC stream may not be sent twice.
        retry_policy: (!port.protocol.is_http2()).then(retry::inbound),
        max_stream_duration: Some(route_action::MaxStreamDuration {
            max_stream_duration: none,
            grpc_timeout_header_max: none,
            ..Default::default()
        }),
        ..Default::default()
    };
    let route = routes::Route {
        name: "default".to_owned(),
        r#match: Some(routes::RouteMatch {
            path_specifier: Some(routes::route_match::PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(routes::route::Action::Route(action)),
        decorator: Some(routes::Decorator {
            operation: format!("inbound:{number}/*"),
            propagate: None,
        }),
        ..Default::default()
    };
    let host = routes::VirtualHost {
        name: format!("inbound|http|{number}"),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    routes::RouteConfiguration {
        name: cluster,
        virtual_hosts: vec![host],
        validate_clusters: crate::wire::bool_value(false),
        request_headers_to_remove: vec![metrics::PEER_HEADER.to_owned()],
        ..Default::default()
    }
}
