//! Header operations: requests and responses have the headers that Mixer would give them, and no call is made.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::TcpStream;
use std::time::Duration;

use policy::{HeaderChange, Ports};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::asked::{Asked, lead};
use crate::mesh::{INBOUND, MESH, condition, plaintext, policies, runner, sent, start};
use crate::support::envoy::{echo, request, run};
use crate::support::{generator, tables};

const VALUES: [&str; 9] = [
    r#""fixed 100% 'so'""#,
    r#""""#,
    r#"request.headers["x-user"]"#,
    r#"request.headers["x-user"] | "none""#,
    r#"request.headers["x-user"] | request.headers["x-tier"] | "50%""#,
    r#"conditional(request.method == "GET", request.path, "changed")"#,
    "request.url_path",
    r#"destination.labels["app"]"#,
    r#"request.headers["x-none"]"#,
];

fn operation() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["x-user", "x-tier", "X-New", "x-other"]);
    let kind = prop::sample::select(vec!["REPLACE", "APPEND"]);
    let values = prop::collection::vec(prop::sample::select(VALUES.to_vec()), 1..3);
    (name, kind, values).prop_map(|(name, kind, values)| {
        let values: Vec<String> = values.iter().map(|v| serde_json::to_string(v).unwrap()).collect();
        format!(
            "{{name: {name}, operation: {kind}, values: [{}]}}",
            values.join(", ")
        )
    })
}

/// A rule for requests of its own, told by the header `x-case`.
fn rule(number: usize, condition: &str, requests: &[String], responses: &[String]) -> String {
    let condition = format!(r#"request.headers["x-case"] == "c{number}" && {condition}"#);
    format!(
        "---\n{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: r{number}, namespace: shop}}, spec: {{match: {}, requestHeaderOperations: [{}], responseHeaderOperations: [{}]}}}}\n",
        serde_json::to_string(&condition).unwrap(),
        requests.join(", "),
        responses.join(", "),
    )
}

type Headers = BTreeMap<String, Vec<String>>;

fn headers(head: &str) -> Headers {
    let mut out = Headers::new();
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        out.entry(name.to_owned()).or_default().push(value.to_owned());
    }
    out
}

fn apply(headers: &mut Headers, changes: &[HeaderChange]) {
    for change in changes {
        match change {
            HeaderChange::Replace(name, value) => {
                headers.insert(name.clone(), vec![value.clone()]);
            }
            HeaderChange::Append(name, value) => headers.entry(name.clone()).or_default().push(value.clone()),
            HeaderChange::Remove(name) => {
                headers.remove(name);
            }
        }
    }
}

/// The values of the headers that rules speak of; repeated ones may be joined on the way.
fn shown(headers: &Headers) -> BTreeMap<&str, String> {
    let names = ["x-user", "x-tier", "x-new", "x-other"];
    let found = names
        .iter()
        .filter_map(|name| Some((*name, headers.get(*name)?.join(","))));
    found.collect()
}

#[test]
fn compiled_operations_change_what_mixer_changes() {
    let mut runner = runner();
    let cases = usize::try_from(runner.config().cases).unwrap().min(150);
    let mut some = |least: usize| {
        let all = prop::collection::vec(operation(), least..3);
        all.new_tree(&mut runner).unwrap().current()
    };
    let lists: Vec<_> = (0..cases).map(|_| (some(1), some(0))).collect();
    let mut texts = BTreeMap::new();
    for (number, (requests, responses)) in lists.iter().enumerate() {
        let condition = condition().new_tree(&mut runner).unwrap().current();
        texts.insert(number, rule(number, &condition, requests, responses));
    }
    // Each rule by itself: all of them change the same headers, and one that stayed with Mixer would keep the others there.
    let mesh = MESH.replace("127.11.N.", "127.11.6.");
    texts.retain(|_, text| {
        let (rules, own) = policies(&generator(&[&mesh, text]));
        rules
            .requirements_at(&own, INBOUND, Ports::Only(8080))
            .checks
            .is_empty()
    });
    assert!(texts.len() > cases / 2, "{} of {cases} are compiled", texts.len());
    let all: String = texts.values().map(String::as_str).collect();
    let (generator, running) = start(6, &all);
    let Some(running) = running else { return };
    echo("127.11.6.2:8080");
    let dump = running.page("/config_dump", "mixer-operations");
    assert!(!dump.contains("type.googleapis.com/envoy.extensions.filters.http.ext_authz"));
    let (rules, own) = policies(&generator);
    let mut proxy = BufReader::new(TcpStream::connect("127.11.6.3:8080").unwrap());
    let mut changed = 0;
    for (number, text) in &texts {
        for _ in 0..3 {
            let sent = sent().new_tree(&mut runner).unwrap().current();
            let verdict = sent.verdict(&rules, &own, *number);
            let (status, head, body) = sent.send(&mut proxy, *number);
            let place = || format!("{sent:?}\n{text}\n{verdict:?}\n{head}{body}");
            assert_eq!(status, 200, "{}", place());
            let mut expected = sent.headers();
            apply(&mut expected, &verdict.request_headers);
            assert_eq!(shown(&headers(&body)), shown(&expected), "{}", place());
            let mut expected = Headers::new();
            apply(&mut expected, &verdict.response_headers);
            assert_eq!(shown(&headers(&head)), shown(&expected), "{}", place());
            changed += verdict.request_headers.len() + verdict.response_headers.len();
        }
    }
    assert!(changed > texts.len() / 4, "{changed} changes");
}

