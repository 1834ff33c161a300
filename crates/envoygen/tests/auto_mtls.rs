//! What clients do by themselves and what servers accept is the same, whatever PeerAuthentications say; and policies change
//! the proxies that they select, and no other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::google::protobuf::value::Kind;
use envoygen::{Output, type_url};
use support::{FEATURES, SHOP, generator, get, listener, tables};

const MESH: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: s}, spec: {selector: {app: s}, ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp, port: 90, targetPort: 9090}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: s, namespace: s}
spec: {address: 127.1.8.2, serviceAccount: s, labels: {app: s, security.istio.io/tlsMode: istio}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s, namespace: s}
spec:
  ingress:
  - {port: {number: 8080, protocol: HTTP, name: http}, bind: 127.1.8.2, captureMode: NONE, defaultEndpoint: "127.0.0.1:8000"}
  - {port: {number: 9090, protocol: TCP, name: tcp}, bind: 127.1.8.2, captureMode: NONE, defaultEndpoint: "127.0.0.1:8000"}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: c, namespace: c}
spec: {address: 127.1.8.1, serviceAccount: c, labels: {app: c}}
"#;
const CLIENT: &str = "sidecar~127.1.8.1~c.c~c.svc.cluster.local";
const SERVER: &str = "sidecar~127.1.8.2~s.s~s.svc.cluster.local";

fn authentication(namespace: &str, name: &str, mode: Option<&str>, port: Option<&str>) -> String {
    let selects = name == "workload";
    if mode.is_none() && port.is_none() {
        return String::new();
    }
    let selector = if selects {
        "selector: {matchLabels: {app: s}}, "
    } else {
        ""
    };
    let mtls = mode.map_or(String::new(), |mode| format!("mtls: {{mode: {mode}}}, "));
    let ports = port.map_or(String::new(), |mode| {
        format!("portLevelMtls: {{8080: {{mode: {mode}}}}}")
    });
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{selector}{mtls}{ports}}}\n"
    )
}

/// Whether a client uses mutual TLS for a port of the service.
fn dials_tls(output: &Output, port: u16) -> bool {
    let set: ClusterLoadAssignment = get(
        output,
        type_url::ENDPOINTS,
        &format!("outbound|{port}||s.s.svc.cluster.local"),
    );
    let endpoints: Vec<_> = set
        .endpoints
        .iter()
        .flat_map(|locality| &locality.lb_endpoints)
        .collect();
    let [only] = endpoints.as_slice() else {
        panic!("{endpoints:?}")
    };
    let metadata = only
        .metadata
        .as_ref()
        .and_then(|m| m.filter_metadata.get("envoy.transport_socket_match"));
    metadata
        .and_then(|m| m.fields.get("tlsMode"))
        .is_some_and(|mode| mode.kind == Some(Kind::StringValue("istio".to_owned())))
}

/// Whether the workload's port takes mutual TLS, and whether plaintext.
fn takes(output: &Output, port: u16) -> (bool, bool) {
    let chains = listener(output, &format!("127.1.8.2_{port}")).filter_chains;
    let plain = chains.iter().any(|chain| {
        chain
            .filter_chain_match
            .as_ref()
            .is_none_or(|m| m.transport_protocol != "tls")
    });
    (chains.iter().any(|chain| chain.transport_socket.is_some()), plain)
}

#[test]
fn clients_agree_with_servers_whatever_peer_authentications_say() {
    let modes = [
        None,
        Some("UNSET"),
        Some("DISABLE"),
        Some("PERMISSIVE"),
        Some("STRICT"),
    ];
    let mut seen = std::collections::BTreeMap::<(bool, bool), usize>::new();
    for mesh in modes {
        for namespace in modes {
            for (workload, port) in modes
                .iter()
                .flat_map(|workload| modes.map(|port| (*workload, port)))
            {
                let text = [
                    MESH.to_owned(),
                    authentication("istio-system", "mesh", mesh, None),
                    authentication("s", "namespace", namespace, None),
                    authentication("s", "workload", workload, port),
                ]
                .concat();
                let generator = generator(&[&text]);
                let (client, server) = (tables(&generator, CLIENT), tables(&generator, SERVER));
                for (of_service, of_workload) in [(80, 8080), (90, 9090)] {
                    let (tls, plain) = takes(&server, of_workload);
                    let dials = dials_tls(&client, of_service);
                    assert!(
                        if dials { tls } else { plain },
                        "{of_service}: dials TLS: {dials}, takes TLS: {tls}, plaintext: {plain}\n{text}"
                    );
                    assert_eq!(
                        dials, tls,
                        "mutual TLS wherever it is taken: {of_service}\n{text}"
                    );
                    *seen.entry((tls, plain)).or_default() += 1;
                }
            }
        }
    }
    assert_eq!(
        seen.len(),
        3,
        "STRICT, PERMISSIVE and DISABLE were all met: {seen:?}"
    );
}

const NODES: [&str; 3] = [
    "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local",
    "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local",
    "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local",
];

/// Which of the nodes a document changes.
fn changes(document: &str) -> Vec<usize> {
    let (before, after) = (
        generator(&[SHOP, FEATURES]),
        generator(&[SHOP, FEATURES, document]),
    );
    let other = |node: &&str| tables(&before, node).resources != tables(&after, node).resources;
    (0..NODES.len()).filter(|at| other(&NODES[*at])).collect()
}

#[test]
fn policies_change_the_proxies_that_they_select() {
    let policy = |kind: &str, namespace: &str, spec: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: new, namespace: {namespace}}}\nspec: {spec}\n"
        )
    };
    let of = |labels: &str, rest: &str| format!("{{selector: {{matchLabels: {{{labels}}}}}, {rest}}}");
    let deny = "action: DENY, rules: [{to: [{operation: {paths: [/x]}}]}]";
    let keys = r#"jwtRules: [{issuer: i, jwks: '{"keys":[{"kty":"EC","x":"AQ","y":"AQ"}]}'}]"#;
    for (kind, rest) in [("AuthorizationPolicy", deny), ("RequestAuthentication", keys)] {
        for (document, expected) in [
            (policy(kind, "shop", &of("app: catalog", rest)), vec![1]),
            (policy(kind, "shop", &of("app: nobody", rest)), vec![]),
            (policy(kind, "elsewhere", &format!("{{{rest}}}")), vec![]),
            (policy(kind, "shop", &format!("{{{rest}}}")), vec![0, 1]),
            (
                policy(kind, "istio-system", &format!("{{{rest}}}")),
                vec![0, 1, 2],
            ),
            (
                policy(kind, "istio-system", &of("istio: ingressgateway", rest)),
                vec![2],
            ),
        ] {
            assert_eq!(changes(&document), expected, "{document}");
        }
    }
}
