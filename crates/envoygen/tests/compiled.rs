//! Rules that a proxy decides by itself, on a real Envoy: the same verdict as Mixer's for random rules and requests, and no call.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write;

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoygen::Generator;
use policy::{Direction, HeaderMap, Party, Ports, Request, Rules, Traffic, Verdict, WorkloadView};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::envoy::{Running, echo, request, run};
use support::{generator, tables};

/// A workload with a proxy, on addresses of one test: `N` in them is the test's number.
const MESH: &str = r#"
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

const ATOMS: [&str; 27] = [
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
];

fn condition() -> impl Strategy<Value = String> {
    let atom = prop::sample::select(ATOMS.to_vec()).prop_map(|atom| format!("({atom})"));
    atom.prop_recursive(3, 10, 2, |inner| {
        let op = prop::sample::select(vec!["&&", "||", "==", "!=", "|"]);
        (inner.clone(), op, inner).prop_map(|(a, op, b)| format!("({a} {op} {b})"))
    })
}

/// A handler's specification, and the value that it looks up.
fn action() -> impl Strategy<Value = (String, String)> {
    let denier = prop::sample::select(vec![
        "compiledAdapter: denier, params: {status: {code: 7, message: 'no 100% and 50%'}}",
        "compiledAdapter: denier, params: {}",
        "compiledAdapter: denier, params: {status: {code: 16, details: [{'@type': x.DirectHttpResponse, code: 418, body: go, headers: {x-why: 5%}}]}}",
        "compiledAdapter: denier, params: {status: {code: 14, details: [{'@type': x.DirectHttpResponse, code: 503}]}}",
    ]);
    let list = (
        prop::sample::select(vec![
            r#"overrides: [jason, none, shop, /a, nobody]"#,
            r#"overrides: [Jason, GOLD, SHOP], entryType: CASE_INSENSITIVE_STRINGS"#,
            r#"overrides: ["^j", "a$", "/a/.*"], entryType: REGEX"#,
        ]),
        any::<bool>(),
        prop::sample::select(vec![
            r#"request.headers["x-user"]"#,
            r#"request.headers["x-user"] | "none""#,
            r#"request.headers["x-user"] | request.headers["x-tier"] | "jason""#,
            "request.url_path",
            r#"source.namespace | "shop""#,
            r#"destination.labels["app"]"#,
        ]),
    );
    let networks = (
        prop::sample::select(vec!["[10.0.0.0/8, 127.0.0.0/30]", "[10.1.0.1]", "[]"]),
        any::<bool>(),
    );
    prop_oneof![
        denier.prop_map(|spec| (spec.to_owned(), r#""1""#.to_owned())),
        list.prop_map(|(list, blacklist, value)| {
            let spec = format!("compiledAdapter: listchecker, params: {{{list}, blacklist: {blacklist}}}");
            (spec, value.to_owned())
        }),
        networks.prop_map(|(list, blacklist)| {
            let spec = format!(
                "compiledAdapter: listchecker, params: {{overrides: {list}, entryType: IP_ADDRESSES, blacklist: {blacklist}}}"
            );
            (spec, "source.ip".to_owned())
        }),
    ]
}

/// A rule for requests of its own, told by the header `x-case`.
fn rule(number: usize, condition: &str, handler: &str, value: &str) -> String {
    let condition = format!(r#"request.headers["x-case"] == "c{number}" && {condition}"#);
    let text = |text: &str| serde_json::to_string(text).unwrap();
    format!(
        "---\n{{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {{name: h{number}, namespace: shop}}, spec: {{{handler}}}}}\n\
         ---\n{{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {{name: i{number}, namespace: shop}}, spec: {{compiledTemplate: listentry, params: {{value: {}}}}}}}\n\
         ---\n{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: r{number}, namespace: shop}}, spec: {{match: {}, actions: [{{handler: h{number}, instances: [i{number}]}}]}}}}\n",
        text(value),
        text(&condition)
    )
}

/// A request over HTTP in plaintext.
#[derive(Clone, Debug)]
struct Sent {
    headers: Vec<(&'static str, &'static str)>,
    method: &'static str,
    path: &'static str,
}

fn sent() -> impl Strategy<Value = Sent> {
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
    /// Sends it; status and the whole answer.
    fn send(&self, to: &str, case: usize) -> (u16, String) {
        let mut lines: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        lines.extend([
            format!("x-case: c{case}"),
            "host: ratings".to_owned(),
            "content-length: 0".to_owned(),
        ]);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = request(to, &format!("{} {} HTTP/1.1", self.method, self.path), &lines).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    /// The verdict of Mixer.
    fn verdict(&self, rules: &Rules, own: &WorkloadView, case: usize) -> Verdict {
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
        rules.check(&request, None)
    }
}

/// The workload's listener with its chain for plaintext alone.
fn plaintext(bootstrap: &mut Bootstrap) {
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

fn start(number: u8, rules: &str) -> (Generator, Option<Running>) {
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
fn policies(generator: &Generator) -> (Rules, WorkloadView) {
    let snapshot = generator.snapshot();
    let (rules, findings) = Rules::build(snapshot.objects().values(), snapshot.mesh());
    let errors: Vec<_> = findings.iter().filter(|finding| finding.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    let own = WorkloadView::of(snapshot, snapshot.workloads().get("shop", "echo-v1").unwrap());
    (rules, own)
}

const INBOUND: Traffic = Traffic {
    direction: Direction::Inbound,
    tcp: false,
};

/// Rules in one Envoy; as many as `PROPTEST_CASES` says in all.
const BATCH: usize = 250;

#[test]
fn compiled_rules_decide_as_mixer_does() {
    let mut config = Config::default();
    config.failure_persistence = None;
    let cases = usize::try_from(config.cases).unwrap();
    let seed = [7; 32];
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    echo("127.11.1.2:8080");
    let (mut refused, mut passed) = (0, 0);
    for batch in 0..cases.div_ceil(BATCH) {
        let numbers = batch * BATCH..cases.min((batch + 1) * BATCH);
        let mut texts = BTreeMap::new();
        for number in numbers {
            let condition = condition().new_tree(&mut runner).unwrap().current();
            let (handler, value) = action().new_tree(&mut runner).unwrap().current();
            texts.insert(number, rule(number, &condition, &handler, &value));
        }
        // Those that stay with Mixer would need one.
        let mesh = MESH.replace("127.11.N.", "127.11.1.");
        let all: String = texts.values().map(String::as_str).collect();
        let (rules, own) = policies(&generator(&[&mesh, &all]));
        let remote = rules.requirements_at(&own, INBOUND, Ports::Only(8080)).checks;
        let remote: Vec<String> = remote.into_iter().flat_map(|check| check.rules).collect();
        texts.retain(|number, _| !remote.contains(&format!("r{number}.shop")));
        let all: String = texts.values().map(String::as_str).collect();
        let (generator, running) = start(1, &all);
        let Some(running) = running else { return };
        // The dump names all that Envoy has; what is configured is named by its type.
        let dump = running.page("/config_dump", "mixer-000000");
        assert!(!dump.contains("type.googleapis.com/envoy.extensions.filters.http.ext_authz"));
        let (rules, own) = policies(&generator);
        for (number, text) in &texts {
            for _ in 0..3 {
                let sent = sent().new_tree(&mut runner).unwrap().current();
                let verdict = sent.verdict(&rules, &own, *number);
                let (status, answer) = sent.send("127.11.1.3:8080", *number);
                let place = || format!("{sent:?}\n{text}\n{verdict:?}\n{answer}");
                assert_eq!(status, verdict.http_status, "{}", place());
                if verdict.is_ok() {
                    passed += 1;
                    continue;
                }
                refused += 1;
                let (head, body) = answer.split_once("\r\n\r\n").unwrap();
                assert_eq!(body, verdict.body, "{}", place());
                for change in &verdict.response_headers {
                    let policy::HeaderChange::Replace(name, value) = change else {
                        panic!("{change:?}")
                    };
                    assert!(
                        head.contains(&format!("{name}: {value}\r\n"))
                            || head.ends_with(&format!("{name}: {value}")),
                        "{}",
                        place()
                    );
                }
            }
        }
    }
    assert!(
        refused > cases / 4 && passed > cases / 4,
        "{refused} refused, {passed} passed"
    );
}

#[test]
fn a_refusal_over_grpc_is_one_of_grpc() {
    let handler = "compiledAdapter: denier, params: {status: {code: 7, message: no}}".replace("no}", "'no'}");
    let (_, running) = start(2, &rule(0, "true", &handler, r#""1""#));
    let Some(_running) = running else { return };
    echo("127.11.2.2:8080");
    let headers = [
        "x-case: c0",
        "content-type: application/grpc",
        "content-length: 0",
    ];
    let answer = request("127.11.2.3:8080", "POST /a.B/c HTTP/1.1", &headers).unwrap();
    assert!(
        answer.contains("grpc-status: 7\r\n")
            && answer.contains("grpc-message: PERMISSION_DENIED:h0.shop:no"),
        "{answer}"
    );
}

/// Where Mixer alone can tell, it is asked about those requests for which a rule may hold. There is no Mixer here.
#[test]
fn mixer_is_asked_only_where_a_rule_may_hold() {
    let deny = "compiledAdapter: denier, params: {}";
    let condition = r#"request.url_path == "/asked" && source.labels["app"] == "web""#;
    let (_, running) = start(3, &rule(0, condition, deny, r#""1""#));
    let Some(running) = running else { return };
    echo("127.11.3.2:8080");
    let status = |path: &str, case: &str| {
        let answer = request(
            "127.11.3.3:8080",
            &format!("GET {path} HTTP/1.1"),
            &[&format!("x-case: c{case}")],
        );
        answer.unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("/", "0"), "200");
    assert_eq!(status("/asked", "1"), "200");
    assert_eq!(status("/asked", "0"), "503", "it fails closed");
    assert_eq!(status("/", "0"), "200");
    let page = running.page(
        "/stats?filter=ext_authz.mixer_closed",
        "ext_authz.mixer_closed.error",
    );
    assert!(page.contains("mixer_closed.error: 1\n"), "{page}");
    assert!(page.contains("mixer_closed.disabled: 3\n"), "{page}");
}
