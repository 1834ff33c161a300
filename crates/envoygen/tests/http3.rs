//! HTTP/3 at a gateway: a real Envoy serves it, and another one, whose cluster speaks nothing else, asks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, bootstrap::StaticResources};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType,
};
use envoy_types::pb::envoy::config::core::v3::{
    Address, DataSource, Http3ProtocolOptions, SocketAddress, TransportSocket, address,
    data_source::Specifier, socket_address::PortSpecifier, transport_socket,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
    route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
};
use envoy_types::pb::envoy::extensions::transport_sockets::quic::v3::QuicUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, UpstreamTlsContext,
    common_tls_context::ValidationContextType,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
    },
};
use envoy_types::util::pack_any;
use envoygen::{Output, type_url};
use support::{envoy, generator, listener, routes, tables};

const EDGE: &str = "router~127.0.0.1~edge.istio-system~istio-system.svc.cluster.local";
const LISTENER: &str = "udp_127.0.0.1_PORT";

/// A gateway behind a Service of port 443, over UDP too where `udp` says so, that leads to an application.
fn mesh(port: u16, echo: u16, certificates: &Path, udp: bool, tls: &str) -> String {
    let udp = if udp {
        format!(", {{name: quic, port: 443, protocol: UDP, targetPort: {port}}}")
    } else {
        String::new()
    };
    let folder = certificates.display();
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: edge, namespace: istio-system}}
spec: {{selector: {{istio: edge}}, ports: [{{name: https, port: 443, targetPort: {port}}}{udp}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: edge, namespace: istio-system}}
spec: {{address: 127.0.0.1, serviceAccount: edge, labels: {{istio: edge}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: istio-system}}
spec:
  selector: {{istio: edge}}
  servers:
  - port: {{number: 443, protocol: HTTPS, name: https}}
    bind: 127.0.0.1
    hosts: [h3.example]
    tls: {{{tls}, serverCertificate: {folder}/cert.pem, privateKey: {folder}/key.pem}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app, namespace: w}}
spec: {{hosts: [app.example], location: MESH_EXTERNAL, resolution: STATIC, ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {echo}}}], endpoints: [{{address: 127.0.0.1}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: w}}
spec:
  hosts: [h3.example]
  gateways: [istio-system/edge]
  http: [{{route: [{{destination: {{host: app.example}}}}]}}]
"#
    )
}

/// A certificate of the host, its own authority.
fn certificate() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["h3.example".to_owned()]).unwrap();
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    folder
}

fn output(port: u16, echo: u16, certificates: &Path, udp: bool, tls: &str) -> Output {
    tables(&generator(&[&mesh(port, echo, certificates, udp, tls)]), EDGE)
}

/// A port that is free now, over TCP and UDP.
fn free() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

#[test]
fn http3_is_served_where_the_service_has_the_port_over_udp() {
    let certificates = certificate();
    let name = LISTENER.replace("PORT", "8443");
    let with = output(8443, 8000, certificates.path(), true, "mode: SIMPLE");
    let udp = listener(&with, &name);
    assert!(udp.udp_listener_config.unwrap().quic_options.is_some() && udp.listener_filters.is_empty());
    let routes = routes(&with, "https.443.https.edge.istio-system.127.0.0.1");
    let header = routes.response_headers_to_add[0].header.clone().unwrap();
    assert_eq!(
        (header.key.as_str(), header.value.as_str()),
        ("alt-svc", "h3=\":443\"; ma=86400")
    );
    let cases = [
        (false, "mode: SIMPLE"),
        (true, "mode: MUTUAL, caCertificates: /ca.pem"),
        (true, "mode: SIMPLE, maxProtocolVersion: TLSV1_2"),
    ];
    for (udp, tls) in cases {
        let without = output(8443, 8000, certificates.path(), udp, tls);
        assert!(without.get(type_url::LISTENER, &name).is_none(), "{udp} {tls}");
        assert!(
            without.get(type_url::LISTENER, "127.0.0.1_8443").is_some(),
            "{udp} {tls}"
        );
    }
}

