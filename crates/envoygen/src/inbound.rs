//! What a sidecar needs to be reached: the inbound part of its tables.

use std::collections::BTreeMap;

use config::Finding;
use config::networking::{CaptureMode, IstioIngressListener};
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain};
use envoy_types::pb::envoy::config::route::v3::{self as routes, route_action};
use model::{PeerModes, Protocol, Sidecar};
use std::sync::Arc;

use crate::cluster;
use crate::generator::Generator;
use crate::listener::http::{Class, Http, Routes};
use crate::listener::inbound::{Application, Port, chain, variants};
use crate::listener::{Bind, listener, tcp, tls};
use crate::names;
use crate::outbound::push;
use crate::output::{Origins, Output, type_url};
use crate::proxy::Interception;
use crate::scope::Inbound;
use crate::wire::{duration, pipe_address, tcp_address};

pub(crate) fn generate(generator: &Generator, scope: &Inbound) -> Output {
    let sidecar = scope
        .sidecar
        .as_ref()
        .and_then(|key| generator.snapshot.sidecar(key));
    let mut out = Output::default();
    let ports = ports(generator, scope, sidecar, &mut out.findings);
    let build = Build {
        generator,
        scope,
        modes: generator
            .snapshot
            .policies()
            .peer_modes(&scope.namespace, &scope.labels),
    };
    let mut origins = Origins::of(scope.sidecar.iter());
    origins.add(&build.modes.origins);
    for port in &ports {
        let cluster = build.cluster(port);
        push(
            &mut out,
            type_url::CLUSTER,
            &cluster.name,
            &cluster,
            Origins::of(scope.sidecar.iter()),
        );
        if let Some(address) = &port.bind {
            let bind = Bind {
                address: address.clone(),
                port: port.number,
                to_port: true,
                exclusive: true,
            };
            let chains = build.chains(port, None);
            let listener = listener(&bind, TrafficDirection::Inbound, chains, None);
            push(
                &mut out,
                type_url::LISTENER,
                &listener.name,
                &listener,
                origins.clone(),
            );
        }
    }
    out
}

/// The ports of the application: those that the Sidecar declares, else those of its services. Without interception only a
/// Sidecar can say where the application listens.
fn ports(
    generator: &Generator,
    scope: &Inbound,
    sidecar: Option<&Arc<Sidecar>>,
    findings: &mut Vec<Finding>,
) -> Vec<Port> {
    let ingress = sidecar.map(|s| s.spec.ingress.as_slice()).unwrap_or_default();
    let mut by_number: BTreeMap<u16, Port> = BTreeMap::new();
    for (index, declared) in ingress.iter().enumerate() {
        match ingress_port(scope, sidecar, declared) {
            Ok(port) => drop(by_number.entry(port.number).or_insert(port)),
            Err(reason) => findings.extend(sidecar.map(|s| {
                Finding::warning(reason)
                    .at(format!("spec.ingress[{index}]"))
                    .of(s.key.clone())
            })),
        }
    }
    if ingress.is_empty() && scope.interception != Interception::None {
        for (host, number, target) in &scope.ports {
            let service = generator.snapshot.services().get(host, &scope.namespace);
            let protocol = service
                .and_then(|s| s.port(*number))
                .map_or(Protocol::Auto, |p| p.protocol);
            if protocol != Protocol::Udp {
                by_number.entry(*target).or_insert(Port {
                    number: *target,
                    protocol,
                    application: None,
                    bind: None,
                    pool: sidecar.and_then(|s| s.spec.inbound_connection_pool.clone()),
                });
            }
        }
    }
    by_number.into_values().collect()
}

fn ingress_port(
    scope: &Inbound,
    sidecar: Option<&Arc<Sidecar>>,
    declared: &IstioIngressListener,
) -> Result<Port, String> {
    let port = declared.port.as_ref().ok_or("the port is missing")?;
    let number = u16::try_from(port.number).map_err(|_| "the port's number is not 1 to 65535")?;
    let own_socket = match declared.capture_mode {
        CaptureMode::Default => scope.interception == Interception::None,
        mode => mode == CaptureMode::None,
    };
    let own = scope.address.map(|own| own.to_string());
    let bind = own_socket.then(|| match declared.bind.as_str() {
        "" => own.clone().unwrap_or_else(|| "0.0.0.0".to_owned()),
        given => given.to_owned(),
    });
    let application = application(&declared.default_endpoint, own.as_deref())?;
    if application.is_none() && own_socket {
        return Err("without interception defaultEndpoint must say where the application listens".to_owned());
    }
    if let (Some(bind), Some(Application::Tcp(address, to))) = (&bind, &application)
        && bind == address
        && *to == number
    {
        return Err(format!(
            "defaultEndpoint {address}:{to} is the listener's own address"
        ));
    }
    let pool = declared.connection_pool.clone();
    Ok(Port {
        number,
        protocol: Protocol::parse(&port.protocol),
        application,
        bind,
        pool: pool.or_else(|| sidecar.and_then(|s| s.spec.inbound_connection_pool.clone())),
    })
}

