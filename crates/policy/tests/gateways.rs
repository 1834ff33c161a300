//! What gateways ask about requests that they send, and what is decided then.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeMap;

use common::{DENIER, QUOTA, rules, workload};
use policy::{
    Asked, Check, GatewayView, HeaderMap, Headers, Party, ReporterKind, Request, Rules, ServiceView, Target,
    Windows,
};

fn service(name: &str, namespace: &str) -> ServiceView {
    ServiceView {
        host: format!("{name}.{namespace}.svc.cluster.local"),
        name: name.into(),
        namespace: namespace.into(),
        ports: vec![80],
        labels: None,
    }
}

/// What the gateway of namespace edge asks about a service.
fn asked(rules: &Rules, service: &ServiceView, guarded: bool, tcp: bool) -> Vec<Check> {
    let labels = BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]);
    let gateway = GatewayView {
        namespace: "edge",
        labels: &labels,
    };
    rules.checks_to(gateway, Target { service, guarded }, tcp)
}

/// The denier's rule with another predicate.
fn deny(condition: &str) -> String {
    let (before, behind) = DENIER.split_once("  match: ").unwrap();
    let (_, behind) = behind.split_once('\n').unwrap();
    format!("{before}  match: '{condition}'\n{behind}")
}

#[test]
fn rules_that_may_hold_for_what_is_sent_are_asked() {
    let ratings = service("ratings", "shop");
    let check = |condition: &str, expected: bool| {
        let asked = asked(&rules(&deny(condition)), &ratings, false, false);
        assert_eq!(!asked.is_empty(), expected, "{condition}");
    };
    check(r#"request.headers["x-user"] == "mallory""#, true);
    check(r#"destination.service.name == "ratings""#, true);
    check(r#"destination.service.name == "details""#, false);
    check(r#"source.labels["istio"] == "ingressgateway""#, true);
    check(r#"source.labels["istio"] == "egressgateway""#, false);
    check(r#"source.namespace == "edge""#, true);
    check(r#"source.name == "edge-1""#, true);
    check(r#"context.reporter.kind == "outbound""#, true);
    check(r#"context.reporter.kind == "inbound""#, false);
    check(r#"context.protocol == "grpc""#, true);
    check(r#"context.protocol == "tcp""#, false);
    // The workload is not chosen yet.
    check(r#"destination.labels["app"] == "ratings""#, false);
    check(r#"(destination.labels["app"] | "none") == "none""#, true);
}

#[test]
fn rules_of_the_service_of_the_gateway_and_of_the_root_are_asked() {
    let of = |namespace: &str, called: &str| {
        let text = deny("true").replace("namespace: shop", &format!("namespace: {namespace}"));
        asked(&rules(&text), &service("ratings", called), false, false).len()
    };
    assert_eq!(of("shop", "shop"), 1);
    assert_eq!(of("edge", "shop"), 1);
    assert_eq!(of("istio-system", "shop"), 1);
    assert_eq!(of("other", "shop"), 0);
}

#[test]
fn what_decides_by_itself_is_asked_about_only_where_it_cannot() {
    let ratings = service("ratings", "shop");
    let guarded = |condition: &str| !asked(&rules(&deny(condition)), &ratings, true, false).is_empty();
    assert!(!guarded("true") && !guarded(r#"request.headers["x-user"] == "mallory""#));
    assert!(guarded(r#"context.reporter.kind == "outbound""#));
    assert!(guarded(
        r#"context.reporter.local == false && request.method == "GET""#
    ));
    assert!(asked(&rules(QUOTA), &ratings, true, false).is_empty());
}

#[test]
fn a_check_tells_what_its_rules_and_quotas_read() {
    let ratings = service("ratings", "shop");
    let quota = asked(&rules(QUOTA), &ratings, false, false).remove(0);
    let read = ["x-internal", "x-user"].map(str::to_owned);
    assert_eq!(
        (quota.rules, quota.headers),
        (vec!["quota.istio-system".to_owned()], Headers::Named(read.into()))
    );
    assert!(asked(&rules(QUOTA), &service("details", "shop"), false, false).is_empty());
    // Connections are charged nothing.
    assert!(asked(&rules(QUOTA), &ratings, false, true).is_empty());
    let checks = asked(&rules(&deny("true")), &ratings, false, true);
    assert_eq!(checks[0].rules, ["denyv3.shop"]);
}

/// A request by the gateway `reviews` to ratings.
fn sent<T>(called: &ServiceView, then: impl FnOnce(&Request<'_>) -> T) -> T {
    let gateway = workload("reviews", "v1");
    let headers = BTreeMap::from([("x-user".to_owned(), "jason".to_owned())]);
    let headers = HeaderMap(&headers);
    then(&Request {
        reporter: ReporterKind::Outbound,
        source: Party {
            workload: Some(&gateway),
            ..Party::default()
        },
        service: Some(called),
        headers: Some(&headers),
        ..Request::default()
    })
}

fn by<'a>(rules: &[&'a str]) -> Asked<'a> {
    Asked {
        fail_open: Some(false),
        rules: Some(rules.to_vec()),
    }
}

#[test]
fn what_is_sent_is_decided_on_by_the_services_rules() {
    let condition = r#"destination.service.name == "ratings" && source.labels["app"] == "reviews""#;
    let rules = rules(&deny(condition));
    let verdict = |name: &str, namespace: &str, asked: &[&str]| {
        sent(&service(name, namespace), |request| {
            rules.check_asked(request, &by(asked)).is_ok()
        })
    };
    assert!(!verdict("ratings", "shop", &["denyv3.shop"]));
    assert!(verdict("details", "shop", &["denyv3.shop"]));
    // A name that is known no more asks for all.
    assert!(!verdict("ratings", "shop", &["was-denyv3.shop"]));
}

#[test]
fn what_is_sent_is_charged_if_its_rule_is_asked() {
    let rules = rules(QUOTA);
    let ratings = service("ratings", "shop");
    let mut windows = Windows::default();
    let mut charge = |asked: &Asked<'_>| {
        sent(&ratings, |request| {
            common::charge(rules.check_due(request, asked), &mut windows, 0).is_ok()
        })
    };
    // One for jason.
    assert!(charge(&by(&["quota.istio-system"])));
    assert!(!charge(&by(&["quota.istio-system"])));
    let open = Asked {
        fail_open: Some(true),
        rules: None,
    };
    assert!(charge(&open), "it is of the other failure mode");
}