#[test]
fn a_client_of_http3_alone_is_answered() {
    let certificates = certificate();
    let (port, echo, entry) = (free(), free(), free());
    envoy::echo(&format!("127.0.0.1:{echo}"));
    let served = output(port, echo, certificates.path(), true, "mode: SIMPLE");
    let admin = || format!("127.0.0.1:{}", free());
    let Some(_gateway) = envoy::run(&served, &admin(), |_| ()) else {
        return;
    };
    let roots = certificates.path().join("cert.pem");
    let client = |bootstrap: &mut Bootstrap| client(bootstrap, port, entry, &roots);
    let Some(_client) = envoy::run(&Output::default(), &admin(), client) else {
        return;
    };
    let over_h3 = ask(entry, "/h3/a");
    assert!(
        over_h3.contains("GET /h3/a"),
        "the application sees it: {over_h3}"
    );
    let over_tcp = ask(entry, "/tcp/a");
    assert!(over_tcp.contains("alt-svc: h3=\":443\"; ma=86400"), "{over_tcp}");
}

/// Asks the client until it is answered by the application: it may be ready before the gateway is.
fn ask(entry: u16, path: &str) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let line = format!("GET {path} HTTP/1.1");
        let answer = envoy::request(&format!("127.0.0.1:{entry}"), &line, &["host: h3.example"]);
        let answer = answer.unwrap_or_default();
        if answer.contains("200 OK") {
            return answer;
        }
        assert!(Instant::now() < until, "{answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// An Envoy that sends `/h3` over HTTP/3 and the rest over TLS.
fn client(bootstrap: &mut Bootstrap, port: u16, entry: u16, roots: &Path) {
    let tls = UpstreamTlsContext {
        sni: "h3.example".into(),
        common_tls_context: Some(CommonTlsContext {
            validation_context_type: Some(ValidationContextType::ValidationContext(
                CertificateValidationContext {
                    trusted_ca: Some(DataSource {
                        specifier: Some(Specifier::Filename(roots.to_str().unwrap().to_owned())),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    };
    let quic = QuicUpstreamTransport {
        upstream_tls_context: Some(tls.clone()),
    };
    let mut over_h3 = cluster("h3", port, "envoy.transport_sockets.quic", pack_any(quic));
    let explicit = ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http3ProtocolOptions(
            Http3ProtocolOptions::default(),
        )),
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    over_h3.typed_extension_protocol_options.insert(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".into(),
        pack_any(options),
    );
    let over_tcp = cluster("tcp", port, "envoy.transport_sockets.tls", pack_any(tls));
    bootstrap.static_resources = Some(StaticResources {
        clusters: vec![over_h3, over_tcp],
        listeners: vec![entrance(entry)],
        ..Default::default()
    });
}

fn at(port: u16) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: "127.0.0.1".into(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    })
}

fn cluster(name: &str, port: u16, socket: &str, config: envoy_types::pb::google::protobuf::Any) -> Cluster {
    let endpoint = Endpoint {
        address: at(port),
        ..Default::default()
    };
    let only = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: name.into(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![only],
                ..Default::default()
            }],
            ..Default::default()
        }),
        transport_socket: Some(TransportSocket {
            name: socket.into(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
        }),
        ..Default::default()
    }
}

/// A listener that leads to both clusters.
fn entrance(port: u16) -> Listener {
    let route = |prefix: &str, cluster: &str| Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix(prefix.into())),
            ..Default::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.into())),
            ..Default::default()
        })),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: vec![route("/h3", "h3"), route("/", "tcp")],
        ..Default::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: "client".into(),
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration {
            virtual_hosts: vec![host],
            ..Default::default()
        })),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".into(),
            config_type: Some(http_filter::ConfigType::TypedConfig(pack_any(Router::default()))),
            ..Default::default()
        }],
        ..Default::default()
    };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".into(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(manager))),
    };
    Listener {
        name: "client".into(),
        address: at(port),
        filter_chains: vec![FilterChain {
            filters: vec![filter],
            ..Default::default()
        }],
        ..Default::default()
    }
}
