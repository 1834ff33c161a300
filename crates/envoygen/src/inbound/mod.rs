//! What a sidecar needs to be reached: the inbound part of its tables.

mod build;
mod ports;

use config::networking::PatchContext;
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{FilterChain, Listener};
use model::Protocol;

use self::build::Build;
use crate::authz::Authz;
use crate::cluster::{self, Effective};
use crate::extension::Extensions;
use crate::generator::Generator;
use crate::jwt::Tokens;
use crate::listener::inbound::Port;
use crate::listener::{Bind, bounded, listener, redirected};
use crate::mixer::Mixers;
use crate::names;
use crate::outbound::push;
use crate::output::{Origins, Output, type_url};
use crate::patch::{self, Place};
use crate::proxy::Interception;
use crate::scope::Inbound;
use crate::telemetry::{Side, Telemetry};

pub(crate) fn generate(generator: &Generator, scope: &Inbound) -> Output {
    let snapshot = &generator.snapshot;
    let sidecar = scope.sidecar.as_ref().and_then(|key| snapshot.sidecar(key));
    let mut out = Output::default();
    let ports = ports::ports(generator, scope, sidecar, &mut out.findings);
    let build = Build {
        generator,
        scope,
        modes: snapshot.policies().peer_modes(&scope.namespace, &scope.labels),
        authz: Authz::new(snapshot, &scope.namespace, &scope.labels),
        tokens: Tokens::new(snapshot, &scope.namespace, &scope.labels),
        mixers: Mixers::new(generator, &scope.asks, scope.asks.checks(), scope.address),
        telemetry: Telemetry::new(generator, &scope.telemetries, &scope.namespace),
        extensions: Extensions::new(snapshot, &scope.extensions, &scope.namespace),
    };
    let found = build
        .authz
        .findings
        .iter()
        .chain(&build.tokens.findings)
        .chain(&build.mixers.findings);
    out.findings.extend(found.cloned());
    for cluster in &build.mixers.clusters {
        push(
            &mut out,
            type_url::CLUSTER,
            &cluster.name,
            cluster,
            Origins::default(),
        );
    }
    for port in &ports {
        let cluster = build.cluster(port);
        let mut origins = Origins::of(scope.sidecar.iter());
        origins.add(&port.origins);
        push(&mut out, type_url::CLUSTER, &cluster.name, &cluster, origins);
    }
    // What is wrong with telemetry is said once; the filters of each port would say it again.
    for tcp in [false, true] {
        build.telemetry.check(Side::Server, tcp, &mut out.findings);
    }
    listeners(&build, &ports, &mut out);
    let place = Place {
        context: PatchContext::SidecarInbound,
        gateway_ports: &[],
        inbound_ports: &scope.ports,
    };
    patch::apply(&generator.patches, &scope.patches, &place, &mut out);
    out
}

fn listeners(build: &Build<'_>, ports: &[Port], out: &mut Output) {
    let scope = build.scope;
    let mut origins = Origins::of(scope.sidecar.iter());
    origins.add(&build.modes.origins);
    origins.add(build.authz.origins.iter().chain(&build.tokens.origins));
    origins.add(build.telemetry.origins.iter().chain(&build.extensions.origins));
    for port in ports {
        let Some(address) = port.bind.clone() else {
            continue;
        };
        let bind = Bind {
            beside: None,
            address,
            port: port.number,
            to_port: true,
            exclusive: true,
        };
        let chains = build.chains(port, None);
        let listener = listener(&bind, TrafficDirection::Inbound, chains, None);
        let listener = bounded(listener, build.generator.snapshot.mesh());
        push(
            out,
            type_url::LISTENER,
            &listener.name,
            &listener,
            origins.clone(),
        );
    }
    if scope.interception != Interception::None {
        let cluster = cluster::inbound_passthrough(scope.families, build.generator.snapshot.mesh());
        push(
            out,
            type_url::CLUSTER,
            &cluster.name,
            &cluster,
            Origins::default(),
        );
        let black_hole = cluster::black_hole(build.generator.snapshot.mesh());
        push(
            out,
            type_url::CLUSTER,
            &black_hole.name,
            &black_hole,
            Origins::default(),
        );
        let listener = virtual_inbound(build, ports);
        push(out, type_url::LISTENER, &listener.name, &listener, origins);
    }
}

/// A port that nobody declares; 0 for all of them.
fn passing(number: u16) -> Port {
    Port {
        number,
        cluster: names::INBOUND_PASSTHROUGH_CLUSTER.to_owned(),
        protocol: Protocol::Auto,
        application: None,
        bind: None,
        shown: String::new(),
        passes: true,
        policy: Effective::default(),
        origins: Vec::new(),
        tls: None,
    }
}

/// The listener that iptables redirects to: chains for each port of the application, and for all others.
fn virtual_inbound(build: &Build<'_>, ports: &[Port]) -> Listener {
    let mesh = build.generator.snapshot.mesh();
    let own_port = u16::try_from(mesh.proxy_inbound_listen_port).unwrap_or(15006);
    let mut chains: Vec<FilterChain> = vec![redirected::black_hole("virtualInbound-blackhole", own_port)];
    chains.extend(build.chains(&passing(0), None));
    // A policy's port may be one that nobody declares.
    let declared = |port: &u16| ports.iter().any(|own| own.number == *port);
    for port in build.modes.ports.keys().filter(|port| !declared(port)) {
        chains.extend(build.chains(&passing(*port), Some(*port)));
    }
    for port in ports.iter().filter(|port| port.bind.is_none()) {
        chains.extend(build.chains(port, Some(port.number)));
    }
    let transparent = build.scope.interception == Interception::Tproxy;
    bounded(
        redirected::inbound(own_port, build.scope.families, chains, transparent),
        mesh,
    )
}
