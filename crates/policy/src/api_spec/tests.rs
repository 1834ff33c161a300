//! What specifications say of requests, as data.

use std::sync::Arc;

use config::mesh::MeshConfig;

use super::cookie;
use crate::http::{HeaderMap, query_of};
use crate::request::{Party, Request};
use crate::rules::Rules;
use crate::workload::{ServiceView, WorkloadView};

const SPEC: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: HTTPAPISpec
metadata: {name: pets, namespace: shop}
spec:
  attributes:
    attributes:
      api.service: {stringValue: petstore.example.com}
      api.version: {stringValue: v1}
  patterns:
  - {httpMethod: GET, uriTemplate: "/pets/{id}", attributes: {attributes: {api.operation: {stringValue: getPet}}}}
  - {httpMethod: GET, uriTemplate: "/pets/new", attributes: {attributes: {api.operation: {stringValue: newPet}}}}
  - {httpMethod: POST, regex: "/v2/.*", attributes: {attributes: {api.operation: {stringValue: second}, api.version: {stringValue: v2}}}}
  apiKeys: [{query: token}, {header: X-Token}, {cookie: session}]
---
apiVersion: config.istio.io/v1alpha2
kind: HTTPAPISpecBinding
metadata: {name: pets, namespace: shop}
spec: {services: [{name: pets}], apiSpecs: [{name: pets}]}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: only, namespace: shop}
spec: {compiledAdapter: listchecker, params: {overrides: [OK]}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: seen, namespace: shop}
spec:
  compiledTemplate: listentry
  params: {value: 'EXPRESSION'}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: r, namespace: shop}
spec: {actions: [{handler: only, instances: [seen]}]}
"#;

fn own() -> WorkloadView {
    let service = |name: &str, port: u16| ServiceView {
        host: format!("{name}.shop.svc.cluster.local"),
        name: name.into(),
        namespace: "shop".into(),
        ports: vec![port],
        labels: None,
    };
    let identity = model::Identity::new("cluster.local", "shop", "pets");
    let services = vec![service("pets", 8080), service("plain", 8081)];
    WorkloadView::new(
        "pets-v1",
        &identity,
        Arc::default(),
        Some([10, 0, 0, 9].into()),
        services,
    )
}

fn rules(text: &str) -> (Rules, Vec<String>) {
    let parsed = config::parse("test.yaml", text.as_bytes(), "shop");
    let objects: Vec<_> = parsed.objects.into_iter().map(Arc::new).collect();
    let (rules, findings) = Rules::build(&objects, &MeshConfig::default().with_defaults());
    (rules, findings.iter().map(ToString::to_string).collect())
}

/// The value of the expression for a request, as the list's refusal shows it; `-` when it is absent.
fn seen(expression: &str, port: u16, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let (rules, findings) = rules(&SPEC.replace("EXPRESSION", expression));
    assert_eq!(findings, [] as [String; 0]);
    let own = own();
    let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let headers: std::collections::BTreeMap<_, _> = headers.collect();
    let (headers, query) = (HeaderMap(&headers), query_of(path));
    let request = Request {
        destination: Party {
            workload: Some(&own),
            port: Some(port),
            ..Party::default()
        },
        service: own.service(Some(port), None),
        headers: Some(&headers),
        path: Some(path),
        query: Some(&query),
        method: Some(method),
        ..Request::default()
    };
    let message = rules.check(&request, None).message;
    let value = message
        .strip_prefix("only.shop:")
        .and_then(|m| m.strip_suffix(" is not whitelisted"));
    value.map_or_else(|| "-".to_owned(), str::to_owned)
}

#[test]
fn operations_follow_method_and_path() {
    let operation = |method: &str, path: &str| seen("api.operation", 8080, method, path, &[]);
    assert_eq!(operation("GET", "/pets/7?x=y"), "getPet");
    assert_eq!(operation("GET", "/pets/new"), "newPet", "the more exact template");
    assert_eq!(operation("POST", "/pets/7"), "-");
    assert_eq!(operation("POST", "/v2/x?y"), "second");
    assert_eq!(operation("GET", "/other"), "-");
    assert_eq!(seen("api.version", 8080, "GET", "/other", &[]), "v1");
    assert_eq!(seen("api.version", 8080, "POST", "/v2/", &[]), "v2");
    assert_eq!(seen("api.service", 8080, "GET", "/", &[]), "petstore.example.com");
    assert_eq!(
        seen("api.service", 8081, "GET", "/", &[]),
        "plain.shop.svc.cluster.local"
    );
    assert_eq!(seen("api.protocol", 8080, "GET", "/", &[]), "http");
}

#[test]
fn keys_stand_where_the_specification_says() {
    let key =
        |port: u16, path: &str, headers: &[(&str, &str)]| seen("request.api_key", port, "GET", path, headers);
    assert_eq!(key(8080, "/?token=a", &[("x-token", "b")]), "a");
    assert_eq!(key(8080, "/", &[("x-token", "b"), ("cookie", "session=c")]), "b");
    assert_eq!(key(8080, "/", &[("cookie", "x=1; session=\"c\"")]), "c");
    assert_eq!(key(8080, "/?key=d", &[("x-api-key", "e")]), "-");
    assert_eq!(key(8081, "/?key=d", &[("x-api-key", "e")]), "d");
}

/// The proxy sends what keys and operations are found by, and does not decide by itself on what a specification gives.
#[test]
fn proxies_send_what_specifications_read() {
    use crate::requirements::{Direction, Headers, Ports, Traffic};
    let (rules, _) = rules(&SPEC.replace("EXPRESSION", "request.api_key | api.service"));
    let traffic = Traffic {
        direction: Direction::Inbound,
        tcp: false,
    };
    let needs = rules.requirements_at(&own(), traffic, Ports::Only(8080));
    let expected = ["cookie", "x-api-key", "x-token"].map(str::to_owned).into();
    assert_eq!(needs.checks[0].headers, Headers::Named(expected));
    let by_service = SPEC.replace("EXPRESSION", "api.service");
    let (rules, _) = self::rules(&by_service);
    let at = |port: u16| rules.requirements_at(&own(), traffic, Ports::Only(port));
    assert_eq!((at(8080).refusals.len(), at(8080).checks.len()), (0, 1));
    assert_eq!((at(8081).refusals.len(), at(8081).checks.len()), (1, 0));
}

#[test]
fn what_cannot_be_used_is_named() {
    let says = |from: &str, to: &str, expected: &str| {
        let text = SPEC.replace("EXPRESSION", "api.operation").replace(from, to);
        let (_, findings) = rules(&text);
        assert!(
            findings.iter().any(|f| f.contains(expected)),
            "{expected}: {findings:?}"
        );
    };
    says("/pets/{id}", "/pets/{id", "has a { without }");
    says(
        "api.version: {stringValue: v1}",
        "source.user: {stringValue: root}",
        "what the request itself says",
    );
    says(
        "api.version: {stringValue: v1}",
        "api.version: {int64Value: 1}",
        "no value of type STRING",
    );
    says(
        "apiSpecs: [{name: pets}]",
        "apiSpecs: [{name: cats}]",
        "there is no HTTPAPISpec shop/cats",
    );
}

#[test]
fn cookies() {
    assert_eq!(cookie("a=1; b=2", "b"), Some("2"));
    assert_eq!(cookie("a=1,b=2=3", "b"), Some("2=3"));
    assert_eq!(cookie("ab=1", "b"), None);
}
