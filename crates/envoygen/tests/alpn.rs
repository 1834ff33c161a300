//! Requests over mutual TLS to a port without a declared protocol are HTTP to the server's proxy: two real Envoys, the server's
//! with a policy that reads paths.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use envoy_types::pb::envoy::config::core::v3::{
    Address, DataSource, SocketAddress, TransportSocket, address, data_source::Specifier,
    socket_address::PortSpecifier, transport_socket::ConfigType,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3::Config as SetFilterState;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, Secret, TlsCertificate,
    UpstreamTlsContext, common_tls_context::ValidationContextType, secret,
};
use envoy_types::util::pack_any;
use envoygen::{Interception, Proxy, Scope};
use prost::Message;
use rcgen::{CertificateParams, KeyPair, SanType, string::Ia5String};
use support::envoy::{self, request};
use support::{generator, host_routes, tables};

const CLIENT: &str = "sidecar~127.1.98.1~c.s~s.svc.cluster.local";
const SERVER: &str = "sidecar~127.1.98.2~s.s~s.svc.cluster.local";
const ENTRY: &str = "127.1.98.1:7001";
const OWN: (&str, u16) = ("127.1.98.2", 8080);
const ECHO: (&str, u16) = ("127.1.98.3", 8000);
const IDENTITY: &str = "spiffe://cluster.local/ns/s/sa/s";

const MESH: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: s}, spec: {selector: {app: s}, ports: [{name: api, port: 7001, targetPort: 8080}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: s, namespace: s}
spec: {address: 127.1.98.2, serviceAccount: s, labels: {app: s, security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: c, namespace: s}
spec: {address: 127.1.98.1, serviceAccount: s, labels: {app: c}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: c, namespace: s}
spec:
  workloadSelector: {labels: {app: c}}
  egress:
  - {port: {number: 7001, protocol: HTTP, name: http}, bind: 127.1.98.1, captureMode: NONE, hosts: ["./*"]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: paths, namespace: s}
spec:
  selector: {matchLabels: {app: s}}
  action: ALLOW
  rules: [{to: [{operation: {paths: [/ok]}}]}]
"#;

#[test]
fn policies_of_http_hold_at_undeclared_ports() {
    let generator = generator(&[MESH]);
    let client = tables(&generator, CLIENT);
    let mut proxy = Proxy::parse(SERVER, None).unwrap();
    proxy.interception = Some(Interception::Redirect);
    let server = generator.generate(&Scope::of(&proxy, &generator));
    let pems = pems();
    envoy::echo(&format!("{}:{}", ECHO.0, ECHO.1));
    let Some(_server) = envoy::run(&server, "127.1.98.2:8001", |bootstrap| {
        serve_inbound(bootstrap, OWN, ECHO);
        own_secrets(bootstrap, &pems);
    }) else {
        return;
    };
    let client = envoy::run(&client, "127.1.98.1:8001", |bootstrap| {
        own_secrets(bootstrap, &pems)
    });
    let _client = client.unwrap();
    let ok = until(|answer| answer.contains(" 200 "), "/ok");
    assert!(ok.contains("GET /ok HTTP/1.1"), "the application got it: {ok}");
    let refused = request(ENTRY, "GET /no HTTP/1.1", &["host: s"]).unwrap();
    assert!(refused.contains(" 403 "), "{refused}");
    assert!(refused.contains("RBAC"), "by the server's proxy: {refused}");
}

/// The certificate that both proxies have, and its key.
fn pems() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(IDENTITY).unwrap())];
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// A service outside of the mesh, and a copy of its requests for the port without a protocol.
const MIRRORED: &str = r#"
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e, namespace: s}, spec: {hosts: [e.example], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 7001, name: http, protocol: HTTP, targetPort: 8000}], endpoints: [{address: 127.1.97.3}]}}
---
{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: e, namespace: s}, spec: {hosts: [e.example], http: [{route: [{destination: {host: e.example}}], mirrors: [{destination: {host: s}}]}]}}
"#;

#[test]
fn mirrored_requests_reach_undeclared_ports() {
    let without_policy = MESH.rsplit_once("---").unwrap().0;
    let mesh = without_policy.replace("127.1.98.", "127.1.97.") + "---" + MIRRORED;
    let generator = generator(&[&mesh]);
    let node = |node: &str| node.replace("127.1.98.", "127.1.97.");
    let client = tables(&generator, &node(CLIENT));
    let mut proxy = Proxy::parse(&node(SERVER), None).unwrap();
    proxy.interception = Some(Interception::Redirect);
    let server = generator.generate(&Scope::of(&proxy, &generator));
    let (pems, heard) = (pems(), record("127.1.97.4:8000"));
    envoy::echo("127.1.97.3:8000");
    let Some(_server) = envoy::run(&server, "127.1.97.2:8001", |bootstrap| {
        serve_inbound(bootstrap, ("127.1.97.2", 8080), ("127.1.97.4", 8000));
        own_secrets(bootstrap, &pems);
    }) else {
        return;
    };
    let client = envoy::run(&client, "127.1.97.1:8001", |bootstrap| {
        own_secrets(bootstrap, &pems)
    });
    let _client = client.unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    // Mirrored requests are not sent again, and the two Envoys start one after the other.
    let copy = loop {
        let answer = request("127.1.97.1:7001", "GET /copied HTTP/1.1", &["host: e.example"]);
        let first = heard.recv_timeout(Duration::from_millis(200));
        match (answer, first) {
            (Some(answer), Ok(copy)) if answer.contains(" 200 ") => break copy,
            (answer, _) => assert!(Instant::now() < end, "{answer:?}"),
        }
    };
    assert!(copy.starts_with("GET /copied HTTP/1.1"), "{copy}");
    assert!(copy.contains("host: e.example-shadow"), "it is the copy: {copy}");
}

