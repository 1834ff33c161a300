//! Gateway API's kinds are read whole, judged by Gateway API's own rules, and named where they would be the mesh's to serve.

use std::sync::Arc;

use config::kube::gateway_api::unserved;
use config::{Object, parse};

fn words(yaml: &str) -> Vec<String> {
    parse("f.yaml", yaml.as_bytes(), "shop")
        .findings
        .iter()
        .map(|f| format!("{}: {}: {}", f.severity, f.path, f.message))
        .collect()
}

const NO_EFFECT: &str = "Gateway API is not served in this release, so this has no effect";

fn gateway(class: &str, listener: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\n\
         spec: {{gatewayClassName: {class}, listeners: [{listener}]}}\n"
    )
}

fn route(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {spec}\n"
    )
}

#[test]
fn what_is_bound_to_the_mesh_is_named() {
    let plain = "{name: http, port: 80, protocol: HTTP}";
    assert_eq!(
        words(&gateway("istio", plain)),
        [format!("warning: spec.gatewayClassName: {NO_EFFECT}")]
    );
    assert_eq!(words(&gateway("nginx", plain)), [""; 0]);
    assert_eq!(
        words(&route(
            "{parentRefs: [{name: edge}, {group: '', kind: Service, name: reviews, port: 80}]}"
        )),
        [format!("warning: spec.parentRefs[1]: {NO_EFFECT}")]
    );
}

#[test]
fn what_only_the_set_tells() {
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: mine}\n\
                 spec: {controllerName: istio.io/gateway-controller}\n";
    let plain = "{name: http, port: 80, protocol: HTTP}";
    let set = |class_of_gateway: &str| {
        let files = [
            class.to_owned(),
            gateway(class_of_gateway, plain),
            route("{parentRefs: [{name: edge}]}"),
        ];
        let objects: Vec<Arc<Object>> = files
            .iter()
            .flat_map(|file| parse("f.yaml", file.as_bytes(), "shop").objects)
            .map(Arc::new)
            .collect();
        unserved(&objects)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(set("other"), [""; 0]);
    let seen = set("mine");
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen[0].contains("Gateway shop/edge: spec.gatewayClassName: Gateway API is not served"));
    assert!(seen[1].contains("HTTPRoute shop/r: spec.parentRefs[0]: Gateway API is not served"));
}

#[test]
fn rules_of_gateways() {
    let cases = [
        (
            "{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}]}}",
            "",
        ),
        (
            "{name: a, port: 443, protocol: HTTPS, tls: {}}",
            "spec.listeners[0].tls.certificateRefs",
        ),
        (
            "{name: a, port: 443, protocol: HTTPS, tls: {mode: Passthrough}}",
            "spec.listeners[0].tls.mode",
        ),
        (
            "{name: a, port: 80, protocol: HTTP, tls: {mode: Passthrough}}",
            "spec.listeners[0].tls",
        ),
        (
            "{name: a, port: 80, protocol: TCP, hostname: a.b}",
            "spec.listeners[0].hostname",
        ),
        ("{name: a, port: 0, protocol: TCP}", "spec.listeners[0].port"),
        (
            "{name: a, port: 80, protocol: TCP}, {name: b, port: 80, protocol: TCP}",
            "spec.listeners[1]",
        ),
        (
            "{name: a, port: 80, protocol: TCP}, {name: a, port: 81, protocol: TCP}",
            "spec.listeners[1]",
        ),
        ("{port: 80, protocol: TCP}", "spec.listeners[0].name"),
    ];
    for (listeners, path) in cases {
        check(&gateway("nginx", listeners), path);
    }
}

#[test]
fn rules_of_routes() {
    let cases = [
        ("{rules: [{backendRefs: [{name: a, port: 80}]}]}", ""),
        (
            "{rules: [{backendRefs: [{name: a}]}]}",
            "spec.rules[0].backendRefs[0].port",
        ),
        (
            "{rules: [{matches: [{path: {value: a}}]}]}",
            "spec.rules[0].matches[0].path.value",
        ),
        (
            "{rules: [{matches: [{path: {type: RegularExpression, value: '('}}]}]}",
            "spec.rules[0].matches[0].path.value",
        ),
        (
            "{rules: [{filters: [{type: CORS, requestMirror: {backendRef: {name: a, port: 1}}}]}]}",
            "spec.rules[0].filters[0].requestMirror",
        ),
        (
            "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]}]}",
            "spec.rules[0].filters[0].requestRedirect.statusCode",
        ),
        (
            "{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}",
            "spec.rules[0].timeouts.backendRequest",
        ),
    ];
    for (spec, path) in cases {
        check(&route(spec), path);
    }
}

/// The first path that an error names; empty when nothing is wrong.
fn check(yaml: &str, path: &str) {
    let parsed = parse("f.yaml", yaml.as_bytes(), "shop");
    let paths: Vec<_> = parsed
        .findings
        .iter()
        .filter(|f| f.is_error())
        .map(|f| f.path.as_str())
        .collect();
    match path.is_empty() {
        true => assert_eq!(paths, [""; 0], "{yaml}"),
        false => assert!(paths.contains(&path), "{yaml}: {paths:?}"),
    }
}
