//! The servers that a router opens: all Gateways that select it, put together by port and bind address. Servers that cannot
//! share a port are left out and reported.

use std::collections::{BTreeMap, BTreeSet};

use config::networking::{Server, ServerTlsMode, ServerTlsSettings, TlsProtocol};
use config::{Finding, ObjectKey};
use model::{Gateway, Protocol, Snapshot};

use crate::scope::{GatewayTarget, Outbound};

/// One server of a Gateway, its port resolved.
#[derive(Debug, Clone)]
pub(crate) struct GatewayServer {
    pub(crate) gateway: ObjectKey,
    /// `namespace/name` of the Gateway.
    pub(crate) gateway_name: String,
    pub(crate) server: Server,
    pub(crate) protocol: Protocol,
    /// Port that the Gateway names.
    pub(crate) port: u16,
    /// Hosts as (namespace, host); no namespace means any.
    pub(crate) hosts: Vec<(Option<String>, String)>,
    /// Name of the route configuration, for servers that speak HTTP.
    pub(crate) route_name: Option<String>,
    /// Whether it serves HTTP/3 beside, on UDP.
    pub(crate) http3: bool,
    /// Whether a server of another namespace has one of its hosts already, so that Envoy can have only one of them.
    pub(crate) clashes: bool,
}

impl GatewayServer {
    /// TLS settings, unless the server is plaintext that redirects to HTTPS.
    pub(crate) fn tls(&self) -> Option<&ServerTlsSettings> {
        self.server.tls.as_ref().filter(|_| !self.protocol.is_http())
    }

    /// Whether TLS goes through unread.
    pub(crate) fn passes_through(&self) -> bool {
        let mode = self.tls().map(|tls| tls.mode);
        matches!(
            mode,
            Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
        )
    }

    pub(crate) fn https_redirect(&self) -> bool {
        self.server.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }

    /// Names for SNI, without namespaces, sorted.
    pub(crate) fn sni_hosts(&self) -> Vec<String> {
        let hosts: BTreeSet<&String> = self.hosts.iter().map(|(_, host)| host).collect();
        hosts.into_iter().cloned().collect()
    }
}

/// The servers of one address and port.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bound {
    pub(crate) servers: Vec<GatewayServer>,
}

impl Bound {
    /// Whether the port speaks plaintext HTTP, so that all servers share one route configuration.
    pub(crate) fn is_http(&self) -> bool {
        self.servers.first().is_some_and(|s| s.protocol.is_http())
    }
}

/// All servers of a router.
#[derive(Debug, Clone, Default)]
pub(crate) struct Merged {
    /// By (port, bind address; empty for all addresses).
    pub(crate) bound: BTreeMap<(u16, String), Bound>,
    /// `namespace/name` of each Gateway in use.
    pub(crate) names: BTreeSet<String>,
    pub(crate) findings: Vec<Finding>,
}

impl Merged {
    /// Whether a server forwards TLS to services by their SNI alone.
    pub(crate) fn forwards_unread(&self) -> bool {
        let mut servers = self.bound.values().flat_map(|bound| &bound.servers);
        servers.any(|server| {
            server
                .tls()
                .is_some_and(|tls| tls.mode == ServerTlsMode::AutoPassthrough)
        })
    }

    /// Puts together the Gateways that select the router, oldest first.
    pub(crate) fn new(snapshot: &Snapshot, scope: &Outbound) -> Merged {
        let mut merged = Merged::default();
        for gateway in snapshot.gateways() {
            let Some(ports) = Ports::of(gateway, scope) else {
                continue;
            };
            for (index, server) in gateway.spec.servers.iter().enumerate() {
                if let Err(reason) = merged.add_all(&gateway.key, server, &ports) {
                    merged.findings.push(
                        Finding::warning(reason)
                            .at(format!("spec.servers[{index}]"))
                            .of(gateway.key.clone()),
                    );
                }
            }
        }
        merged
    }

