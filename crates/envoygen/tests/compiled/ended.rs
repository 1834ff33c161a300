//! What rules report: the proxy counts and logs what Mixer would, for random rules and requests, and tells nobody.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::accesslog::v3::access_log;
use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType as FilterConfig;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog;
use policy::{HeaderMap, Ports, Reports, Response, Rules, WorkloadView};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};

use crate::mesh::{INBOUND, MESH, Sent, plaintext, policies, runner, sent};
use crate::support::envoy::{Running, echo, request, run};
use crate::support::{generator, manager, tables};

/// Conditions, of which the last three are Mixer's.
const CONDITIONS: [&str; 15] = [
    "true",
    r#"response.code == 200"#,
    r#"(response.code | 0) >= 400 || request.method == "GET""#,
    r#"match((request.useragent | "-"), "cu*") == false"#,
    r#"(request.headers["x-user"] | "jason") == "jason""#,
    r#"request.headers["x-user"] != "jason""#,
    r#"(request.headers["x-tier"]).startsWith("go") | false"#,
    r#"request.headers["x-none"] == "a" || true"#,
    r#"true || request.headers["x-none"] == "a""#,
    r#"conditional(request.method == "PUT", request.headers["x-user"] == "anna", true)"#,
    r#"(context.reporter.kind | "inbound") == "inbound" && response.size > 0 && connection.mtls == false"#,
    r#"destination.labels["app"] == "echo" && (rbac.permissive.response_code | "none") == "none""#,
    r#"request.url_path == "/a""#,
    r#""^/a".matches(request.path)"#,
    r#"(source.labels["app"] | "x") == "x""#,
];

/// Values of labels and of variables, of which the last two are Mixer's.
const VALUES: [&str; 20] = [
    r#""50% of 'it'""#,
    r#"response.code | 500"#,
    r#"context.proxy_error_code | "-""#,
    r#"request.method | "none""#,
    r#"request.headers["x-user"] | "nobody""#,
    r#"request.headers["x-user"]"#,
    r#"request.headers["x-none"] | request.headers["x-tier"] | "none""#,
    r#"destination.labels["app"] | "unknown""#,
    r#"destination.service.host | "unknown""#,
    r#"destination.principal | "unknown""#,
    r#"conditional(response.code >= 400, "bad", request.path)"#,
    r#"conditional((context.reporter.kind | "inbound") == "outbound", "source", "destination")"#,
    r#"connection.mtls | false"#,
    r#"source.ip | ip("0.0.0.0")"#,
    r#"api.protocol | context.protocol | "unknown""#,
    r#"response.headers["content-length"]"#,
    r#"response.size | 0"#,
    r#"request.host | request.scheme"#,
    r#"source.workload.name | "unknown""#,
    r#"request.url_path | "/""#,
];

/// What is added, of which the last is Mixer's.
const AMOUNTS: [&str; 6] = [
    r#""1""#,
    "3",
    "response.size | 0",
    "request.size | 7",
    r#"conditional(request.method == "POST", 3, 1)"#,
    "1.5",
];