/// A refusal behind the values has not the response's headers, and a header can be taken away.
#[test]
fn operations_end_where_a_request_is_refused() {
    let set = |name: &str| format!("{{name: {name}, operation: REPLACE, values: ['\"yes\"']}}");
    let mesh_wide = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: set, namespace: shop}, spec: {match: 'destination.port == 8080', requestHeaderOperations: [{name: x-gone, operation: REMOVE}], responseHeaderOperations: [SET, {name: X-Why, operation: REMOVE}, {name: x-powered-by, operation: REMOVE}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: deny, namespace: shop}, spec: {compiledAdapter: denier, params: {status: {code: 9, details: [{"@type": x.DirectHttpResponse, code: 400, headers: {x-why: here}}]}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: one, namespace: shop}, spec: {compiledTemplate: checknothing}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: here, namespace: shop}, spec: {match: 'request.url_path == "/no"', actions: [{handler: deny, instances: [one]}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: there, namespace: shop}, spec: {match: 'request.url_path == "/ask" && source.labels["app"] == "x"', actions: [{handler: deny, instances: [one]}]}}
"#;
    let (_, running) = start(7, &mesh_wide.replace("SET", &set("x-seen")));
    let Some(_running) = running else { return };
    echo("127.11.7.2:8080");
    let answer =
        |path: &str| request("127.11.7.3:8080", &format!("GET {path} HTTP/1.1"), &["x-gone: 1"]).unwrap();
    let passed = answer("/");
    assert!(
        passed.contains("x-seen: yes\r\n") && !passed.contains("x-gone") && !passed.contains("x-powered-by"),
        "{passed}"
    );
    let refused = answer("/no");
    assert!(
        refused.starts_with("HTTP/1.1 400") && !refused.contains("x-seen") && refused.contains("x-why: here"),
        "{refused}"
    );
    // There is no Mixer here.
    let refused = answer("/ask");
    assert!(
        refused.starts_with("HTTP/1.1 503") && !refused.contains("x-seen"),
        "{refused}"
    );
}

/// Mixer's answer says so, and other answers keep theirs. What Mixer says that it cannot decide, for good, is not asked again.
#[test]
fn mixer_takes_a_header_out_of_a_response() {
    let rule = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: quiet, namespace: shop}, spec: {match: '(request.headers["x-user"] == "quiet" || request.headers["x-user"] == "down") && source.labels["app"] == "x"', responseHeaderOperations: [{name: X-Powered-By, operation: REMOVE}]}}
"#;
    let mesh = MESH.replace("127.11.N.", "127.11.23.");
    let (asked, port) = Asked::serve(Duration::ZERO);
    let edit = |bootstrap: &mut _| {
        plaintext(bootstrap);
        lead(bootstrap, port);
    };
    let node = "sidecar~127.11.23.2~echo-v1.shop~shop.svc.cluster.local";
    let output = tables(&generator(&[&mesh, rule]), node);
    let Some(_running) = run(&output, "127.11.23.2:15000", edit) else {
        return;
    };
    echo("127.11.23.2:8080");
    let check = |user: &str, kept: bool| {
        let answer = request("127.11.23.3:8080", "GET / HTTP/1.1", &[user]).unwrap();
        let there = answer.contains("x-powered-by: ");
        assert!(
            answer.starts_with("HTTP/1.1 200") && there == kept,
            "{user}: {answer}"
        );
    };
    check("x-user: quiet", false);
    check("x-user: jason", true);
    check("x-user: quiet", false);
    asked.take();
    let refused = request("127.11.23.3:8080", "GET / HTTP/1.1", &["x-user: down"]).unwrap();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert_eq!(asked.take().len(), 1, "calls");
}