    /// Adds a server on each port that it opens.
    fn add_all(&mut self, gateway: &ObjectKey, server: &Server, ports: &Ports<'_>) -> Result<(), String> {
        // A Unix socket has no port.
        let least = u16::from(!server.bind.starts_with("unix://"));
        let declared = server
            .port
            .as_ref()
            .and_then(|port| u16::try_from(port.number).ok())
            .filter(|p| *p >= least);
        let declared = declared.ok_or_else(|| "the port's number is not 1 to 65535".to_owned())?;
        let opened = match declared {
            0 => BTreeSet::from([0]),
            declared => ports.opened(declared),
        };
        if opened.is_empty() {
            return Err(format!(
                "none of the Services that the Gateway is for has port {declared}, so the server is not opened"
            ));
        }
        let results: Vec<_> = opened
            .into_iter()
            .map(|port| {
                self.add(
                    gateway.clone(),
                    server,
                    (declared, port),
                    ports.udp(declared, port),
                )
            })
            .collect();
        results.into_iter().collect()
    }

    fn add(
        &mut self,
        gateway: ObjectKey,
        server: &Server,
        (declared, port): (u16, u16),
        udp: bool,
    ) -> Result<(), String> {
        let protocol = Protocol::parse(
            server
                .port
                .as_ref()
                .map(|p| p.protocol.as_str())
                .unwrap_or_default(),
        );
        let added = GatewayServer {
            gateway_name: format!("{}/{}", gateway.namespace, gateway.name),
            route_name: route_name(&gateway, server, protocol, declared, port),
            hosts: server
                .hosts
                .iter()
                .map(|host| split_host(host, &gateway.namespace))
                .collect(),
            server: server.clone(),
            gateway,
            protocol,
            port: declared,
            http3: udp && serves_http3(server, protocol),
            clashes: false,
        };
        let slot = self.bound.entry((port, server.bind.clone())).or_default();
        check(slot, &added)?;
        if let Some(other) = clash(slot, &added) {
            let reason = format!(
                "a server of {other} has one of its hosts on the same port; clients could not tell them apart, so that \
                 one is served alone"
            );
            slot.servers.push(GatewayServer {
                clashes: true,
                ..added
            });
            return Err(reason);
        }
        self.names.insert(added.gateway_name.clone());
        slot.servers.push(added);
        Ok(())
    }
}

/// The ports that a Gateway opens on a router.
struct Ports<'a> {
    targets: Vec<&'a GatewayTarget>,
    /// Whether the Gateway finds its routers by labels, and not by the Services that it is for.
    by_labels: bool,
}

