//! Routes of a forward proxy's port (`HTTP_PROXY`) and of a Unix socket: requests may name each service with each of its ports
//! (Istio, "IstioEgressListener", and its listener port 0).

use std::collections::BTreeSet;

use config::networking::IstioEgressListener;
use envoy_types::pb::envoy::config::route::v3 as pb;
use model::MESH_GATEWAY;

use super::sidecar::{Hosts, catch_all, routed_as_http};
use super::{RouteContext, configuration};
use crate::output::Origins;
use crate::view::{Egress, View};

/// The port that is meant where a request names none.
const DEFAULT_PORT: u16 = 80;

/// The route configuration of an egress listener, named by its port, else by its socket, and the objects behind it.
pub(crate) fn configure(
    view: &View<'_>,
    egress: &Egress,
    listener: &IstioEgressListener,
) -> (pb::RouteConfiguration, Origins) {
    let number = listener.port.as_ref().map_or(0, |port| port.number);
    let name = match number {
        0 => listener.bind.clone(),
        number => number.to_string(),
    };
    let of_services = egress.services.iter().flat_map(|service| &service.ports);
    let of_services = of_services.filter(|port| routed_as_http(port.protocol));
    let mut ports: BTreeSet<u16> = of_services.map(|port| port.number).collect();
    ports.insert(DEFAULT_PORT);
    let mut origins = Origins::default();
    let mut hosts = Vec::new();
    for port in ports {
        let context = context(view, port);
        let egress = [egress];
        let own = Hosts::new(&context, &egress);
        origins.add(&own.origins.clone().into_vec());
        hosts.extend(own.hosts.into_iter().map(|host| with_port(host, port)));
    }
    hosts.push(catch_all(&context(
        view,
        u16::try_from(number).unwrap_or_default(),
    )));
    let mut routes = configuration(&name, hosts);
    // The port says which service is meant.
    routes.ignore_port_in_host_matching = false;
    (routes, origins)
}

fn context<'a>(view: &'a View<'a>, port: u16) -> RouteContext<'a> {
    RouteContext {
        view,
        mesh: view.snapshot.mesh(),
        port,
        gateway: MESH_GATEWAY,
        tls: false,
    }
}

/// The virtual host for requests that name the port.
fn with_port(mut host: pb::VirtualHost, port: u16) -> pb::VirtualHost {
    let named = host.domains.iter().map(|domain| format!("{domain}:{port}"));
    let named: Vec<String> = named.collect();
    if port == DEFAULT_PORT {
        host.domains.extend(named);
    } else {
        host.domains = named;
    }
    host
}
