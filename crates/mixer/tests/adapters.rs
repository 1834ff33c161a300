//! The samples of docs/adapters, each run by a Mixer against its real backend.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::reports::{CATALOG, check, inbound_entry, message, send};
use common::server::{SAMPLE, Server};
use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use envoy_types::pb::google::protobuf::{Duration as ProtoDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;
use testkit::Rundir;
use testkit::collector::{Collector, Signal};
use testkit::prometheus::Prometheus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Only a failing test waits that long.
const BOUND: Duration = Duration::from_secs(60);
const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";

fn pages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/adapters")
}

/// The YAML of a page.
fn sample(page: &str) -> String {
    let text = std::fs::read_to_string(pages().join(format!("{page}.md"))).unwrap();
    let blocks = text.split("```yaml\n").skip(1);
    let blocks: Vec<&str> = blocks.map(|block| block.split("```").next().unwrap()).collect();
    assert!(!blocks.is_empty(), "{page} has no sample");
    blocks.join("---\n")
}

/// A Mixer with the sample mesh and these objects of Mixer's.
async fn mixer(objects: &str) -> Server {
    mixer_with(objects, mixer::Args::default()).await
}

async fn mixer_with(objects: &str, args: mixer::Args) -> Server {
    // A busy machine is not what these tests are about.
    let args = mixer::Args {
        adapter_deadline: Duration::from_secs(20),
        ..args
    };
    let server = Server::start_with(args).await;
    server
        .mixer
        .configure(common::state([objects, SAMPLE[1], SAMPLE[2]]));
    assert!(
        server.mixer.findings().is_empty(),
        "{:?}",
        server.mixer.findings()
    );
    server
}

/// A request of jason, traced, that took a quarter of a second.
fn entry() -> HttpAccessLogEntry {
    let mut entry = inbound_entry();
    let headers = [
        ("x-user", "jason"),
        ("x-b3-traceid", TRACE),
        ("x-b3-spanid", "a2fb4a1d1a96d312"),
    ];
    let headers: HashMap<String, String> = headers.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    entry.request.as_mut().unwrap().request_headers = headers;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let common = entry.common_properties.as_mut().unwrap();
    common.start_time = Some(Timestamp {
        seconds: i64::try_from(now.as_secs()).unwrap(),
        nanos: 0,
    });
    let quarter = ProtoDuration {
        seconds: 0,
        nanos: 250_000_000,
    };
    common.time_to_last_downstream_tx_byte = Some(quarter);
    entry
}

/// Reports `count` requests to the catalog.
async fn report(server: &Server, count: usize) {
    let entries = vec![entry(); count];
    send(
        server.proxy("catalog"),
        vec![message("argosy.inbound", CATALOG, entries)],
    )
    .await;
}

/// Waits until `look` finds something.
async fn found<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let look = || std::future::ready(look().ok_or("nothing yet"));
    testkit::wait::until(what, BOUND, look).await.unwrap().0
}

/// All objects below `json` that have a field `name`.
fn all<'a>(json: &'a Value, name: &str, into: &mut Vec<&'a Value>) {
    match json {
        Value::Object(map) => {
            if map.contains_key(name) {
                into.push(json);
            }
            map.values().for_each(|value| all(value, name, into));
        }
        Value::Array(items) => items.iter().for_each(|value| all(value, name, into)),
        _ => {}
    }
}

/// The first object among `messages` that has a field `name` and that `is` likes.
fn first(messages: &[Value], name: &str, is: impl Fn(&Value) -> bool) -> Option<Value> {
    let mut objects = Vec::new();
    messages
        .iter()
        .for_each(|message| all(message, name, &mut objects));
    objects.into_iter().find(|object| is(object)).cloned()
}

/// The attributes of an object of OTLP, as text.
fn attributes(object: &Value) -> HashMap<String, String> {
    let attributes = object["attributes"].as_array().cloned().unwrap_or_default();
    let one = |pair: &Value| {
        let value = pair["value"].as_object().unwrap().values().next().unwrap();
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (pair["key"].as_str().unwrap().to_owned(), text)
    };
    attributes.iter().map(one).collect()
}

