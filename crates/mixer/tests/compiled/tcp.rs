//! Connections that are not HTTP: each rule has a port of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use policy::{Direction, Ports, Traffic};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use crate::client::{Caller, connect};
use crate::mesh::{policies, runner};
use crate::pair::{self, Pair, TCP, TCP_PORTS, forced};

const INBOUND_TCP: Traffic = Traffic {
    direction: Direction::Inbound,
    tcp: true,
};

const ATOMS: [&str; 16] = [
    r#"source.principal == "cluster.local/ns/shop/sa/web""#,
    r#"source.principal != "cluster.local/ns/shop/sa/web""#,
    r#"(source.principal | "none") == "none""#,
    r#"source.principal.endsWith("job")"#,
    r#"(source.user | "none").startsWith("cluster")"#,
    r#"source.namespace == "shop""#,
    r#"(source.namespace | "shop").startsWith("sh")"#,
    r#"(source.serviceAccount | "none") != "web""#,
    r#"source.ip == ip("127.0.0.1")"#,
    r#"source.ip != ip("127.0.0.1")"#,
    "connection.mtls",
    "connection.mtls == false",
    r#"destination.labels["app"] == "echo""#,
    r#"(destination.labels["none"] | "x") == "x""#,
    r#"(request.headers["x-user"] | "none") == "none""#,
    r#"request.headers["x-user"] == "jason""#,
];

fn condition() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(ATOMS.to_vec()).prop_map(|atom| format!("({atom})"));
    atom.prop_recursive(3, 8, 2, |inner| {
        let op = prop::sample::select(vec!["&&", "||", "==", "!=", "|"]);
        (inner.clone(), op, inner).prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    })
}

/// A handler, and the value that it looks up.
fn action() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("compiledAdapter: denier, params: {}", r#""1""#),
        (
            "compiledAdapter: listchecker, params: {overrides: [shop, nobody], blacklist: true}",
            r#"source.namespace | "nobody""#,
        ),
        (
            "compiledAdapter: listchecker, params: {overrides: [shop], blacklist: false}",
            "source.namespace",
        ),
        (
            "compiledAdapter: listchecker, params: {overrides: [127.0.0.0/30], entryType: IP_ADDRESSES, blacklist: true}",
            "source.ip",
        ),
        (
            "compiledAdapter: listchecker, params: {overrides: ['/sa/web$'], entryType: REGEX, blacklist: true}",
            r#"source.principal | "none""#,
        ),
    ])
}

/// A rule for the connections of a port.
fn rule(port: u16, condition: &str, (handler, value): (&str, &str)) -> String {
    let condition = format!("destination.port == {port} && {condition}");
    let text = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        "---\n{{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {{name: h{port}, namespace: shop}}, spec: {{{handler}}}}}\n\
         ---\n{{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {{name: i{port}, namespace: shop}}, spec: {{compiledTemplate: listentry, params: {{value: {}}}}}}}\n\
         ---\n{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: r{port}, namespace: shop}}, spec: {{match: {}, actions: [{{handler: h{port}, instances: [i{port}]}}]}}}}\n",
        text(value),
        text(&condition)
    )
}

/// An application that says what it is told.
pub(crate) fn repeat(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 64];
                while let Ok(read) = stream.read(&mut bytes) {
                    if read == 0 || stream.write_all(&bytes[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Whether a connection reaches the application.
fn passes(pair: &Pair, proxy: u8, port: u16, caller: Caller) -> bool {
    let mut stream = connect(pair, pair.place.block.addr(proxy, port), caller);
    let mut answer = [0; 5];
    let told = stream.write_all(b"hello").and_then(|()| stream.flush());
    told.and_then(|()| stream.read_exact(&mut answer))
        .is_ok_and(|()| &answer == b"hello")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_refused_by_a_proxy_that_decides_as_by_one_that_asks() {
    let mut runner = runner();
    let batches = crate::cases().div_ceil(crate::BATCH);
    let (mut refused, mut passed, mut compiled) = (0, 0, 0);
    for _ in 0..batches {
        let mut rules: Vec<_> = (TCP..TCP + TCP_PORTS)
            .map(|port| {
                let condition = condition().new_tree(&mut runner).unwrap().current();
                (port, condition, action().new_tree(&mut runner).unwrap().current())
            })
            .collect();
        let pair = Pair::of(|place| {
            rules.retain(|(port, condition, action)| {
                let generator = place.generator(pair::COMPILED, &rule(*port, condition, *action));
                let (rules, echo) = policies(&generator);
                let asks = rules
                    .requirements_at(&echo, INBOUND_TCP, Ports::Only(*port))
                    .checks;
                asks.is_empty()
            });
            let own = rules
                .iter()
                .map(|(port, condition, action)| rule(*port, condition, *action));
            let asked = rules
                .iter()
                .map(|(port, condition, action)| rule(*port, &forced(condition), *action));
            (own.collect(), asked.collect())
        });
        let Some(pair) = pair.await else { return };
        compiled += rules.len();
        for (port, condition, action) in &rules {
            for caller in Caller::ALL {
                let own = passes(&pair, pair::COMPILED, *port, caller);
                let other = passes(&pair, pair::ASKED, *port, caller);
                assert_eq!(own, other, "{caller:?} {port} {condition} {action:?}");
                refused += usize::from(!own);
                passed += usize::from(own);
            }
        }
        // Of rules that can hold for no connection nobody is asked about.
        let may_hold = rules.iter().filter(|(port, condition, action)| {
            let rule = rule(*port, &forced(condition), *action);
            let (rules, echo) = policies(&pair.place.generator(pair::ASKED, &rule));
            let required = rules.requirements_at(&echo, INBOUND_TCP, Ports::Only(*port));
            !required.checks.is_empty()
        });
        let calls = may_hold.count() * Caller::ALL.len();
        if calls > 0 {
            let page = pair
                .asked
                .page("/stats?filter=mixer_closed", "ext_authz.mixer_closed.total");
            let asked = format!("ext_authz.mixer_closed.total: {calls}\n");
            assert!(page.contains(&asked), "{asked} {page}");
        }
        assert_eq!(crate::calls(&pair.compiled), 0);
    }
    println!("{compiled} rules are compiled; {refused} connections refused, {passed} passed");
    assert!(compiled >= batches && refused + passed == compiled * 3);
}
