//! The ports of an application: what a Sidecar declares, or what its services say.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::networking::{CaptureMode, ConnectionPoolSettings, IstioIngressListener};
use config::security::MutualTlsMode;
use config::{Finding, ObjectKey};
use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use model::{Protocol, Sidecar};

use crate::cluster::Effective;
use crate::generator::Generator;
use crate::listener::inbound::{Application, Port};
use crate::listener::tls;
use crate::names;
use crate::proxy::Interception;
use crate::scope::Inbound;

/// The ports of the application: those that the Sidecar declares, else those of its services. Without interception only a
/// Sidecar can say where the application listens.
pub(super) fn ports(
    generator: &Generator,
    scope: &Inbound,
    sidecar: Option<&Arc<Sidecar>>,
    findings: &mut Vec<Finding>,
) -> Vec<Port> {
    let ingress = sidecar.map(|s| s.spec.ingress.as_slice()).unwrap_or_default();
    let mut by_number: BTreeMap<u16, Port> = BTreeMap::new();
    for (index, declared) in ingress.iter().enumerate() {
        match ingress_port(generator, scope, sidecar, declared) {
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
                let own = sidecar.and_then(|s| s.spec.inbound_connection_pool.clone());
                let (policy, origins) = policy(generator, scope, *target, own);
                by_number.entry(*target).or_insert(Port {
                    number: *target,
                    cluster: names::inbound_cluster(*target),
                    protocol,
                    application: None,
                    bind: None,
                    shown: scope.families.any().to_owned(),
                    passes: false,
                    policy,
                    origins,
                    tls: None,
                });
            }
        }
    }
    by_number.into_values().collect()
}

fn ingress_port(
    generator: &Generator,
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
    let own = scope.ip.or(scope.address).map(|own| own.to_string());
    let bind = own_socket.then(|| match declared.bind.as_str() {
        "" => own.clone().unwrap_or_else(|| scope.families.any().to_owned()),
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
    let of_sidecar = || sidecar.and_then(|s| s.spec.inbound_connection_pool.clone());
    let pool = declared.connection_pool.clone().or_else(of_sidecar);
    let (policy, origins) = policy(generator, scope, number, pool);
    let given = Some(declared.bind.clone()).filter(|bind| !bind.is_empty());
    let shown = bind.clone().or(given).or_else(|| own.clone());
    Ok(Port {
        shown: shown.unwrap_or_else(|| scope.families.any().to_owned()),
        passes: false,
        number,
        cluster: names::inbound_cluster(number),
        protocol: Protocol::parse(&port.protocol),
        application,
        bind,
        policy,
        origins,
        tls: own_tls(generator, scope, declared, number)?,
    })
}

/// Bounds of connections to the application, and the objects that they are from: the Sidecar's, else those that its own
/// service's clients have by a DestinationRule or the mesh's default, so that the server takes what they may send (Istio).
/// Of several services behind a port the first by name counts.
fn policy(
    generator: &Generator,
    scope: &Inbound,
    own_port: u16,
    pool: Option<ConnectionPoolSettings>,
) -> (Effective, Vec<ObjectKey>) {
    let snapshot = &generator.snapshot;
    let mut behind = scope.ports.iter().filter(|(_, _, target)| *target == own_port);
    let (host, number) = behind.next().map_or(("", 0), |(host, number, _)| (host, *number));
    let service = snapshot.services().get(host, &scope.namespace);
    let rule = service.and_then(|service| {
        let rules = snapshot.destination_rules();
        rules.find(host, &service.namespace, &scope.namespace, &scope.labels)
    });
    let of_clients = Effective::new(rule.map(|rule| &**rule), "", number, snapshot.mesh());
    let policy = Effective {
        connection_pool: pool.or(of_clients.connection_pool),
        retry_budget: of_clients.retry_budget,
        ..Effective::default()
    };
    let origins = rule.map(|rule| rule.origins.clone()).unwrap_or_default();
    (policy, origins)
}

/// TLS that the Sidecar ends itself. It stands back behind the mesh's own: only ports whose mutual TLS is off have it (Istio).
fn own_tls(
    generator: &Generator,
    scope: &Inbound,
    declared: &IstioIngressListener,
    number: u16,
) -> Result<Option<TransportSocket>, String> {
    let Some(settings) = &declared.tls else {
        return Ok(None);
    };
    let policies = generator.snapshot.policies();
    if policies.peer_modes(&scope.namespace, &scope.labels).of(number) != MutualTlsMode::Disable {
        let reason = "tls stands back behind mutual TLS; set the port to DISABLE in a PeerAuthentication";
        return Err(reason.to_owned());
    }
    tls::gateway(&generator.snapshot, settings, generator.settings.secret_timeout).map(Some)
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
