//! What a workload's Envoy must ask.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{DENIER, QUOTA, build, rules, workload};
use policy::{
    Asked, DescriptorFacts, Direction, HeaderMap, Headers, Party, Request, Requirements, Rules, Traffic,
    Windows,
};

const INBOUND: Traffic = Traffic {
    direction: Direction::Inbound,
    tcp: false,
};

fn named(names: &[&str]) -> Headers {
    Headers::Named(names.iter().map(|n| (*n).to_owned()).collect())
}

#[test]
fn only_destinations_of_a_rule_ask_for_it() {
    let rules = rules(DENIER);
    let ratings = rules.requirements(&workload("ratings", "v1"), INBOUND);
    assert_eq!(ratings.checks.len(), 1);
    assert_eq!(
        (ratings.checks[0].fail_open, &ratings.checks[0].headers),
        (false, &named(&[]))
    );
    assert_eq!(ratings.checks[0].rules, ["denyv3.shop"]);
    assert_eq!(
        rules.requirements(&workload("reviews", "v3"), INBOUND),
        Requirements::default()
    );
    let outbound = Traffic {
        direction: Direction::Outbound,
        tcp: false,
    };
    assert!(
        rules
            .requirements(&workload("reviews", "v3"), outbound)
            .is_empty()
    );
}