#[tokio::test]
async fn every_page_has_a_sample_that_loads() {
    let index = std::fs::read_to_string(pages().join("README.md")).unwrap();
    let folder = Rundir::new("argosy-handlers").unwrap();
    for file in std::fs::read_dir(pages()).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let page = name.strip_suffix(".md").unwrap();
        if page == "README" {
            continue;
        }
        assert!(index.contains(&format!("({name})")), "{name} is not in the index");
        let args = mixer::Args {
            handler_files: Some(folder.path().to_owned()),
            ..mixer::Args::default()
        };
        mixer_with(&sample(page), args).await;
    }
}

#[tokio::test]
async fn denier_refuses() {
    let server = mixer(&sample("denier")).await;
    assert_eq!(
        server
            .check("catalog", check("anna"))
            .await
            .unwrap()
            .status
            .unwrap()
            .code,
        0
    );
    let refused = server
        .check("catalog", check("mallory"))
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (7, "deny-all.istio-system:the shop is closed")
    );
}

/// A list that a web server offers.
struct Offered {
    url: String,
    answer: Arc<Mutex<String>>,
}

impl Offered {
    async fn start(list: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/visitors", listener.local_addr().unwrap());
        let offered = Self {
            url,
            answer: Arc::default(),
        };
        offered.offer(list);
        let answer = offered.answer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.lock().clone();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        offered
    }

    fn answer(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock());
    }

    fn offer(&self, list: &str) {
        let length = list.len();
        self.answer(&format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{list}"
        ));
    }
}

async fn code(server: &Server, user: &str) -> i32 {
    server
        .check("catalog", check(user))
        .await
        .unwrap()
        .status
        .unwrap()
        .code
}

/// Waits until a user is answered so.
async fn answered(server: &Server, user: &str, expected: i32) {
    let look = || async {
        match code(server, user).await {
            code if code == expected => Ok(()),
            other => Err(other.to_string()),
        }
    };
    testkit::wait::until("the answer", BOUND, look).await.unwrap();
}

#[tokio::test]
async fn list_is_fetched_again_and_the_last_good_one_kept() {
    let offered = Offered::start("# who may\nJason\n").await;
    let server = mixer(&sample("list").replace("http://lists.internal:8080/visitors", &offered.url)).await;
    // The handler's own entry, the fetched one, and one that is neither.
    assert_eq!(
        (code(&server, "anna").await, code(&server, "jason").await),
        (0, 0)
    );
    assert_eq!(code(&server, "mallory").await, 5);
    offered.offer("mallory\n");
    answered(&server, "mallory", 0).await;
    assert_eq!(code(&server, "jason").await, 5);
    // Neither a failure nor a redirect takes the list away or leads elsewhere.
    let elsewhere = Offered::start("jason\n").await;
    offered.answer(&format!(
        "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        elsewhere.url
    ));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        (code(&server, "mallory").await, code(&server, "jason").await),
        (0, 5)
    );
}

#[tokio::test]
async fn a_list_that_was_never_fetched_refuses() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{nobody}/");
    let server = mixer(&sample("list").replace("http://lists.internal:8080/visitors", &url)).await;
    let refused = server
        .check("catalog", check("anna"))
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(refused.code, 14);
    assert!(
        refused
            .message
            .starts_with("visitors.istio-system:cannot be asked: "),
        "{refused:?}"
    );
}

#[tokio::test]
async fn opa_decides_and_policies_are_replaced_while_it_runs() {
    let yaml = sample("opa");
    let server = mixer(&yaml).await;
    assert_eq!(
        (code(&server, "jason").await, code(&server, "anna").await),
        (0, 7)
    );
    let state = |yaml: &str| common::state([yaml, SAMPLE[1], SAMPLE[2]]);
    server
        .mixer
        .configure(state(&yaml.replace("== \"jason\"", "== \"anna\"")));
    assert_eq!(
        (code(&server, "jason").await, code(&server, "anna").await),
        (7, 0)
    );
    // Policies that do not compile are told; the former ones stay.
    server
        .mixer
        .configure(state(&yaml.replace("allow = true {", "allow = true {{")));
    let findings = server.mixer.findings();
    assert!(
        findings[0]
            .message
            .contains("policies.istio-system cannot run: policy[0]"),
        "{findings:?}"
    );
    assert_eq!(
        (code(&server, "jason").await, code(&server, "anna").await),
        (7, 0)
    );
}

