//! What a proxy needs to reach others: the outbound part of its tables.

use config::Finding;
use config::networking::PatchContext;
use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use model::MESH_GATEWAY;
use prost::Message;

use crate::authz::{self, Authz};
use crate::cluster::{self, Clusters};
use crate::dns;
use crate::extension::Extensions;
use crate::gateway::Merged;
use crate::generator::Generator;
use crate::jwt::Tokens;
use crate::listener::outbound::Sidecar;
use crate::listener::{self, gateway::Gateways};
use crate::mixer::{self, Mixers, Sent};
use crate::names;
use crate::output::{Origins, Output, Resource, SetAside, type_url};
use crate::patch::{self, Place};
use crate::proxy::{Interception, ProxyKind};
use crate::route::{self, RouteContext};
use crate::scope::Outbound;
use crate::telemetry::metrics::Peer;
use crate::telemetry::{Side, Telemetry, Traced};
use crate::view::{Egress, View};
use crate::wire::{Canonical, encode};

pub(crate) fn generate(generator: &Generator, scope: &Outbound) -> Output {
    let (mut out, context) = match scope.kind {
        ProxyKind::Sidecar => (sidecar(generator, scope), PatchContext::SidecarOutbound),
        ProxyKind::Router => (router(generator, scope), PatchContext::Gateway),
    };
    let place = Place {
        context,
        gateway_ports: &scope.ports,
        inbound_ports: &[],
    };
    patch::apply(&generator.patches, &scope.patches, &place, &mut out);
    out.sorted()
}

fn sidecar(generator: &Generator, scope: &Outbound) -> Output {
    let snapshot = &generator.snapshot;
    let mut view = View::sidecar(snapshot, scope);
    let telemetry = Telemetry::new(generator, &scope.telemetries, &scope.namespace);
    let extensions = Extensions::new(snapshot, &scope.extensions, &scope.namespace);
    see(&mut view, &telemetry, &extensions);
    let mut out = Output::default();
    clusters(generator, &view, false, &mut out);
    let mixers = Mixers::new(generator, &scope.asks, false, scope.address);
    let logs = Logs::new(generator, scope, &telemetry, &mixers, &mut out);
    out.findings.extend(extensions.findings.iter().cloned());
    let listeners = Sidecar {
        view: &view,
        http_log: logs.http,
        tcp_log: logs.tcp.clone(),
        unclaimed: (scope.interception != Interception::None).then(|| unclaimed(&view)),
        tracing: logs.tracing,
        extensions: &extensions,
    }
    .build();
    for (listener, mut origins) in listeners.listeners {
        origins.add(telemetry.origins.iter().chain(&extensions.origins));
        let listener = listener::bounded(listener, snapshot.mesh());
        push(&mut out, type_url::LISTENER, &listener.name, &listener, origins);
    }
    for (port, names) in listeners.routes {
        let context = RouteContext {
            view: &view,
            mesh: snapshot.mesh(),
            port,
            gateway: MESH_GATEWAY,
            tls: false,
        };
        let (forwarding, egress): (Vec<&Egress>, Vec<&Egress>) = egress_of(&view, port)
            .into_iter()
            .partition(|egress| egress.forwards());
        for egress in forwarding {
            let Some(listener) = &egress.listener else {
                continue;
            };
            let (routes, mut origins) = route::forward::configure(&view, egress, listener);
            origins.add(scope.sidecar.iter());
            push(&mut out, type_url::ROUTES, &routes.name, &routes, origins);
        }
        if egress.is_empty() {
            continue;
        }
        let hosts = route::sidecar::Hosts::new(&context, &egress);
        for name in names {
            let routes = hosts.configuration(&name);
            let mut origins = hosts.origins.clone();
            origins.add(scope.sidecar.iter());
            push(&mut out, type_url::ROUTES, &routes.name, &routes, origins);
        }
    }
    if scope.interception != Interception::None {
        redirected(&view, logs.tcp, &mut out);
    }
    if scope.dns_capture {
        out.resources.push(dns::table(&view));
    }
    out
}

