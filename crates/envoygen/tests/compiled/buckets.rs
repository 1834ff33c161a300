//! Quotas that each proxy counts by itself: what Mixer would grant for random rules and requests, and no call.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::TcpStream;

use policy::{Ports, Windows};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::mesh::{INBOUND, MESH, condition, policies, runner, sent, start};
use crate::support::envoy::{echo, request};
use crate::support::generator;

/// A quota `QN` with its rule, whose handler lets each proxy count; `limits` are those of the handler.
fn rule(number: usize, condition: &str, dimensions: &str, limits: &str, charge: u32) -> String {
    let condition = serde_json::to_string(condition).unwrap();
    format!(
        r#"
---
{{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {{name: h{number}, namespace: shop, annotations: {{policy.argosy.io/quota-scope: proxy}}}}, spec: {{compiledAdapter: memquota, params: {{quotas: [{{name: q{number}.instance.shop, {limits}}}]}}}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {{name: q{number}, namespace: shop}}, spec: {{compiledTemplate: quota, params: {{dimensions: {{{dimensions}}}}}}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpec, metadata: {{name: q{number}, namespace: shop}}, spec: {{rules: [{{quotas: [{{quota: q{number}, charge: {charge}}}]}}]}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpecBinding, metadata: {{name: q{number}, namespace: shop}}, spec: {{quotaSpecs: [{{name: q{number}}}], services: [{{name: echo}}]}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: r{number}, namespace: shop}}, spec: {{match: {condition}, actions: [{{handler: h{number}, instances: [q{number}]}}]}}}}
"#
    )
}

const DIMENSIONS: [&str; 6] = [
    "",
    r#"user: 'request.headers["x-user"] | "none"'"#,
    r#"user: 'request.headers["x-user"] | request.headers["x-tier"] | ""', ip: source.ip"#,
    r#"user: 'source.principal | "nobody"', app: 'destination.labels["app"] | "none"'"#,
    r#"path: 'request.url_path | "/"', method: 'request.method | ""'"#,
    r#"quota: 'source.ip | ip("0.0.0.0")'"#,
];

const LIMITS: [&str; 3] = [
    "maxAmount: 1, validDuration: 3600s",
    "maxAmount: 5, validDuration: 3600s",
    "maxAmount: 2, validDuration: 3600s, overrides: [{dimensions: {app: echo}, maxAmount: 3, validDuration: 3600s}]",
];

#[test]
fn proxies_grant_what_mixer_would() {
    let mut runner = runner();
    let cases = usize::try_from(runner.config().cases).unwrap().min(60);
    let mut texts = BTreeMap::new();
    for number in 0..cases {
        let condition = condition().new_tree(&mut runner).unwrap().current();
        let condition = format!(r#"request.headers["x-case"] == "c{number}" && {condition}"#);
        let mut one_of = |all: &[&'static str]| {
            prop::sample::select(all.to_vec())
                .new_tree(&mut runner)
                .unwrap()
                .current()
        };
        let (dimensions, limits) = (one_of(&DIMENSIONS), one_of(&LIMITS));
        let charge = 1 + u32::try_from(number).unwrap() % 2;
        texts.insert(number, rule(number, &condition, dimensions, limits, charge));
    }
    // What stays with Mixer is asked about all requests, and refused here.
    let mesh = MESH.replace("127.11.N.", "127.11.21.");
    let all: String = texts.values().map(String::as_str).collect();
    let (rules, own) = policies(&generator(&[&mesh, &all]));
    let remote = rules.requirements_at(&own, INBOUND, Ports::Only(8080)).quotas;
    let remote: Vec<String> = remote.into_iter().map(|quota| quota.rule).collect();
    texts.retain(|number, _| !remote.contains(&format!("r{number}.shop")));
    assert!(texts.len() > cases / 2, "{} of {cases} are compiled", texts.len());
    let all: String = texts.values().map(String::as_str).collect();
    let (generator, running) = start(21, &all);
    let Some(_running) = running else { return };
    echo("127.11.21.2:8080");
    let (rules, own) = policies(&generator);
    let mut windows = Windows::default();
    let mut proxy = BufReader::new(TcpStream::connect("127.11.21.3:8080").unwrap());
    let (mut granted, mut refused) = (0, 0);
    for (number, text) in &texts {
        for _ in 0..6 {
            let sent = sent().new_tree(&mut runner).unwrap().current();
            let due = sent.with_request(&own, *number, |request| {
                rules.due(&format!("r{number}.shop"), request)
            });
            let charged = due.and_then(|due| due.iter().try_for_each(|due| due.charge(&mut windows, 0)));
            let (status, head, body) = sent.send(&mut proxy, *number);
            let place = || format!("{sent:?}\n{text}\n{charged:?}\n{head}{body}");
            match &charged {
                Ok(()) => assert_eq!(status, 200, "{}", place()),
                Err(denial) => {
                    assert_eq!((status, &body), (429, &denial.body), "{}", place());
                    refused += 1;
                }
            }
            granted += usize::from(charged.is_ok());
        }
    }
    assert!(granted > cases && refused > cases / 4, "{granted} and {refused}");
}

#[test]
fn a_quota_of_each_proxy_costs_no_call_and_names_itself() {
    let quota = rule(
        0,
        r#"request.url_path.startsWith("/limited")"#,
        r#"user: 'request.headers["x-user"] | "none"'"#,
        "maxAmount: 3, validDuration: 3600s",
        1,
    );
    let (generator, running) = start(22, &quota);
    let (rules, own) = policies(&generator);
    let required = rules.requirements_at(&own, INBOUND, Ports::Only(8080));
    assert!(
        required.quotas.is_empty() && required.checks.is_empty(),
        "{required:?}"
    );
    let Some(running) = running else { return };
    echo("127.11.22.2:8080");
    // There is no Mixer here, and nobody who would ask it.
    let dump = running.page("/config_dump", "mixer_quota");
    assert!(
        !dump.contains("type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3")
            && !dump.contains("argosy.check"),
        "{dump}"
    );
    let ask = |path: &str, headers: &[&str]| {
        request("127.11.22.3:8080", &format!("GET {path} HTTP/1.1"), headers).unwrap()
    };
    for user in ["x-user: jason", "x-user: anna", "x-user: "] {
        for _ in 0..3 {
            assert!(ask("/limited", &[user]).starts_with("HTTP/1.1 200"), "{user}");
        }
        let over = ask("/limited/more", &[user]);
        assert!(
            over.starts_with("HTTP/1.1 429")
                && over.ends_with("RESOURCE_EXHAUSTED:Quota is exhausted for: q0")
                && !over.contains("x-argosy"),
            "{over}"
        );
        assert!(ask("/free", &[user]).starts_with("HTTP/1.1 200"), "{user}");
    }
    let grpc = ask("/limited", &["x-user: jason", "content-type: application/grpc"]);
    assert!(
        grpc.starts_with("HTTP/1.1 200") && grpc.contains("grpc-status: 8\r\n"),
        "{grpc}"
    );
    running.page("/stats?filter=mixer_quota", "rate_limited: 4");
}
