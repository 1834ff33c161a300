//! WasmPlugins and TrafficExtensions on a real Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use envoygen::{Output, type_url};
use support::envoy::{request, run, validate};
use support::{SHOP, generator, tables};

const EDGE: &str = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";
const CATALOG: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";

/// The smallest module that Envoy takes: it has the ABI's version and a memory, and does
/// nothing.
const MODULE: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x09\x02\x60\0\0\x60\x01\x7f\x01\x7f\
    \x03\x03\x02\0\x01\
    \x05\x03\x01\0\x01\
    \x07\x2d\x03\x06memory\x02\0\x17proxy_abi_version_0_2_1\0\0\x06malloc\0\x01\
    \x0a\x09\x02\x02\0\x0b\x04\0\x41\0\x0b";

/// An extension in the root namespace, its spec in flow style.
fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: extensions.istio.io/v1alpha1, kind: {kind}, metadata: {{name: {name}, namespace: istio-system}}, spec: {spec}}}"
    )
}

fn output(node: &str, objects: &[String]) -> Output {
    let mut texts = vec![SHOP];
    texts.extend(objects.iter().map(String::as_str));
    tables(&generator(&texts), node)
}

/// The names of a listener's HTTP filters, chain by chain.
fn filters(output: &Output, listener: &str) -> Vec<Vec<String>> {
    let found = output.get(type_url::LISTENER, listener).unwrap();
    let json = envoygen::to_json(type_url::LISTENER, &found.bytes).unwrap();
    let names = |chain: &serde_json::Value| {
        let manager = chain["filters"].as_array().unwrap().last().unwrap().clone();
        let filters = manager["typed_config"]["http_filters"]
            .as_array()
            .unwrap()
            .clone();
        filters
            .iter()
            .map(|f| {
                f["name"]
                    .as_str()
                    .unwrap()
                    .rsplit(['.', '/'])
                    .next()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    json["filter_chains"]
        .as_array()
        .unwrap()
        .iter()
        .map(names)
        .collect()
}

#[test]
fn lua_sees_requests() {
    let text = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gate, namespace: shop}
spec: {address: 127.9.5.1, labels: {istio: gate}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gate, namespace: shop}
spec: {selector: {istio: gate}, servers: [{port: {number: 8081, protocol: HTTP, name: http}, bind: 127.9.5.1, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: teapot, namespace: shop}
spec: {hosts: ["*"], gateways: [gate], http: [{directResponse: {status: 200}}]}
---
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {name: lua, namespace: shop}
spec:
  selector: {matchLabels: {istio: gate}}
  match: [{mode: CLIENT, ports: [{number: 8081}]}]
  lua: {inlineCode: "function envoy_on_request(handle) handle:respond({[':status'] = '418'}, 'from lua') end"}
"#;
    let output = tables(
        &generator(&[text]),
        "router~127.9.5.1~gate.shop~shop.svc.cluster.local",
    );
    let Some(_envoy) = run(&output, "127.9.5.1:15000", |_| {}) else {
        return;
    };
    let answer = request("127.9.5.1:8081", "GET / HTTP/1.1", &[]).unwrap();
    assert!(answer.contains("418") && answer.contains("from lua"), "{answer}");
}

#[test]
fn phases_and_priorities_give_the_order() {
    let lua = |name: &str, rest: &str| {
        object(
            "TrafficExtension",
            name,
            &format!("{{lua: {{inlineCode: x = 1}}, {rest}}}"),
        )
    };
    let objects = [
        lua("last", "priority: 1"),
        lua("stats", "phase: STATS"),
        lua("authz-low", "phase: AUTHZ, priority: 1"),
        lua("authz-high", "phase: AUTHZ, priority: 9"),
        lua("authn", "phase: AUTHN"),
        lua("client", "match: [{mode: CLIENT}]"),
        lua("other-port", "match: [{mode: SERVER, ports: [{number: 9}]}]"),
        "{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: j, namespace: istio-system}, spec: {jwtRules: [{issuer: i, jwks: '{\"keys\": [{\"kty\": \"RSA\", \"n\": \"AQ\", \"e\": \"AQAB\"}]}'}]}}".to_owned(),
        "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: a, namespace: istio-system}, spec: {rules: [{}]}}".to_owned(),
    ];
    let expected = [
        "peer",
        "header_to_metadata",
        "authn",
        "jwt_authn",
        "authz-high",
        "authz-low",
        "rbac",
        "stats",
        "last",
        "router",
    ];
    assert_eq!(
        filters(&output(CATALOG, &objects), "127.1.0.21_8080")[0],
        expected
    );
    let edge = output(EDGE, &objects);
    let expected = [
        "authn",
        "jwt_authn",
        "authz-high",
        "authz-low",
        "rbac",
        "stats",
        "grpc_web",
        "alpn",
        "fault",
        "cors",
        "last",
        "client",
        "router",
    ];
    assert_eq!(filters(&edge, "127.1.0.1_8080")[0], expected);
}

#[test]
fn wasm_from_a_file_and_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugin.wasm");
    std::fs::write(&file, MODULE).unwrap();
    let spec = |url: &str, more: &str| {
        format!(
            "{{url: '{url}', pluginName: p, pluginConfig: {{a: 1}}, failStrategy: FAIL_OPEN, vmConfig: {{env: [{{name: A, value: b}}, {{name: HOME, valueFrom: HOST}}]}}{more}}}"
        )
    };
    let local = object(
        "WasmPlugin",
        "local",
        &spec(&format!("file://{}", file.display()), ""),
    );
    let tcp = object(
        "WasmPlugin",
        "tcp",
        &spec(&format!("file://{}", file.display()), ", type: NETWORK"),
    );
    let made = output(EDGE, &[local, tcp]);
    assert!(made.findings.is_empty(), "{:?}", made.findings);
    validate(&made);
    let modules = "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: modules, namespace: istio-system}, spec: {hosts: [modules.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 127.9.9.9}]}}";
    let remote = object(
        "WasmPlugin",
        "remote",
        &spec(
            "http://modules.example/p.wasm",
            &format!(", sha256: {}", "a".repeat(64)),
        ),
    );
    let made = output(EDGE, &[modules.to_owned(), remote]);
    assert!(made.findings.is_empty(), "{:?}", made.findings);
    let listener = made.get(type_url::LISTENER, "127.1.0.1_8080").unwrap();
    let json = envoygen::to_json(type_url::LISTENER, &listener.bytes)
        .unwrap()
        .to_string();
    assert!(
        json.contains("\"cluster\":\"outbound|80||modules.example\""),
        "{json}"
    );
    assert!(
        listener
            .origins
            .iter()
            .any(|key| key.to_string() == "WasmPlugin istio-system/remote")
    );
}

/// Checks what is reported of a WasmPlugin, which then is not there.
fn check_refused(spec: &str, expected: &str) {
    let made = output(EDGE, &[object("WasmPlugin", "bad", spec)]);
    let said: Vec<String> = made.findings.iter().map(ToString::to_string).collect();
    assert!(
        said.iter()
            .any(|said| said.contains("WasmPlugin istio-system/bad") && said.contains(expected)),
        "{said:?}"
    );
    assert!(!filters(&made, "127.1.0.1_8080")[0].contains(&"istio-system.bad".to_owned()));
    validate(&made);
}

#[test]
fn what_envoy_cannot_load_is_reported() {
    check_refused("{url: 'oci://registry.example/x:1'}", "oci");
    check_refused("{url: 'registry.example/x:1'}", "oci");
    check_refused("{url: 'http://modules.example/x.wasm'}", "sha256");
    check_refused(
        &format!(
            "{{url: 'http://modules.example/x.wasm', sha256: {}}}",
            "a".repeat(64)
        ),
        "ServiceEntry",
    );
    check_refused("{url: 'file:///x.wasm', verificationKey: k}", "verificationKey");
}
