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
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log};
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, data_source, substitution_format_string::Format,
};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
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
    /// Sends it on a connection that stays; status, head and body of the answer.
    fn send(&self, to: &mut BufReader<TcpStream>, case: usize) -> (u16, String, String) {
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
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
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
        let mut proxy = BufReader::new(TcpStream::connect("127.11.1.3:8080").unwrap());
        for (number, text) in &texts {
            for _ in 0..3 {
                let sent = sent().new_tree(&mut runner).unwrap().current();
                let verdict = sent.verdict(&rules, &own, *number);
                let (status, head, body) = sent.send(&mut proxy, *number);
                let place = || format!("{sent:?}\n{text}\n{verdict:?}\n{head}{body}");
                assert_eq!(status, verdict.http_status, "{}", place());
                if verdict.is_ok() {
                    passed += 1;
                    continue;
                }
                refused += 1;
                assert_eq!(body, verdict.body, "{}", place());
                for change in &verdict.response_headers {
                    let policy::HeaderChange::Replace(name, value) = change else {
                        panic!("{change:?}")
                    };
                    assert!(head.contains(&format!("{name}: {value}\r\n")), "{}", place());
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

#[test]
fn the_first_of_several_refusals_answers() {
    let deny = |code: u8| format!("compiledAdapter: denier, params: {{status: {{code: {code}}}}}");
    // Both are about the same requests; a later name comes later, whatever the order in which they are written.
    let later = rule(5, "true", &deny(16), r#""1""#).replace("c5", "c0");
    let (_, running) = start(5, &(later + &rule(0, "true", &deny(7), r#""1""#)));
    let Some(_running) = running else { return };
    let answer = request("127.11.5.3:8080", "GET / HTTP/1.1", &["x-case: c0"]).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.ends_with("PERMISSION_DENIED:h0.shop:"),
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

const QUOTA: &str = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: h, namespace: shop}, spec: {compiledAdapter: memquota, params: {quotas: [{name: q.instance.shop, maxAmount: 1, validDuration: 10s}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: q, namespace: shop}, spec: {compiledTemplate: quota, params: {dimensions: {ip: source.ip}}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpec, metadata: {name: q, namespace: shop}, spec: {rules: [{quotas: [{quota: q, charge: 1}]}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: QuotaSpecBinding, metadata: {name: q, namespace: shop}, spec: {quotaSpecs: [{name: q}], services: [{name: echo}]}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: q, namespace: shop}, spec: {actions: [{handler: h, instances: [q]}]}}
"#;

/// A client that could choose the address by which it is counted would get past any quota by it.
#[test]
fn a_quota_by_address_goes_by_the_connection() {
    let mesh = MESH.replace("127.11.N.", "127.11.4.");
    let generator = generator(&[&mesh, QUOTA]);
    let (rules, own) = policies(&generator);
    let quotas = rules.requirements_at(&own, INBOUND, Ports::Only(8080)).quotas;
    let asked = quotas[0]
        .entries
        .iter()
        .find(|entry| entry.key == "source.address")
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let edit = |bootstrap: &mut Bootstrap| {
        plaintext(bootstrap);
        let listener = &mut bootstrap.static_resources.as_mut().unwrap().listeners[0];
        let filter = listener.filter_chains[0].filters.last_mut().unwrap();
        let mut manager = support::manager(filter).unwrap();
        manager.access_log = vec![file_log(&log, &format!("[%CEL({})%]", asked.cel))];
        filter.config_type = Some(FilterConfig::TypedConfig(envoy_types::util::pack_any(manager)));
    };
    let node = "sidecar~127.11.4.2~echo-v1.shop~shop.svc.cluster.local";
    let Some(_running) = run(&tables(&generator, node), "127.11.4.2:15000", edit) else {
        return;
    };
    request("127.11.4.3:8080", "GET / HTTP/1.1", &["x-forwarded-for: 9.9.9.9"]).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let seen = loop {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        if text.contains(']') {
            break text;
        }
        assert!(std::time::Instant::now() < until, "no entry");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert!(seen.starts_with("[127.0.0.1:"), "{seen}");
}

fn file_log(path: &std::path::Path, format: &str) -> AccessLog {
    let format = SubstitutionFormatString {
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(format.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    };
    let config = FileAccessLog {
        path: path.display().to_string(),
        access_log_format: Some(AccessLogFormat::LogFormat(format)),
    };
    AccessLog {
        name: "file".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(envoy_types::util::pack_any(
            config,
        ))),
        ..Default::default()
    }
}
