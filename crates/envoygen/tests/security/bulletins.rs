//! Bulletins whose remedy is in what proxies are told (docs/security.md).

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use prost::Message;
use serde_json::Value;

use crate::authorizers::authorizer;
use crate::support::{FEATURES, SHOP, generator, tables};
use crate::{CATALOG, EDGE, FRONTEND};

/// All TLS contexts within a table that show the mesh's certificate.
fn mesh_tls(value: &Value, found: &mut Vec<Value>) {
    let secrets = &value["tls_certificate_sds_secret_configs"];
    if secrets
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["name"] == "default"))
    {
        found.push(value.clone());
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|field| mesh_tls(field, found)),
        Value::Array(items) => items.iter().for_each(|item| mesh_tls(item, found)),
        _ => {}
    }
}

#[test]
fn istio_security_2020_003_there_is_no_mutual_tls_without_validation() {
    let mut found = Vec::new();
    for node in [FRONTEND, CATALOG, EDGE] {
        let output = tables(&generator(&[SHOP, FEATURES]), node);
        for url in [envoygen::type_url::LISTENER, envoygen::type_url::CLUSTER] {
            for resource in output.of_type(url) {
                mesh_tls(&envoygen::to_json(url, &resource.bytes).unwrap(), &mut found);
            }
        }
    }
    assert!(found.len() > 5, "{}", found.len());
    for context in found {
        // While the roots have not come Envoy refuses connections: the names are checked in the same context as the roots.
        let both = &context["combined_validation_context"];
        assert_eq!(
            both["validation_context_sds_secret_config"]["name"], "ROOTCA",
            "{context}"
        );
        let names = &both["default_validation_context"]["match_typed_subject_alt_names"];
        assert!(
            names.as_array().is_some_and(|names| !names.is_empty()),
            "{context}"
        );
    }
}

#[test]
fn istio_security_2024_004_an_authorizers_answer_is_bounded() {
    for provider in ["http", "grpc"] {
        let bytes = authorizer(provider)["max_denied_response_body_bytes"].as_u64();
        assert!(
            bytes.is_some_and(|bytes| bytes > 0 && bytes <= 1 << 20),
            "{provider} {bytes:?}"
        );
    }
}

/// Another namespace's routes for a service of the shop and for a host that is nobody's.
const STRANGER: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: capture, namespace: stranger}
spec:
  hosts: [anybody.example, stock.shop.svc.cluster.local]
  gateways: [mesh, istio-system/edge]
  http: [{route: [{destination: {host: evil.stranger.svc.cluster.local, port: {number: 80}}}]}]
---
{apiVersion: v1, kind: Service, metadata: {name: evil, namespace: stranger}, spec: {selector: {app: evil}, ports: [{name: http, port: 80}]}}
"#;

/// Whether a proxy sends requests for a host where the stranger wants them.
fn captured(shop: &str, stranger: &str, node: &str, host: &str) -> bool {
    let output = tables(&generator(&[shop, stranger]), node);
    let all = output.of_type(envoygen::type_url::ROUTES);
    let mut hosts = all.flat_map(|found| {
        RouteConfiguration::decode(found.bytes.clone())
            .unwrap()
            .virtual_hosts
    });
    hosts.any(|found| {
        let own = found.domains.iter().any(|domain| domain.starts_with(host));
        own && format!("{:?}", found.routes).contains("evil.stranger")
    })
}

#[test]
fn istio_security_2026_002_who_names_namespaces_is_not_captured_by_others() {
    let sidecar = |shop: &str| captured(shop, STRANGER, FRONTEND, "stock.shop");
    assert!(!sidecar(SHOP), "its Sidecar names its own namespace alone");
    assert!(
        sidecar(&SHOP.replace("./*", "*/*")),
        "who names all namespaces takes the routes of all"
    );
    let edge = |shop: &str, stranger: &str| captured(shop, stranger, EDGE, "anybody.example");
    assert!(!edge(
        &SHOP.replace(r#"hosts: ["*"]"#, r#"hosts: ["shop/*"]"#),
        STRANGER
    ));
    assert!(
        edge(SHOP, STRANGER),
        "as in Istio, a gateway that names no namespace takes the routes of all"
    );
    let private = STRANGER.replace("  gateways:", "  exportTo: ['.']\n  gateways:");
    assert!(
        !edge(SHOP, &private),
        "routes that are for their own namespace are nobody else's"
    );
}