/// Reads `defaultEndpoint`; `0.0.0.0` and `[::]` stand for the workload's own address.
fn application(endpoint: &str, own: Option<&str>) -> Result<Option<Application>, String> {
    if endpoint.is_empty() {
        return Ok(None);
    }
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return Ok(Some(Application::Unix(path.to_owned())));
    }
    let bad = || format!("defaultEndpoint {endpoint:?} is not ADDRESS:PORT or unix://PATH");
    let (address, port) = endpoint.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse().map_err(|_| bad())?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address = match address {
        "0.0.0.0" | "::" => match own {
            Some(own) => own,
            None => return Ok(None),
        },
        given => given,
    };
    address.parse::<std::net::IpAddr>().map_err(|_| bad())?;
    Ok(Some(Application::Tcp(address.to_owned(), port)))
}

/// Builds what belongs to a port.
struct Build<'a> {
    generator: &'a Generator,
    scope: &'a Inbound,
    modes: PeerModes,
}

impl Build<'_> {
    fn cluster(&self, port: &Port) -> envoy_types::pb::envoy::config::cluster::v3::Cluster {
        let address = port.application.as_ref().map(|application| match application {
            Application::Tcp(address, port) => tcp_address(address, *port),
            Application::Unix(path) => pipe_address(path),
        });
        let unix = matches!(port.application, Some(Application::Unix(_)));
        let own = self.scope.address.filter(|_| !unix);
        let mesh = self.generator.snapshot.mesh();
        let mut cluster = cluster::inbound(port.number, address, port.protocol, port.pool.clone(), own, mesh);
        if unix {
            cluster.upstream_bind_config = None;
        }
        cluster
    }

    /// The filter chains of a port; `shared` where a listener takes several ports.
    fn chains(&self, port: &Port, shared: Option<u16>) -> Vec<FilterChain> {
        let mode = self.modes.of(port.number);
        let name = match &port.bind {
            Some(bind) => names::listener(bind, port.number),
            None => names::listener("0.0.0.0", port.number),
        };
        let socket = || tls::mutual(&self.generator.snapshot, self.generator.settings.secret_timeout);
        variants(port.protocol, mode)
            .into_iter()
            .map(|variant| {
                let filters = if variant.http {
                    self.http(port, &name)
                } else {
                    self.tcp(port)
                };
                chain(
                    name.clone(),
                    variant.condition(shared),
                    filters,
                    variant.mtls.then(socket),
                )
            })
            .collect()
    }

    fn http(&self, port: &Port, name: &str) -> Vec<Filter> {
        let http = Http {
            mesh: self.generator.snapshot.mesh(),
            class: Class::SidecarInbound,
            stat_prefix: format!("inbound_{name}"),
            routes: Routes::Inline(Box::new(inbound_routes(port))),
            filters: Vec::new(),
            access_log: Vec::new(),
            decides: false,
        };
        vec![http.build()]
    }

    fn tcp(&self, port: &Port) -> Vec<Filter> {
        let cluster = names::inbound_cluster(port.number);
        vec![tcp::proxy(&cluster.clone(), vec![(cluster, 1)], Vec::new())]
    }
}

/// Everything goes to the application, without a timeout of the proxy's own.
fn inbound_routes(port: &Port) -> routes::RouteConfiguration {
    let cluster = names::inbound_cluster(port.number);
    let none = duration(std::time::Duration::ZERO);
    let action = routes::RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.clone())),
        timeout: none,
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
            operation: format!("inbound:{}/*", port.number),
            propagate: None,
        }),
        ..Default::default()
    };
    let host = routes::VirtualHost {
        name: format!("inbound|http|{}", port.number),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    routes::RouteConfiguration {
        name: cluster,
        virtual_hosts: vec![host],
        validate_clusters: crate::wire::bool_value(false),
        ..Default::default()
    }
}
