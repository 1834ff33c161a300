//! A workload with its proxy, and random predicates and requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoygen::Generator;
use policy::{Direction, HeaderMap, Party, Request, Rules, Traffic, Verdict, WorkloadView};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use crate::support::envoy::{Running, run};
use crate::support::{generator, tables};

/// A workload with a proxy, on addresses of one test: `N` in them is the test's number.
pub(crate) const MESH: &str = r#"
{apiVersion: v1, kind: Service, metadata: {name: echo, namespace: shop}, spec: {selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: echo-v1, namespace: shop}
spec: {address: 127.11.N.2, labels: {app: echo, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: echo, namespace: shop}
spec:
  workloadSelector: {labels: {app: echo}}
  ingress:
  - {port: {number: 8080, protocol: HTTP, name: http}, bind: 127.11.N.3, captureMode: NONE, defaultEndpoint: "127.11.N.2:8080"}
  egress: [{hosts: ["~/*"]}]
"#;

pub(crate) const ATOMS: [&str; 32] = [
    r#"request.headers["x-user"] == "jason""#,
    r#"request.headers["X-User"] != "jason""#,
    r#"(request.headers["x-user"] | "jason") == "jason""#,
    r#"(request.headers["x-user"] | request.headers["x-tier"] | "none") != "gold""#,
    r#"(request.headers["x-user"] | request.headers["x-tier"]) == "gold""#,
    r#"(request.headers["x-tier"]).startsWith("go") | false"#,
    r#"(request.headers["x-tier"] | "").endsWith("n")"#,
    r#"match(request.headers["x-tier"], "g*")"#,
    r#"match((request.headers["x-tier"] | "tin"), "*n")"#,
    r#""^/a(/|$)".matches(request.url_path)"#,
    r#""[[:digit:]]$".matches(request.path)"#,
    r#""(?i)JASON|an+a".matches(request.headers["x-user"] | "JaSoN")"#,
    r#""^.{3}\\d".matches(request.path)"#,
    r#"toLower(request.headers["x-user"]) == "jason""#,
    r#"toLower(request.headers["x-tier"] | "GOLD") != "gold""#,
    r#"request.url_path == "/a""#,
    r#"request.path.endsWith("1")"#,
    r#"request.method == "GET" || request.method == "POST""#,
    r#"request.host == "ratings""#,
    r#"(request.useragent | "") == "curl""#,
    r#"context.protocol == "http""#,
    r#"destination.labels["app"] == "echo" && destination.port == 8080"#,
    r#"(destination.labels["none"] | "x") == "x""#,
    r#"(source.principal | "none") == "none""#,
    r#"(source.namespace | "shop").startsWith("sh")"#,
    r#"source.ip == ip("127.0.0.1")"#,
    r#"connection.mtls == false"#,
    r#"source.principal == "cluster.local/ns/shop/sa/web""#,
    r#"(source.user | "a").endsWith("web")"#,
    r#"source.namespace == "shop""#,
    r#"(source.serviceAccount | "none") != "web""#,
    r#"connection.mtls"#,
];

/// Where random rules and requests come from, others each time. A test that fails shows the number by which `PROPTEST_RNG_SEED`
/// gives them again; `PROPTEST_CASES` says how many.
pub(crate) fn runner() -> TestRunner {
    let given = std::env::var("PROPTEST_RNG_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| seed.parse().expect("PROPTEST_RNG_SEED"));
    println!("PROPTEST_RNG_SEED={seed}");
    TestRunner::new(Config {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    })
}

pub(crate) fn condition() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(ATOMS.to_vec()).prop_map(|atom| format!("({atom})"));
    atom.prop_recursive(3, 10, 2, |inner| {
        let op = prop::sample::select(vec!["&&", "||", "==", "!=", "|"]);
        (inner.clone(), op, inner).prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    })
}

/// A request over HTTP in plaintext.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    headers: Vec<(&'static str, &'static str)>,
    method: &'static str,
    path: &'static str,
}

pub(crate) fn sent() -> impl Strategy<Value = Sent> {
    let header = |name: &'static str, values: &'static [&'static str]| {
        prop::option::of(prop::sample::select(values)).prop_map(move |value| value.map(|value| (name, value)))
    };
    let headers = (
        header("x-user", &["jason", "JASON", "anna", "", "none"]),
        header("x-user", &["jason", "x"]),
        header("x-tier", &["gold", "Gold", "tin", "\u{212a}"]),
        header("user-agent", &["curl", "other"]),
    );
    let (methods, paths) = (
        vec!["GET", "POST", "PUT"],
        vec!["/a", "/a/b", "/a/b?q=1", "/?q=2", "/bc1"],
    );
    (
        headers,
        prop::sample::select(methods),
        prop::sample::select(paths),
    )
        .prop_map(|((a, b, c, d), method, path)| Sent {
            headers: [a, b, c, d].into_iter().flatten().collect(),
            method,
            path,
        })
}

impl Sent {
    /// Its headers, repeated ones together.
    pub(crate) fn headers(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in &self.headers {
            all.entry((*name).to_owned())
                .or_default()
                .push((*value).to_owned());
        }
        all
    }

    /// Sends it on a connection that stays; status, head and body of the answer.
    pub(crate) fn send(&self, to: &mut BufReader<impl Read + Write>, case: usize) -> (u16, String, String) {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: ratings\r\ncontent-length: 0\r\nx-case: c{case}\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        to.get_mut().write_all(format!("{text}\r\n").as_bytes()).unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(to.read_line(&mut head).unwrap() > 0, "closed after {head}");
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        to.read_exact(&mut body).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, String::from_utf8_lossy(&body).into_owned())
    }

    /// The verdict of Mixer.
    pub(crate) fn verdict(&self, rules: &Rules, own: &WorkloadView, case: usize) -> Verdict {
        self.with_request(own, case, |request| rules.check(request, None))
    }

    /// Calls `then` with the request as Mixer sees it before it is answered.
    pub(crate) fn with_request<T>(
        &self,
        own: &WorkloadView,
        case: usize,
        then: impl FnOnce(&Request<'_>) -> T,
    ) -> T {
        let mut headers = BTreeMap::from([("x-case".to_owned(), format!("c{case}"))]);
        for (name, value) in &self.headers {
            let all = headers.entry((*name).to_owned());
            all.and_modify(|known| write!(known, ",{value}").unwrap())
                .or_insert_with(|| (*value).to_owned());
        }
        let headers = HeaderMap(&headers);
        let request = Request {
            source: Party {
                ip: Some([127, 0, 0, 1].into()),
                ..Party::default()
            },
            destination: Party {
                workload: Some(own),
                ip: own.ip,
                port: Some(8080),
                principal: Some(own.principal()),
            },
            service: own.service(Some(8080), Some("ratings")),
            mtls: Some(false),
            headers: Some(&headers),
            path: Some(self.path),
            method: Some(self.method),
            host: Some("ratings"),
            scheme: Some("http"),
            ..Request::default()
        };
        then(&request)
    }
}

/// The workload's listener with its chain for plaintext alone.
pub(crate) fn plaintext(bootstrap: &mut Bootstrap) {
    let listeners = &mut bootstrap.static_resources.as_mut().unwrap().listeners;
    listeners.retain(|listener| listener.name.ends_with("_8080"));
    let listener = listeners.first_mut().unwrap();
    listener
        .filter_chains
        .retain(|chain| chain.transport_socket.is_none());
    listener.filter_chains.truncate(1);
    listener.filter_chains[0].filter_chain_match = None;
    listener.listener_filters.clear();
}

pub(crate) fn start(number: u8, rules: &str) -> (Generator, Option<Running>) {
    let mesh = MESH.replace("127.11.N.", &format!("127.11.{number}."));
    let generator = generator(&[&mesh, rules]);
    let node = format!("sidecar~127.11.{number}.2~echo-v1.shop~shop.svc.cluster.local");
    let running = run(
        &tables(&generator, &node),
        &format!("127.11.{number}.2:15000"),
        plaintext,
    );
    (generator, running)
}

/// The rules of a mesh, and the workload as they see it.
pub(crate) fn policies(generator: &Generator) -> (Rules, WorkloadView) {
    let snapshot = generator.snapshot();
    let (rules, findings) = Rules::build(snapshot.objects().values(), snapshot.mesh());
    let errors: Vec<_> = findings.iter().filter(|finding| finding.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let own = WorkloadView::of(snapshot, snapshot.workloads().get("shop", "echo-v1").unwrap());
    (rules, own)
}

pub(crate) const INBOUND: Traffic = Traffic {
    direction: Direction::Inbound,
    tcp: false,
};
