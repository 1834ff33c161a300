//! A workload is the same one by either family of its addresses.

use std::sync::Arc;

use envoy_types::pb::envoy::service::auth::v3::attribute_context::Peer;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest};
use policy::{Asked, Code};
use runtime::Metrics;

use super::address::tests::address;
use crate::clock::Clock;
use crate::engine::{Engine, Undecided};
use crate::testing::state;

const RULE: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: deny, namespace: shop}
spec: {compiledAdapter: denier, params: {status: {code: 7}}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: all, namespace: shop}
spec: {compiledTemplate: checknothing}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: closed, namespace: shop}
spec:
  match: source.labels["app"] == "guest" && destination.workload.name == "mysql"
  actions: [{handler: deny, instances: [all]}]
"#;

fn pod(name: &str, app: &str, set: &str, ips: [&str; 2]) -> String {
    let [first, second] = ips;
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: shop\n  labels: {{app: {app}}}\n\
         \x20 ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: {set}, uid: '1', controller: true}}]\n\
         spec: {{serviceAccountName: {app}, containers: [{{name: main, image: main}}]}}\n\
         status: {{phase: Running, podIP: '{first}', podIPs: [{{ip: '{first}'}}, {{ip: '{second}'}}]}}\n"
    )
}

fn engine() -> Arc<Engine> {
    let pods = [
        pod("mysql-0", "db", "mysql", ["10.0.0.1", "fd00::1"]),
        pod("mysql-1", "db", "mysql", ["fd00::2", "10.0.0.2"]),
        pod("other-0", "db", "other", ["10.0.0.3", "fd00::3"]),
        pod("guest-0", "guest", "guest", ["10.0.0.4", "fd00::4"]),
        pod("cook-0", "cook", "cook", ["10.0.0.5", "fd00::5"]),
    ];
    let texts: Vec<&str> = std::iter::once(RULE)
        .chain(pods.iter().map(String::as_str))
        .collect();
    let engine = Engine::new(&crate::Args::default(), Clock::new(|| 0), &Metrics::new());
    engine.configure(state(&texts));
    Arc::new(engine)
}

fn ask(engine: &Engine, from: &str, app: &str, to: &str) -> Result<Code, Undecided> {
    let peer = |place: &str| Peer {
        address: Some(address(place)),
        principal: format!("spiffe://cluster.local/ns/shop/sa/{app}"),
        ..Peer::default()
    };
    let request = CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(peer(from)),
            destination: Some(Peer {
                address: Some(address(to)),
                ..Peer::default()
            }),
            ..AttributeContext::default()
        }),
    };
    let asked = Asked::default();
    let asking = engine.check(&request, "cluster.local/ns/shop/sa/db", &asked, None);
    futures::executor::block_on(asking).map(|decision| decision.code)
}

#[test]
fn a_rule_on_labels_holds_for_either_family() {
    let engine = engine();
    let check = |app: &str, from: [&str; 2], expected: Code| {
        for from in from {
            for to in [
                "10.0.0.1:3306",
                "[fd00::1]:3306",
                "10.0.0.2:3306",
                "[fd00::2]:3306",
            ] {
                assert_eq!(ask(&engine, from, app, to), Ok(expected), "{from} {to}");
            }
        }
    };
    check(
        "guest",
        ["10.0.0.4:4000", "[fd00::4]:4000"],
        Code::PERMISSION_DENIED,
    );
    check("cook", ["10.0.0.5:4000", "[fd00::5]:4000"], Code::OK);
}

#[test]
fn a_replica_of_another_workload_is_told_apart_by_either_family() {
    let engine = engine();
    for to in ["10.0.0.3:3306", "[fd00::3]:3306"] {
        assert_eq!(ask(&engine, "[fd00::4]:4000", "guest", to), Ok(Code::OK), "{to}");
    }
    // An address that nobody has tells three workloads of one identity apart no more.
    let unknown = ask(&engine, "[fd00::4]:4000", "guest", "[fd00::9]:3306");
    assert!(matches!(unknown, Err(Undecided::UnknownCaller(_))), "{unknown:?}");
}