/// A rule for requests of its own, told by the header `x-case`, which counts and logs.
fn rule(number: usize, condition: &str, amount: &str, values: [&str; 3]) -> String {
    let text = |text: &str| serde_json::to_string(text).unwrap();
    let condition = format!(r#"request.headers["x-case"] == "c{number}" && ({condition})"#);
    let [a, b, c] = values.map(text);
    let object = |kind: &str, name: &str, spec: &str| {
        format!(
            "---\n{{apiVersion: config.istio.io/v1alpha2, kind: {kind}, metadata: {{name: {name}{number}, namespace: shop}}, spec: {{{spec}}}}}\n"
        )
    };
    let metric = format!(
        "{{name: m{number}, instance_name: i{number}.instance.shop, kind: COUNTER, label_names: [a, b]}}"
    );
    object(
        "handler",
        "p",
        &format!("compiledAdapter: prometheus, params: {{metrics: [{metric}]}}"),
    ) + &object(
        "handler",
        "s",
        "compiledAdapter: stdio, params: {outputLevel: INFO}",
    ) + &object(
        "instance",
        "i",
        &format!(
            "compiledTemplate: metric, params: {{value: {}, dimensions: {{a: {a}, b: {b}}}}}",
            text(amount)
        ),
    ) + &object(
        "instance",
        "l",
        &format!(
            "compiledTemplate: logentry, params: {{severity: {}, variables: {{a: {a}, c: {c}, number: '{number}', took: {}}}}}",
            text(r#"conditional(response.code >= 400, "error", "info")"#),
            text(r#"response.duration | "0ms""#)
        ),
    ) + &object(
        "rule",
        "r",
        &format!(
            "match: {}, actions: [{{handler: p{number}, instances: [i{number}]}}, {{handler: s{number}, instances: [l{number}]}}]",
            text(&condition)
        ),
    )
}

/// The workload's proxy alone; lines for standard streams go to `log`.
fn start(number: u8, rules: &str, log: &Path) -> Option<Running> {
    let generator = generator(&[&MESH.replace("127.11.N.", &format!("127.11.{number}.")), rules]);
    let node = format!("sidecar~127.11.{number}.2~echo-v1.shop~shop.svc.cluster.local");
    let edit = |bootstrap: &mut Bootstrap| {
        plaintext(bootstrap);
        let listener = &mut bootstrap.static_resources.as_mut().unwrap().listeners[0];
        let filter = listener.filter_chains[0].filters.last_mut().unwrap();
        let mut manager = manager(filter).unwrap();
        for log_to in &mut manager.access_log {
            let Some(access_log::ConfigType::TypedConfig(config)) = &mut log_to.config_type else {
                continue;
            };
            assert!(!config.type_url.contains("grpc"), "somebody is told");
            if config.type_url.ends_with("FileAccessLog") {
                let mut file: FileAccessLog = prost::Message::decode(&config.value[..]).unwrap();
                file.path = log.display().to_string();
                *config = envoy_types::util::pack_any(file);
            }
        }
        filter.config_type = Some(FilterConfig::TypedConfig(envoy_types::util::pack_any(manager)));
    };
    run(
        &tables(&generator, &node),
        &format!("127.11.{number}.2:15000"),
        edit,
    )
}

/// What Mixer says of a request that was answered so.
fn reports(
    sent: &Sent,
    case: usize,
    rules: &Rules,
    own: &WorkloadView,
    (status, body): (u16, &str),
) -> Reports {
    let length = body.len().to_string();
    let headers = BTreeMap::from([("content-length".to_owned(), length)]);
    let headers = HeaderMap(&headers);
    sent.with_request(own, case, |request| {
        let mut request = request.clone();
        request.size = Some(0);
        request.response = Response {
            code: Some(status.into()),
            duration: Some(1_000_000),
            size: Some(i64::try_from(body.len()).unwrap()),
            headers: Some(&headers),
            flags: Some(""),
            ..Response::default()
        };
        rules.report(&request)
    })
}

/// Sums by metric and labels.
type Sums = BTreeMap<(String, Vec<(String, String)>), u64>;

/// The metrics of a page that were counted for rules; 0 is as good as nothing.
fn counted(page: &str) -> Sums {
    let mut sums = Sums::new();
    for line in page
        .lines()
        .filter_map(|line| line.strip_prefix("envoy_istiomixer_"))
    {
        let (name, rest) = line.split_once('{').unwrap();
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        let (mut labels, mut rest) = (Vec::new(), labels);
        while let Some((name, after)) = rest.split_once("=\"") {
            let (value, after) = after.split_once('"').unwrap();
            labels.push((name.trim_start_matches(',').to_owned(), value.to_owned()));
            rest = after;
        }
        labels.sort_unstable();
        sums.insert((name.to_owned(), labels), value.parse().unwrap());
    }
    sums.retain(|_, sum| *sum > 0);
    sums
}

/// A line without what no two clocks agree on; the time must be one.
fn comparable(mut line: Value) -> String {
    let fields = line.as_object_mut().unwrap();
    let time = fields.remove("time").unwrap();
    let time = time.as_str().unwrap();
    assert!(
        time.starts_with("20") && time.ends_with('Z') && time.contains('T'),
        "{time}"
    );
    let took = fields.remove("took").unwrap();
    assert!(took.as_str().unwrap().ends_with('s'), "{took}");
    // In one order, whoever wrote it.
    let fields: BTreeMap<&String, &Value> = fields.iter().collect();
    serde_json::to_string(&fields).unwrap()
}

/// Waits until what is seen is what is expected; then it must stay so.
fn until<T: PartialEq + std::fmt::Debug>(expected: &T, seen: impl Fn() -> T) {
    let end = Instant::now() + Duration::from_secs(30);
    while seen() != *expected && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(seen(), *expected);
}

fn lines(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut lines: Vec<String> = lines.map(comparable).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_proxy_counts_and_logs_what_mixer_would() {
    let mut runner = runner();
    let cases = usize::try_from(runner.config().cases).unwrap().min(200);
    let mut texts = BTreeMap::new();
    for number in 0..cases {
        let value = || prop::sample::select(VALUES.to_vec());
        let parts = (
            prop::sample::select(CONDITIONS.to_vec()),
            prop::sample::select(AMOUNTS.to_vec()),
            [value(), value(), value()],
        );
        let (condition, amount, values) = parts.new_tree(&mut runner).unwrap().current();
        texts.insert(number, rule(number, condition, amount, values));
    }
    // Those that stay with Mixer would tell it.
    let all: String = texts.values().map(String::as_str).collect();
    let (rules, own) = policies(&generator(&[&MESH.replace("127.11.N.", "127.11.17."), &all]));
    let told = rules
        .requirements_at(&own, INBOUND, Ports::Only(8080))
        .report
        .unwrap();
    assert!(told.selective && told.rules.len() > cases / 10, "{told:?}");
    texts.retain(|number, _| !told.rules.contains(&format!("r{number}.shop")));
    assert!(
        texts.len() > cases / 3,
        "{} of {cases} are the proxy's",
        texts.len()
    );
    let all: String = texts.values().map(String::as_str).collect();
    let (rules, own) = policies(&generator(&[&MESH.replace("127.11.N.", "127.11.17."), &all]));
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    echo("127.11.17.2:8080");
    let Some(running) = start(17, &all, &log) else {
        return;
    };
    let mut proxy = BufReader::new(TcpStream::connect("127.11.17.3:8080").unwrap());
    let (mut sums, mut entries) = (Sums::new(), Vec::new());
    for number in texts.keys() {
        for _ in 0..3 {
            let sent = sent().new_tree(&mut runner).unwrap().current();
            let (status, _, body) = sent.send(&mut proxy, *number);
            let reports = reports(&sent, *number, &rules, &own, (status, &body));
            for sample in reports.samples {
                let metric = &rules.metrics()[sample.metric];
                let mut labels: Vec<_> = metric.label_names.iter().cloned().zip(sample.labels).collect();
                labels.sort_unstable();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole numbers"
                )]
                let value = sample.value as u64;
                *sums.entry((metric.name.clone(), labels)).or_default() += value;
            }
            for delivery in reports.deliveries {
                let fields = &delivery.instance.fields;
                let mut line = json!({"level": fields.text("severity"), "instance": &*delivery.instance.name, "time": "2017-07-14T02:40:00Z"});
                for (name, datum) in fields.many("variables") {
                    line[name] = datum.json();
                }
                entries.push(comparable(line));
            }
        }
    }
    sums.retain(|_, sum| *sum > 0);
    entries.sort_unstable();
    assert!(
        sums.len() > cases / 5 && entries.len() > cases / 5,
        "{} {}",
        sums.len(),
        entries.len()
    );
    until(&sums, || {
        counted(&running.page("/stats/prometheus", "istiomixer"))
    });
    until(&entries, || lines(&log));
}

/// A client's text that no Prometheus could read, or that is very long, is no label; bytes of bodies are counted.
#[test]
fn labels_are_readable_whatever_a_client_sends() {
    let rules = rule(
        0,
        "true",
        "request.size",
        [r#"request.headers["x-user"]"#, r#""b""#, r#""c""#],
    );
    let folder = tempfile::tempdir().unwrap();
    let Some(running) = start(18, &rules, &folder.path().join("log")) else {
        return;
    };
    echo("127.11.18.2:8080");
    let user = |bytes: &[u8]| {
        use std::io::{Read, Write};
        let mut stream = TcpStream::connect("127.11.18.3:8080").unwrap();
        let mut text =
            b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\nx-case: c0\r\nx-user: "
                .to_vec();
        text.extend_from_slice(bytes);
        stream.write_all(&text).unwrap();
        stream.write_all(b"\r\n\r\nhello").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    };
    user("gr\u{fc}n".as_bytes());
    user(&[0xff, 0xfe]);
    user("a".repeat(2000).as_bytes());
    let label = |user: &str, sum: u64| {
        let labels = vec![
            ("a".to_owned(), user.to_owned()),
            ("b".to_owned(), "b".to_owned()),
        ];
        (("istio_m0".to_owned(), labels), sum)
    };
    let expected = Sums::from([label("gr\u{fc}n", 5), label("(unprintable)", 10)]);
    until(&expected, || {
        counted(&running.page("/stats/prometheus", "istiomixer"))
    });
}

/// Envoy has a bound for a logger's series.
#[test]
fn a_client_cannot_fill_the_proxy_with_series() {
    let rules = rule(
        0,
        "true",
        r#""1""#,
        [r#"request.headers["x-user"]"#, r#""b""#, r#""c""#],
    );
    let folder = tempfile::tempdir().unwrap();
    let Some(running) = start(19, &rules, &folder.path().join("log")) else {
        return;
    };
    echo("127.11.19.2:8080");
    let mut proxy = TcpStream::connect("127.11.19.3:8080").unwrap();
    let mut answers = BufReader::new(proxy.try_clone().unwrap());
    for user in 0..1_100 {
        use std::io::{BufRead, Read, Write};
        write!(
            proxy,
            "GET / HTTP/1.1\r\nhost: a\r\nx-case: c0\r\nx-user: u{user}\r\n\r\n"
        )
        .unwrap();
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            assert!(answers.read_line(&mut head).unwrap() > 0);
            if let Some(value) = head[from..].strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        answers.read_exact(&mut vec![0; length]).unwrap();
    }
    let kept = || counted(&running.page("/stats/prometheus", "istiomixer")).len();
    until(&1_000, kept);
    running.page("/stats/prometheus", "server_stats_overflow_counter{} 100\n");
    assert!(
        request("127.11.19.3:8080", "GET / HTTP/1.1", &[])
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
}