#[tokio::test]
async fn rbac_decides() {
    let server = mixer(&sample("rbac")).await;
    assert_eq!(
        (code(&server, "jason").await, code(&server, "anna").await),
        (0, 7)
    );
}

#[tokio::test]
async fn memquota_counts_by_dimension_and_override() {
    let server = mixer(&sample("memquota")).await;
    let mut granted = HashMap::new();
    for user in ["jason", "anna"] {
        for _ in 0..10 {
            let refused = code_of_quota(&server, user).await;
            *granted.entry(user).or_insert(0) += i32::from(!refused);
        }
    }
    assert_eq!((granted["jason"], granted["anna"]), (1, 5));
}

/// Whether a request's quota is used up.
async fn code_of_quota(server: &Server, user: &str) -> bool {
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Limit;
    use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
    let mut request = common::server::descriptor(user);
    request.descriptors[0].entries[0].value = "limit.istio-system".to_owned();
    let mut client = RateLimitServiceClient::new(server.proxy("catalog"));
    let answer = client.should_rate_limit(request).await.unwrap().into_inner();
    answer.overall_code() == Limit::OverLimit
}

#[tokio::test]
async fn redisquota_counts_in_redis() {
    let redis = testkit::redis::Redis::start().await.unwrap();
    let yaml = sample("redisquota").replace("redis.argosy-system:6379", &redis.address().to_string());
    let args = mixer::Args {
        redis_deadline: Duration::from_secs(20),
        ..mixer::Args::default()
    };
    let server = mixer_with(&yaml.replace("validDuration: 1s", "validDuration: 60s"), args).await;
    assert!(!code_of_quota(&server, "jason").await);
    assert!(code_of_quota(&server, "jason").await);
    assert!(!code_of_quota(&server, "anna").await);
}

#[tokio::test]
async fn stdio_writes_lines_into_a_file() {
    let folder = Rundir::new("argosy-handlers").unwrap();
    let args = mixer::Args {
        handler_files: Some(folder.path().to_owned()),
        ..mixer::Args::default()
    };
    let server = mixer_with(&sample("stdio"), args).await;
    report(&server, 2).await;
    let path = folder.path().join("access.log");
    let lines = || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() == 2).then_some(text)
    };
    let text = found("two lines", lines).await;
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let expected = [
        ("level", "error"),
        ("instance", "accesslog.instance.istio-system"),
        ("source", "frontend-v1"),
        ("user", "jason"),
        ("path", "/catalog/1"),
        ("latency", "250ms"),
    ];
    for (name, value) in expected {
        assert_eq!(line[name], value, "{line}");
    }
    assert_eq!(line["code"], 503);
}

#[tokio::test]
async fn prometheus_scrapes() {
    let server = mixer(&sample("prometheus")).await;
    report(&server, 3).await;
    server.page("istio_sample_requests_total").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mixer = server.mixer.clone();
    let page = move || async move { mixer.page() };
    let router = axum::Router::new().route("/metrics", axum::routing::get(page));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let prometheus = Prometheus::scraping(address).await.unwrap();
    let look = || async {
        let result = prometheus.query("istio_sample_requests_total").await;
        match result {
            Ok(result) if !result.is_empty() => Ok(result),
            other => Err(format!("not scraped yet: {other:?}")),
        }
    };
    let (result, _) = testkit::wait::until("the metric", BOUND, look).await.unwrap();
    assert_eq!(result[0]["value"][1], "3");
    assert_eq!(
        (&result[0]["metric"]["app"], &result[0]["metric"]["code"]),
        (&"catalog".into(), &"503".into())
    );
}