/// An application that tells what it hears.
fn record(address: &str) -> Receiver<String> {
    let (listener, (sender, receiver)) = (TcpListener::bind(address).unwrap(), channel());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
            while !heard.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(count) if count > 0 => heard.extend_from_slice(&buffer[..count]),
                    _ => break,
                }
            }
            _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            _ = sender.send(String::from_utf8_lossy(&heard).into_owned());
        }
    });
    receiver
}

/// Asks again until the answer is as wanted: the two Envoys start one after the other.
fn until(wanted: impl Fn(&str) -> bool, path: &str) -> String {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = request(ENTRY, &format!("GET {path} HTTP/1.1"), &["host: s"]).unwrap_or_default();
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "{answer}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn requests_announce_the_version_that_they_go_out_in() {
    let announced = |policy: &str, node: &str, routes: &str| {
        let rule = format!(
            "{MESH}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: s, namespace: s}}\nspec: {{host: s, trafficPolicy: {policy}}}\n"
        );
        let output = tables(&generator(&[&rule]), node);
        let route = host_routes(&output, routes, "s.s.svc.cluster.local").remove(0);
        assert!(matches!(route.action, Some(Action::Route(_))));
        let any = route.typed_per_filter_config.get("istio.alpn")?;
        let config = SetFilterState::decode(any.value.as_slice()).unwrap();
        Some(format!("{:?}", config.on_request_headers[0]))
    };
    let of = |policy: &str| announced(policy, CLIENT, "7001");
    let both = of("{loadBalancer: {simple: RANDOM}}").unwrap();
    assert!(
        both.contains("istio-h2") && both.contains("istio-http/1.1"),
        "{both}"
    );
    let upgraded = of("{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}").unwrap();
    assert!(
        upgraded.contains("istio-h2") && !upgraded.contains("istio-http"),
        "{upgraded}"
    );
    assert_eq!(of("{tls: {mode: DISABLE}}"), None, "nobody reads it");
}

fn at((host, port): (&str, u16)) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.into(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    })
}

/// Has the listener that connections are redirected to stand where they go, and its clusters lead to the application.
fn serve_inbound(bootstrap: &mut Bootstrap, own: (&str, u16), application: (&str, u16)) {
    let resources = bootstrap.static_resources.as_mut().unwrap();
    resources
        .listeners
        .retain(|listener| listener.name == "virtualInbound");
    let listener = &mut resources.listeners[0];
    listener.address = at(own);
    listener
        .listener_filters
        .retain(|filter| filter.name != "envoy.filters.listener.original_dst");
    for cluster in &mut resources.clusters {
        if cluster.name != "inbound|8080||" {
            continue;
        }
        let endpoint = Endpoint {
            address: at(application),
            ..Default::default()
        };
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
        cluster.lb_policy = LbPolicy::RoundRobin as i32;
        cluster.load_assignment = Some(ClusterLoadAssignment {
            cluster_name: cluster.name.clone(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![LbEndpoint {
                    host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        });
    }
}

/// Gives an Envoy its certificate, which is its own authority, in place of an agent.
fn own_secrets(bootstrap: &mut Bootstrap, (certificate, key): &(String, String)) {
    let text = |text: &String| {
        Some(DataSource {
            specifier: Some(Specifier::InlineString(text.clone())),
            ..Default::default()
        })
    };
    let named = |name: &str, r#type| Secret {
        name: name.into(),
        r#type: Some(r#type),
    };
    let pair = TlsCertificate {
        certificate_chain: text(certificate),
        private_key: text(key),
        ..Default::default()
    };
    let roots = CertificateValidationContext {
        trusted_ca: text(certificate),
        ..Default::default()
    };
    let resources = bootstrap.static_resources.as_mut().unwrap();
    resources.secrets = vec![
        named("default", secret::Type::TlsCertificate(pair)),
        named("ROOTCA", secret::Type::ValidationContext(roots)),
    ];
    let of_clusters = resources.clusters.iter_mut().flat_map(|cluster| {
        let matches = cluster.transport_socket_matches.iter_mut();
        matches.filter_map(|one| one.transport_socket.as_mut())
    });
    for socket in of_clusters {
        local(socket, |context: &mut UpstreamTlsContext| {
            &mut context.common_tls_context
        });
    }
    let chains = resources.listeners.iter_mut().flat_map(|l| &mut l.filter_chains);
    for socket in chains.filter_map(|chain| chain.transport_socket.as_mut()) {
        local(socket, |context: &mut DownstreamTlsContext| {
            &mut context.common_tls_context
        });
    }
}

fn local<M: Message + Default + prost::Name>(
    socket: &mut TransportSocket,
    common: impl Fn(&mut M) -> &mut Option<CommonTlsContext>,
) {
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        return;
    };
    let mut context = M::decode(any.value.as_slice()).unwrap();
    let own = common(&mut context).as_mut().unwrap();
    for secret in &mut own.tls_certificate_sds_secret_configs {
        secret.sds_config = None;
    }
    if let Some(ValidationContextType::CombinedValidationContext(combined)) = &mut own.validation_context_type
    {
        let sds = combined.validation_context_sds_secret_config.as_mut();
        sds.unwrap().sds_config = None;
    }
    socket.config_type = Some(ConfigType::TypedConfig(pack_any(context)));
}