impl<'a> Ports<'a> {
    /// None for a Gateway that is not for the router.
    fn of(gateway: &Gateway, scope: &'a Outbound) -> Option<Ports<'a>> {
        let Some(hosts) = &gateway.services else {
            return gateway.selects(&scope.labels).then(|| Ports {
                targets: scope.targets.iter().collect(),
                by_labels: true,
            });
        };
        let own = |target: &&GatewayTarget| {
            target.namespace == gateway.key.namespace && hosts.contains(&target.host)
        };
        let targets: Vec<_> = scope.targets.iter().filter(own).collect();
        (!targets.is_empty()).then_some(Ports {
            targets,
            by_labels: false,
        })
    }

    /// The router's own ports behind a server's. A Gateway that selects by labels means one: of a Service that translates the
    /// port, else the port itself (Istio).
    fn opened(&self, declared: u16) -> BTreeSet<u16> {
        let mut behind = self.targets.iter().filter(|target| target.port == declared);
        if self.by_labels {
            let first = behind.find(|target| target.translates);
            return BTreeSet::from([first.map_or(declared, |target| target.target)]);
        }
        behind.map(|target| target.target).collect()
    }

    /// Whether a Service that has a server's port for one of the router's own has it over UDP too.
    fn udp(&self, declared: u16, port: u16) -> bool {
        let mut targets = self.targets.iter();
        targets.any(|target| target.udp && target.port == declared && target.target == port)
    }
}

/// Whether a server can serve HTTP/3 (Istio's rule, `IsEligibleForHTTP3Upgrade`): it ends TLS, for HTTPS. Envoy's QUIC asks
/// no client for a certificate, so only `SIMPLE` is; QUIC is TLS 1.3 always.
fn serves_http3(server: &Server, protocol: Protocol) -> bool {
    let allowed = |tls: &ServerTlsSettings| {
        tls.mode == ServerTlsMode::Simple
            && matches!(tls.max_protocol_version, TlsProtocol::Auto | TlsProtocol::V1_3)
    };
    protocol == Protocol::Https && server.tls.as_ref().is_some_and(allowed)
}

/// The Gateway of another server that has one of the server's hosts for another namespace.
fn clash<'a>(slot: &'a Bound, added: &GatewayServer) -> Option<&'a ObjectKey> {
    added.tls()?;
    let hosts = added.sni_hosts();
    let mut served = slot.servers.iter().filter(|other| !other.clashes);
    let other = served.find(|other| other.sni_hosts().iter().any(|host| hosts.contains(host)))?;
    Some(&other.gateway)
}

/// Whether a server can join those that are bound to its port already.
fn check(slot: &Bound, added: &GatewayServer) -> Result<(), String> {
    let Some(first) = slot.servers.first() else {
        return Ok(());
    };
    let conflict = |what: &str| {
        Err(format!(
            "{what} {}; give it another port or bind address",
            first.gateway
        ))
    };
    if first.tls().is_none() != added.tls().is_none() || first.protocol.is_http() != added.protocol.is_http()
    {
        return conflict("its protocol conflicts with a server on the same port of");
    }
    if added.tls().is_none() && !added.protocol.is_http() {
        return conflict("a plain TCP port cannot be shared, and it is taken by");
    }
    if added.tls().is_some() {
        for other in &slot.servers {
            if other.hosts.iter().any(|host| added.hosts.contains(host)) {
                return Err(format!(
                    "a server of {} has one of its hosts on the same port",
                    other.gateway
                ));
            }
            if other.route_name.is_some() && other.route_name == added.route_name {
                return Err(format!("a server of {} has the same port name", other.gateway));
            }
        }
    }
    Ok(())
}

/// `http.PORT[.BIND]`, `https.PORT.PORTNAME.GATEWAY.NAMESPACE[.BIND]`; none for what is not HTTP.
fn route_name(
    gateway: &ObjectKey,
    server: &Server,
    protocol: Protocol,
    declared: u16,
    port: u16,
) -> Option<String> {
    let bind = if server.bind.is_empty() {
        String::new()
    } else {
        format!(".{}", server.bind)
    };
    let mode = server.tls.as_ref().map(|tls| tls.mode);
    let passes = matches!(
        mode,
        None | Some(ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
    );
    if protocol.is_http() {
        Some(format!("http.{port}{bind}"))
    } else if protocol == Protocol::Https && !passes {
        let name = server.port.as_ref().map(|p| p.name.as_str()).unwrap_or_default();
        Some(format!(
            "https.{declared}.{name}.{}.{}{bind}",
            gateway.name, gateway.namespace
        ))
    } else {
        None
    }
}

/// `host`, `namespace/host`, `./host` (own namespace) or `*/host` (any).
fn split_host(host: &str, own: &str) -> (Option<String>, String) {
    match host.split_once('/') {
        None | Some(("*", _)) => (None, host.trim_start_matches("*/").to_ascii_lowercase()),
        Some((".", host)) => (Some(own.to_owned()), host.to_ascii_lowercase()),
        Some((namespace, host)) => (Some(namespace.to_owned()), host.to_ascii_lowercase()),
    }
}