/// The cluster for redirected connections that no service claims.
fn unclaimed(view: &View<'_>) -> String {
    if !view.allows_any() {
        return names::BLACK_HOLE_CLUSTER.to_owned();
    }
    let asked = view.egress_proxy().map(|to| {
        let port = to.port.as_ref().and_then(|port| u16::try_from(port.number).ok());
        names::outbound_cluster(port.unwrap_or_default(), &to.subset, &to.host)
    });
    asked.unwrap_or_else(|| names::PASSTHROUGH_CLUSTER.to_owned())
}

/// What redirected connections to unknown addresses meet.
fn redirected(view: &View<'_>, log: Vec<AccessLog>, out: &mut Output) {
    let mesh = view.snapshot.mesh();
    let passthrough = cluster::passthrough(mesh);
    push(
        out,
        type_url::CLUSTER,
        &passthrough.name,
        &passthrough,
        Origins::default(),
    );
    let port = u16::try_from(mesh.proxy_listen_port).unwrap_or(15001);
    let cluster = unclaimed(view);
    let transparent = view.scope.interception == Interception::Tproxy;
    let listener = listener::redirected::outbound(port, view.scope.families, &cluster, log, transparent);
    push(
        out,
        type_url::LISTENER,
        &listener.name,
        &listener,
        Origins::of(view.scope.sidecar.iter()),
    );
}

/// Where requests and connections are logged, and how requests are traced.
struct Logs {
    http: Vec<AccessLog>,
    tcp: Vec<AccessLog>,
    tracing: Option<Traced>,
}

impl Logs {
    /// What the Telemetry API asks for, and logs to Mixer if it wants them; adds the Mixers' clusters.
    fn new(
        generator: &Generator,
        scope: &Outbound,
        telemetry: &Telemetry<'_>,
        mixers: &Mixers,
        out: &mut Output,
    ) -> Logs {
        let mesh = generator.snapshot.mesh();
        let router = scope.kind == ProxyKind::Router;
        let mut logs = Logs {
            http: telemetry.http_logs(Side::Client, Peer::Endpoint, &mut out.findings),
            tcp: telemetry.tcp_logs(Side::Client, Peer::Endpoint, &mut out.findings),
            tracing: telemetry.tracing(Side::Client, &scope.traced_as, router, &mut out.findings),
        };
        if let Some(mixer) = &mixers.report {
            let http = scope.asks.http.report.as_ref();
            logs.http
                .extend(http.map(|report| mixer::http_log(mixer, policy::LOG_OUTBOUND, report, mesh)));
            let tcp = scope.asks.tcp.report.as_ref();
            logs.tcp
                .extend(tcp.map(|report| mixer::tcp_log(mixer, policy::LOG_OUTBOUND, report, mesh)));
        }
        for cluster in &mixers.clusters {
            push(out, type_url::CLUSTER, &cluster.name, cluster, Origins::default());
        }
        out.findings.extend(mixers.findings.iter().cloned());
        logs
    }
}

/// Makes a client see the services that its telemetry goes to, its extensions come from and its policies ask, whatever its
/// Sidecar says.
fn see(view: &mut View<'_>, telemetry: &Telemetry<'_>, extensions: &Extensions) {
    let authorizers = authz::services(view.snapshot, &view.scope.namespace);
    for service in telemetry
        .services()
        .into_iter()
        .chain(extensions.services.iter().cloned())
        .chain(authorizers)
    {
        view.reachable.entry(service.host.clone()).or_insert(service);
    }
}

/// The egress listeners that share a port's routes: those that open it, else those for all services.
fn egress_of<'v>(view: &'v View<'_>, port: u16) -> Vec<&'v Egress> {
    let of = |egress: &Egress| {
        egress
            .listener
            .as_ref()
            .and_then(|l| l.port.as_ref())
            .map(|p| p.number)
    };
    let own: Vec<&Egress> = view
        .egress
        .iter()
        .filter(|e| of(e) == Some(u32::from(port)))
        .collect();
    if own.is_empty() {
        view.egress.iter().filter(|e| of(e).is_none()).collect()
    } else {
        own
    }
}

