//! Routes by a verified token's claims, at a gateway that is a real Envoy (Istio, "JWT claim based routing").

use serde_json::{Value, json};

use crate::certificates::Signer;
use crate::mesh::block;
use crate::policies::ONE;
use crate::support::{envoy, generator, tables};

fn mesh(block: &str, jwks: &str) -> String {
    let jwks = jwks.replace('"', "\\\"");
    format!(
        r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: gateway, namespace: istio-system}}
spec: {{address: {block}.1, labels: {{istio: ingressgateway}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: istio-system}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: 8080, protocol: HTTP, name: http}}, bind: {block}.1, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: app, namespace: shop}}
spec: {{hosts: [app.example], location: MESH_EXTERNAL, ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8000}}], resolution: STATIC, endpoints: [{{address: {block}.2}}]}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{istio: ingressgateway}}}}
  jwtRules: [{{issuer: "{ONE}", jwks: "{jwks}"}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: app, namespace: shop}}
spec:
  hosts: ["*"]
  gateways: [istio-system/edge]
  http:
  - match: [{{headers: {{"@request.auth.claims.groups": {{exact: admin}}}}}}]
    headers: {{request: {{set: {{x-route: by-group}}}}}}
    route: [{{destination: {{host: app.example}}}}]
  - match: [{{headers: {{"@request.auth.claims[realm][roles]": {{prefix: bo}}}}, withoutHeaders: {{"@request.auth.claims.sub": {{exact: bob}}}}}}]
    headers: {{request: {{set: {{x-route: by-role}}}}}}
    route: [{{destination: {{host: app.example}}}}]
  - headers: {{request: {{set: {{x-route: usual}}}}}}
    route: [{{destination: {{host: app.example}}}}]
"#
    )
}

#[test]
fn requests_go_where_a_verified_tokens_claims_say() {
    let (block, signer) = (block(), Signer::new());
    let text = mesh(&block, &signer.jwks);
    let generator = generator(&[&text]);
    let output = tables(
        &generator,
        &format!("router~{block}.1~gateway.istio-system~istio-system.svc.cluster.local"),
    );
    envoy::echo(&format!("{block}.2:8000"));
    let Some(_envoy) = envoy::run(&output, &format!("{block}.3:8001"), |_| {}) else {
        return;
    };
    let gateway = format!("{block}.1:8080");
    let ask = |token: Option<String>, more: &[&str]| {
        let token = token.map(|token| format!("authorization: Bearer {token}"));
        let headers: Vec<&str> = token
            .iter()
            .map(String::as_str)
            .chain(more.iter().copied())
            .collect();
        envoy::request(&gateway, "GET / HTTP/1.1", &headers)
            .unwrap()
            .to_ascii_lowercase()
    };
    let check = |claims: Value, expected: &str| {
        let mut all = json!({"iss": ONE, "sub": "alice"});
        all.as_object_mut()
            .unwrap()
            .extend(claims.as_object().unwrap().clone());
        let seen = ask(Some(signer.sign(&all)), &[]);
        assert!(seen.contains(&format!("x-route: {expected}")), "{claims} {seen}");
    };
    check(json!({"groups": "admin"}), "by-group");
    check(json!({"groups": ["staff", "admin"]}), "by-group");
    check(json!({"groups": ["administrators"]}), "usual");
    check(json!({"realm": {"roles": ["x", "boss"]}}), "by-role");
    check(json!({"realm": {"roles": ["boss"]}, "sub": "bob"}), "usual");
    check(json!({"roles": ["boss"]}), "usual");
    check(json!({}), "usual");
    // Without a token nothing is claimed, whatever headers are called.
    let forged = ask(None, &["x-route: by-group", "request.auth.claims.groups: admin"]);
    assert!(forged.contains("x-route: usual"), "{forged}");
    let stranger = Signer::new().sign(&json!({"iss": ONE, "sub": "alice", "groups": "admin"}));
    assert!(ask(Some(stranger), &[]).contains(" 401 "));
}