#[tokio::test]
async fn statsd_and_dogstatsd_count() {
    let collector = Collector::start().await.unwrap();
    let address = collector.statsd.to_string();
    for (page, theirs, metric) in [
        ("statsd", "statsd.monitoring:8125", "mesh.requests.catalog.503"),
        ("dogstatsd", "datadog.monitoring:8125", "istio.requests"),
    ] {
        let server = mixer(&sample(page).replace(theirs, &address)).await;
        report(&server, 4).await;
        let seen = found(metric, || {
            first(&collector.received(Signal::Metrics), "name", |object| {
                object["name"] == metric
            })
        })
        .await;
        let point = &seen["sum"]["dataPoints"][0];
        assert_eq!(point["asInt"], "4", "{seen}");
        if page == "dogstatsd" {
            let tags = attributes(point);
            let tag = |name: &str| tags.get(name).map(String::as_str);
            assert_eq!(
                (tag("app"), tag("code"), tag("mesh")),
                (Some("catalog"), Some("503"), Some("main"))
            );
        }
    }
}

#[tokio::test]
async fn fluentd_takes_log_entries() {
    let collector = Collector::start().await.unwrap();
    let yaml = sample("fluentd").replace("fluentd.logging:24224", &collector.fluent.to_string());
    let server = mixer(&yaml).await;
    report(&server, 1).await;
    let record = found("the record", || {
        first(&collector.received(Signal::Logs), "timeUnixNano", |_| true)
    })
    .await;
    let fields = attributes(&record);
    let field = |name: &str| fields.get(name).map(String::as_str);
    assert_eq!(
        (field("severity"), field("user"), field("code")),
        (Some("error"), Some("jason"), Some("503"))
    );
    assert_eq!(field("latency"), Some("250"));
    assert_eq!(field("fluent.tag"), Some("accesslog.instance.istio-system"));
}

#[tokio::test]
async fn zipkin_takes_spans() {
    let collector = Collector::start().await.unwrap();
    let yaml = sample("zipkin").replace("zipkin.tracing:9411", &collector.zipkin.to_string());
    let server = mixer(&yaml).await;
    report(&server, 1).await;
    let span = found("the span", || {
        first(&collector.received(Signal::Traces), "spanId", |_| true)
    })
    .await;
    assert_eq!(
        (&span["traceId"], &span["spanId"]),
        (&TRACE.into(), &"a2fb4a1d1a96d312".into())
    );
    // 2 is a server's span.
    assert_eq!((&span["name"], &span["kind"]), (&"/catalog/1".into(), &2.into()));
    let time = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(time("endTimeUnixNano") - time("startTimeUnixNano"), 250_000_000);
    assert_eq!(
        attributes(&span).get("http.method").map(String::as_str),
        Some("GET")
    );
}

#[tokio::test]
async fn opentelemetry_takes_all_three_and_what_waits_survives_a_restart() {
    let mut collector = Collector::start().await.unwrap();
    let yaml = sample("opentelemetry").replace("collector.monitoring:4317", &collector.otlp.to_string());
    let server = mixer(&yaml).await;
    collector.kill();
    report(&server, 5).await;
    collector.restart().await.unwrap();
    let metric = found("the metric", || {
        first(&collector.received(Signal::Metrics), "name", |object| {
            object["name"] == "mesh.requests"
        })
    })
    .await;
    let point = &metric["sum"]["dataPoints"][0];
    assert_eq!(point["asDouble"], 5.0, "{metric}");
    assert_eq!(attributes(point).get("app").map(String::as_str), Some("catalog"));
    let record = found("the record", || {
        first(&collector.received(Signal::Logs), "severityText", |object| {
            object["severityText"] == "error"
        })
    })
    .await;
    assert_eq!(attributes(&record).get("user").map(String::as_str), Some("jason"));
    let span = found("the span", || {
        first(&collector.received(Signal::Traces), "spanId", |_| true)
    })
    .await;
    assert_eq!(span["traceId"], TRACE);
}