fn router(generator: &Generator, scope: &Outbound) -> Output {
    let snapshot = &generator.snapshot;
    let merged = Merged::new(snapshot, scope);
    let mut view = View::router(snapshot, scope, &merged.names);
    let telemetry = Telemetry::new(generator, &scope.telemetries, &scope.namespace);
    let extensions = Extensions::new(snapshot, &scope.extensions, &scope.namespace);
    see(&mut view, &telemetry, &extensions);
    let mut out = Output {
        findings: merged.findings.clone(),
        ..Output::default()
    };
    clusters(generator, &view, merged.forwards_unread(), &mut out);
    let authz = Authz::new(snapshot, &scope.namespace, &scope.labels);
    let tokens = Tokens::new(snapshot, &scope.namespace, &scope.labels);
    let sent = Sent::new(generator, &view);
    let mixers = Mixers::new(generator, &scope.asks, sent.checks(), scope.address);
    let logs = Logs::new(generator, scope, &telemetry, &mixers, &mut out);
    out.findings.extend(extensions.findings.iter().cloned());
    let gateways = Gateways {
        generator,
        view: &view,
        http_log: logs.http,
        tcp_log: logs.tcp,
        tracing: logs.tracing,
        extensions: &extensions,
        decides: authz.decides() || sent.checks_http(),
        mixer: mixers.check.as_deref().map(|cluster| (cluster, &sent)),
        http_filters: authz
            .lines
            .into_iter()
            .chain(authz.custom)
            .chain(tokens.filter)
            .chain(authz.http)
            .collect(),
        tcp_filters: authz.tcp,
    };
    let mut findings: Vec<Finding> = authz.findings.into_iter().chain(tokens.findings).collect();
    for built in gateways.build(&merged, &mut findings) {
        let mut origins = built.origins;
        origins.add(authz.origins.iter().chain(&tokens.origins));
        origins.add(telemetry.origins.iter().chain(&extensions.origins));
        if let Some(listener) = built.listener {
            let listener = listener::bounded(listener, snapshot.mesh());
            push(&mut out, type_url::LISTENER, &listener.name, &listener, origins);
        }
        out.set_aside
            .extend(built.aside.into_iter().map(|(chain, origin)| SetAside {
                listener: built.name.clone(),
                chain: chain.encode_to_vec().into(),
                origin,
            }));
    }
    out.findings.extend(findings);
    for bound in merged.bound.values() {
        let names: std::collections::BTreeSet<&String> = bound
            .servers
            .iter()
            .filter(|server| !server.clashes)
            .filter_map(|server| server.route_name.as_ref())
            .collect();
        for name in names {
            let servers: Vec<_> = bound
                .servers
                .iter()
                .filter(|s| s.route_name.as_ref() == Some(name))
                .collect();
            let (mut routes, origins) = route::gateway::route_configuration(&view, name, &servers);
            sent.steer(&mut routes);
            push(&mut out, type_url::ROUTES, &routes.name, &routes, origins);
        }
    }
    out
}

/// The clusters of all that a client reaches; with `unread` also those by which a gateway forwards TLS unread.
fn clusters(generator: &Generator, view: &View<'_>, unread: bool, out: &mut Output) {
    let clusters = Clusters { generator, view };
    let all = view
        .reachable
        .values()
        .flat_map(|service| clusters.of_service(service));
    let all = all.flat_map(|built| {
        let twin = if unread { cluster::unread(&built) } else { None };
        std::iter::once(built).chain(twin)
    });
    for built in all {
        push(
            out,
            type_url::CLUSTER,
            &built.cluster.name,
            &built.cluster,
            built.origins,
        );
        if let Some((endpoints, origins)) = built.endpoints {
            push(
                out,
                type_url::ENDPOINTS,
                &endpoints.cluster_name,
                &endpoints,
                origins,
            );
        }
    }
    let black_hole = cluster::black_hole(generator.snapshot.mesh());
    push(
        out,
        type_url::CLUSTER,
        &black_hole.name,
        &black_hole,
        Origins::default(),
    );
}

/// Adds an encoded resource.
pub(crate) fn push<M: prost::Message + Canonical>(
    out: &mut Output,
    type_url: &'static str,
    name: &str,
    message: &M,
    origins: Origins,
) {
    out.resources.push(Resource {
        type_url,
        name: name.to_owned(),
        bytes: encode(message),
        origins: origins.into_vec(),
    });
}