#[test]
fn headers_that_rules_read_are_sent_and_no_others() {
    let check = |condition: &str, expected: Headers| {
        let yaml = DENIER.replace(
            r#"destination.labels["app"] == "ratings" && source.labels["app"] == "reviews" && source.labels["version"] == "v3""#,
            condition,
        );
        let requirements = rules(&yaml).requirements(&workload("ratings", "v1"), INBOUND);
        assert_eq!(requirements.checks[0].headers, expected, "{condition}");
    };
    check(
        r#"(request.headers["X-User"] | request.useragent) == "john" && source.uid == "x""#,
        named(&["user-agent", "x-user"]),
    );
    check(r#"request.headers[toLower(source.uid)] == "x""#, Headers::All);
    check(
        r#"context.protocol == "grpc" && source.uid == "x""#,
        named(&["content-type"]),
    );
}

#[test]
fn both_failure_modes_get_a_filter_each() {
    let open = DENIER.replace(
        "name: denyv3,",
        "name: openrule, annotations: {policy.argosy.io/fail-open: \"true\"},",
    );
    let rule = open.rsplit("---").next().unwrap();
    let rules = rules(&format!("{DENIER}---{rule}"));
    let modes: Vec<_> = rules
        .requirements(&workload("ratings", "v1"), INBOUND)
        .checks
        .iter()
        .map(|c| c.fail_open)
        .collect();
    assert_eq!(modes, [false, true]);
}

#[test]
fn tcp_is_asked_only_by_rules_that_can_hold_for_it() {
    let tcp = Traffic {
        direction: Direction::Inbound,
        tcp: true,
    };
    let ratings = workload("ratings", "v1");
    assert_eq!(rules(DENIER).requirements(&ratings, tcp).checks.len(), 1);
    let http = DENIER.replace(
        r#"source.labels["version"] == "v3""#,
        r#"request.method == "GET""#,
    );
    assert!(rules(&http).requirements(&ratings, tcp).checks.is_empty());
    assert_eq!(rules(&http).requirements(&ratings, INBOUND).checks.len(), 1);
}

#[test]
fn a_quota_is_asked_where_a_binding_charges_it() {
    let rules = rules(QUOTA);
    assert!(rules.requirements(&workload("details", "v1"), INBOUND).is_empty());
    let requirements = rules.requirements(&workload("ratings", "v1"), INBOUND);
    assert!(requirements.checks.is_empty());
    let descriptor = &requirements.quotas[0];
    let entries: Vec<(&str, &str)> = descriptor
        .entries
        .iter()
        .map(|e| (e.key.as_str(), e.cel.as_str()))
        .collect();
    let absent = r"'\u007f'";
    let header = |name: &str| format!("'{name}' in request.headers ? request.headers['{name}'] : {absent}");
    let (internal, user) = (header("x-internal"), header("x-user"));
    let principal =
        format!("has(connection.uri_san_peer_certificate) ? connection.uri_san_peer_certificate : {absent}");
    let source =
        format!("'argosy.source.address' in filter_state ? filter_state['argosy.source.address'] : {absent}");
    let host = format!("has(request.host) ? request.host : {absent}");
    let expected = [
        ("rule", "'quota.istio-system'"),
        ("destination.uid", "'kubernetes://ratings-v1.shop'"),
        ("request.headers[x-internal]", internal.as_str()),
        ("request.headers[x-user]", user.as_str()),
        ("request.host", host.as_str()),
        ("source.address", source.as_str()),
        ("destination.address", "destination.address"),
        ("source.principal", principal.as_str()),
    ];
    assert_eq!(entries, expected);
}

#[test]
fn a_quota_that_descriptors_cannot_express_goes_through_the_check() {
    let yaml = QUOTA.replace(
        r#"request.headers["x-user"] | "unknown""#,
        r#"request.auth.principal | "unknown""#,
    );
    let rules = rules(&yaml);
    let requirements = rules.requirements(&workload("ratings", "v1"), INBOUND);
    assert!(requirements.quotas.is_empty());
    assert_eq!(requirements.checks.len(), 1);
    assert!(requirements.checks[0].claims);
    let ratings = workload("ratings", "v1");
    let destination = Party {
        workload: Some(&ratings),
        port: Some(8080),
        ..Party::default()
    };
    let headers = BTreeMap::new();
    let headers = HeaderMap(&headers);
    let service = ratings.service(Some(8080), None);
    let request = Request {
        destination,
        service,
        headers: Some(&headers),
        ..Request::default()
    };
    let mut windows = Windows::default();
    let mut charge = || common::charge(rules.check_due(&request, &Asked::default()), &mut windows, 0);
    assert!(charge().and(charge()).and(charge()).is_ok());
    assert!(charge().is_err());
}

#[test]
fn what_descriptors_carry_gives_the_same_answer_as_the_request_itself() {
    let rules = rules(QUOTA);
    let (ratings, reviews) = (workload("ratings", "v1"), workload("reviews", "v2"));
    let entries = [
        ("rule", "quota.istio-system"),
        ("destination.uid", ratings.uid()),
        ("destination.address", "127.1.0.21:8080"),
        ("source.address", "127.1.0.30:4000"),
        ("source.principal", "spiffe://cluster.local/ns/shop/sa/reviews"),
        ("request.host", "ratings:7080"),
        ("request.headers[x-user]", "jason"),
    ];
    let facts = DescriptorFacts::read(entries).unwrap();
    let headers = facts.headers();
    let request = facts.request(&headers, &ratings, Some(&reviews), expr::Timestamp(0));
    let mut windows = Windows::default();
    assert!(common::charge(rules.due(&facts.rule, &request), &mut windows, 0).is_ok());
    assert!(
        common::charge(rules.due(&facts.rule, &request), &mut windows, 0).is_err(),
        "the override for jason allows one"
    );
}

#[test]
fn a_quotas_rule_that_was_renamed_is_charged_until_the_proxies_hear() {
    let rules = rules(QUOTA);
    let ratings = workload("ratings", "v1");
    let charged = |rule: &str, left_out: &str, asked: &str| {
        let entries = [
            ("rule", rule),
            ("destination.uid", ratings.uid()),
            ("destination.address", "127.1.0.21:8080"),
            ("source.address", "127.1.0.30:4000"),
            ("source.principal", "\u{7f}"),
            ("request.host", "ratings:7080"),
            ("request.headers[x-user]", "anna"),
            ("request.headers[x-internal]", "\u{7f}"),
        ];
        let entries = entries.into_iter().filter(|(key, _)| *key != left_out);
        let facts = DescriptorFacts::read(entries).unwrap();
        let headers = facts.headers();
        let request = facts.request(&headers, &ratings, None, expr::Timestamp(0));
        rules
            .due_by(&facts, |rule| rule == asked, &request)
            .unwrap()
            .len()
    };
    assert_eq!(charged("quota.istio-system", "", ""), 1);
    assert_eq!(
        charged("before.istio-system", "", ""),
        1,
        "whatever it is called now"
    );
    assert_eq!(
        charged("before.istio-system", "request.headers[x-internal]", ""),
        0,
        "it cannot be the one that reads a header which is not told"
    );
    assert_eq!(
        charged("before.istio-system", "", "quota.istio-system"),
        0,
        "a descriptor of its own charges it"
    );
}

#[test]
fn rules_for_metrics_ask_for_reports_with_their_headers() {
    let rules: Rules = rules(METRIC);
    for direction in [Direction::Inbound, Direction::Outbound] {
        let traffic = Traffic {
            direction,
            tcp: false,
        };
        let report = rules
            .requirements(&workload("ratings", "v1"), traffic)
            .report
            .unwrap();
        assert_eq!(
            report.request_headers,
            BTreeSet::from(["content-type".to_owned(), "x-tier".to_owned()])
        );
        assert_eq!(report.response_headers, BTreeSet::from(["x-cache".to_owned()]));
        assert_eq!(
            rules
                .requirements(&workload("ratings", "v1"), Traffic { direction, tcp: true })
                .report,
            None
        );
    }
}

const METRIC: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: prometheus
metadata: {name: handler, namespace: istio-system}
spec:
  metrics:
  - name: requests_total
    instance_name: count.metric.istio-system
    kind: COUNTER
    label_names: [tier, cache]
---
apiVersion: config.istio.io/v1alpha2
kind: metric
metadata: {name: count, namespace: istio-system}
spec:
  value: "1"
  dimensions:
    tier: request.headers["x-tier"] | "none"
    cache: response.headers["x-cache"] | "none"
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: prom, namespace: istio-system}
spec:
  match: context.protocol == "http"
  actions:
  - handler: handler.prometheus
    instances: [count.metric]
"#;

#[test]
fn a_quota_without_binding_is_never_charged_and_that_is_said() {
    let rule = QUOTA.rsplit("---").next().unwrap();
    let parts: Vec<&str> = QUOTA.split("---").take(2).collect();
    let (rules, findings) = build(&format!("{}---{rule}", parts.join("---")));
    assert!(rules.requirements(&workload("ratings", "v1"), INBOUND).is_empty());
    assert!(findings[0].to_string().contains("never charged"), "{findings:?}");
}
