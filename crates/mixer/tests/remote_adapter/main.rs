//! Adapters outside of the process, over gRPC with the messages of Istio 1.4's templates: a check with parameters in each
//! call, a report within a session, units of a quota.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod own;
mod quota;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request as HttpRequest, State};
use axum::response::Response as HttpResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::server::{FRONTEND, SAMPLE, Server};
use common::state;
use parking_lot::Mutex;
use prost::Message;
use proto::mixer::mixer_client::MixerClient;
use proto::mixer::{CheckRequest, CompressedAttributes, ReportRequest};
use testkit::wait;
use tonic::server::Grpc;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// The messages as an adapter's author has them: same names and numbers as Istio's.
const PROTOS: [(&str, &str); 4] = [
    (
        "model.proto",
        r#"syntax = "proto3"; package istio.mixer.adapter.model.v1beta1;
message Status { int32 code = 1; string message = 2; }
message CheckResult { Status status = 1; }
message ReportResult {}"#,
    ),
    (
        "value.proto",
        r#"syntax = "proto3"; package istio.policy.v1beta1;
message IPAddress { bytes value = 1; }
message Value { oneof value { string string_value = 1; int64 int64_value = 2; double double_value = 3; bool bool_value = 4;
  IPAddress ip_address_value = 5; } }"#,
    ),
    (
        "listentry.proto",
        r#"syntax = "proto3"; package listentry; import "google/protobuf/any.proto"; import "model.proto";
service HandleListEntryService { rpc HandleListEntry(HandleListEntryRequest) returns (istio.mixer.adapter.model.v1beta1.CheckResult); }
message HandleListEntryRequest { InstanceMsg instance = 1; google.protobuf.Any adapter_config = 2; string dedup_id = 3; }
message InstanceMsg { string name = 72295727; string value = 1; }"#,
    ),
    (
        "metric.proto",
        r#"syntax = "proto3"; package metric; import "google/protobuf/any.proto"; import "model.proto"; import "value.proto";
service HandleMetricService { rpc HandleMetric(HandleMetricRequest) returns (istio.mixer.adapter.model.v1beta1.ReportResult); }
message HandleMetricRequest { repeated InstanceMsg instances = 1; google.protobuf.Any adapter_config = 2; string dedup_id = 3; }
message InstanceMsg { string name = 72295727; istio.policy.v1beta1.Value value = 1;
  map<string, istio.policy.v1beta1.Value> dimensions = 2; }"#,
    ),
];
const PARAMS: &str =
    r#"syntax = "proto3"; package doorman; message Params { string greeting = 1; int64 strictness = 2; }"#;

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct CheckResult {
    #[prost(message, optional, tag = "1")]
    status: Option<RpcStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct Session {
    #[prost(string, tag = "1")]
    session_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Configuration {
    #[prost(message, optional, tag = "1")]
    adapter_config: Option<prost_types::Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Params {
    #[prost(string, tag = "1")]
    greeting: String,
    #[prost(int64, tag = "2")]
    strictness: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ListEntry {
    #[prost(string, tag = "72295727")]
    name: String,
    #[prost(string, tag = "1")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ListEntryRequest {
    #[prost(message, optional, tag = "1")]
    instance: Option<ListEntry>,
    #[prost(message, optional, tag = "2")]
    adapter_config: Option<prost_types::Any>,
    #[prost(string, tag = "3")]
    dedup_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
    #[prost(int64, optional, tag = "2")]
    int64_value: Option<i64>,
    #[prost(message, optional, tag = "5")]
    ip_address_value: Option<Address>,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(bytes = "vec", tag = "1")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "72295727")]
    name: String,
    #[prost(message, optional, tag = "1")]
    value: Option<Value>,
    #[prost(map = "string, message", tag = "2")]
    dimensions: HashMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
struct MetricRequest {
    #[prost(message, repeated, tag = "1")]
    instances: Vec<Metric>,
    #[prost(message, optional, tag = "2")]
    adapter_config: Option<prost_types::Any>,
    #[prost(string, tag = "3")]
    dedup_id: String,
}

/// What the adapter was told.
#[derive(Default)]
struct Heard {
    /// How many sessions were begun; it knows the last one.
    sessions: usize,
    /// It has forgotten that.
    restarted: bool,
    /// So many reports are taken, and answered as if they were not.
    failing: usize,
    calls: Vec<String>,
    checks: Vec<ListEntryRequest>,
    metrics: Vec<MetricRequest>,
    configurations: Vec<Configuration>,
    quotas: Vec<quota::HandleQuotaRequest>,
    visas: Vec<own::HandleVisaRequest>,
    stamps: Vec<own::HandleStampRequest>,
    /// Units that are left.
    units: i64,
}

type Adapter = Arc<Mutex<Heard>>;

fn check(heard: &Adapter, request: ListEntryRequest) -> CheckResult {
    let value = request.instance.clone().unwrap_or_default().value;
    let params = Params::decode(
        request
            .adapter_config
            .clone()
            .unwrap_or_default()
            .value
            .as_slice(),
    )
    .unwrap();
    heard.lock().checks.push(request);
    let status = (value == "mallory").then(|| RpcStatus {
        code: 7,
        message: format!("{} {value}", params.greeting),
    });
    CheckResult { status }
}

fn take(heard: &mut Heard, request: MetricRequest) -> Result<(), Status> {
    if heard.restarted {
        return Err(Status::not_found("no such session"));
    }
    heard.metrics.push(request);
    match heard.failing.checked_sub(1) {
        Some(left) => {
            heard.failing = left;
            Err(Status::unavailable("later"))
        }
        None => Ok(()),
    }
}

/// The adapter's services.
async fn serve(State(heard): State<Adapter>, request: HttpRequest) -> HttpResponse {
    let path = request.uri().path().to_owned();
    heard.lock().calls.push(path.clone());
    let request = request.map(tonic::body::Body::new);
    let answered = match path.as_str() {
        "/listentry.HandleListEntryService/HandleListEntry" => {
            let service = service_fn(|request: Request<ListEntryRequest>| {
                let result = check(&heard, request.into_inner());
                async { Ok::<_, Status>(Response::new(result)) }
            });
            Grpc::new(ProstCodec::<CheckResult, ListEntryRequest>::default())
                .unary(service, request)
                .await
        }
        "/metric.HandleMetricService/HandleMetric" => {
            let service = service_fn(|request: Request<MetricRequest>| {
                let answer = take(&mut heard.lock(), request.into_inner());
                async { answer.map(|()| Response::new(Nothing {})) }
            });
            Grpc::new(ProstCodec::<Nothing, MetricRequest>::default())
                .unary(service, request)
                .await
        }
        "/visa.HandleVisaService/HandleVisa" => {
            let service = service_fn(|request: Request<own::HandleVisaRequest>| {
                let result = own::decide(&heard, request.into_inner());
                async { Ok::<_, Status>(Response::new(result)) }
            });
            Grpc::new(ProstCodec::<CheckResult, own::HandleVisaRequest>::default())
                .unary(service, request)
                .await
        }
        "/stamp.HandleStampService/HandleStamp" => {
            let service = service_fn(|request: Request<own::HandleStampRequest>| {
                heard.lock().stamps.push(request.into_inner());
                async { Ok::<_, Status>(Response::new(Nothing {})) }
            });
            Grpc::new(ProstCodec::<Nothing, own::HandleStampRequest>::default())
                .unary(service, request)
                .await
        }
        "/quota.HandleQuotaService/HandleQuota" => {
            let service = service_fn(|request: Request<quota::HandleQuotaRequest>| {
                let result = quota::grant(&heard, request.into_inner());
                async { Ok::<_, Status>(Response::new(result)) }
            });
            Grpc::new(ProstCodec::<quota::QuotaResult, quota::HandleQuotaRequest>::default())
                .unary(service, request)
                .await
        }
        _ => {
            let service = service_fn(|request: Request<Configuration>| {
                let mut told = heard.lock();
                told.configurations.push(request.into_inner());
                if path.ends_with("/CreateSession") {
                    told.sessions += 1;
                    told.restarted = false;
                }
                let session_id = if path.ends_with("/CreateSession") {
                    "session-7"
                } else {
                    ""
                };
                let session = Session {
                    session_id: session_id.to_owned(),
                };
                async { Ok::<_, Status>(Response::new(session)) }
            });
            Grpc::new(ProstCodec::<Session, Configuration>::default())
                .unary(service, request)
                .await
        }
    };
    answered.map(axum::body::Body::new)
}

async fn adapter() -> (SocketAddr, Adapter) {
    let heard = Adapter::default();
    let router = axum::Router::new().fallback(serve).with_state(heard.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, heard)
}

/// A file's descriptors with all that it imports, base64.
fn descriptor(folder: &Path, file: &str) -> String {
    let set = protox::compile([folder.join(file)], [folder]).unwrap();
    BASE64.encode(set.encode_to_vec())
}

/// The objects by which Mixer asks the adapter about x-user, and tells it of responses.
fn objects(address: SocketAddr, session_based: bool) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in PROTOS.into_iter().chain([("params.proto", PARAMS)]) {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let descriptor = |file| descriptor(folder.path(), file);
    let (listentry, metric, params) = (
        descriptor("listentry.proto"),
        descriptor("metric.proto"),
        descriptor("params.proto"),
    );
    format!(
        r#"
apiVersion: config.istio.io/v1alpha2
kind: template
metadata: {{name: listentry, namespace: istio-system}}
spec: {{descriptor: "{listentry}"}}
---
apiVersion: config.istio.io/v1alpha2
kind: template
metadata: {{name: metric, namespace: istio-system}}
spec: {{descriptor: "{metric}"}}
---
apiVersion: config.istio.io/v1alpha2
kind: adapter
metadata: {{name: outside, namespace: istio-system}}
spec: {{templates: [listentry, metric.istio-system], config: "{params}", session_based: {session_based}}}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: outside-doorman, namespace: istio-system}}
spec:
  adapter: outside
  connection: {{address: "{address}"}}
  params: {{greeting: begone, strictness: 3}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {{name: visitor, namespace: istio-system}}
spec:
  template: listentry
  params: {{value: 'request.headers["x-user"] | "nobody"'}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {{name: answers, namespace: istio-system}}
spec:
  template: metric
  params:
    value: response.code | 0
    dimensions: {{method: 'request.method | ""', from: source.ip}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {{name: ask-outside, namespace: istio-system}}
spec:
  match: destination.labels["app"] == "catalog"
  actions: [{{handler: outside-doorman, instances: [visitor, answers]}}]
"#
    )
}

/// A request of `user` to catalog-v1.
fn request(user: &str) -> CompressedAttributes {
    let words = [
        "x-user",
        user,
        "source.principal",
        FRONTEND,
        "destination.port",
        "/items",
    ];
    CompressedAttributes {
        words: words.map(str::to_owned).into(),
        // request.method: GET, request.path, source.principal
        strings: [(19, 90), (17, -6), (-3, -4)].into(),
        bytes: [(0, vec![127, 1, 0, 10]), (150, vec![127, 1, 0, 21])].into(),
        // request.headers
        string_maps: [(
            15,
            proto::mixer::StringMap {
                entries: [(-1, -2)].into(),
            },
        )]
        .into(),
        // response.code
        int64s: [(-5, 8080), (30, 204)].into(),
        ..CompressedAttributes::default()
    }
}

async fn ask(server: &Server, user: &str) -> (i32, String) {
    let request = CheckRequest {
        attributes: Some(request(user)),
        ..CheckRequest::default()
    };
    let mut client = MixerClient::new(server.proxy("catalog"));
    let answer = client.check(request).await.unwrap().into_inner();
    let status = answer.precondition.unwrap().status.unwrap();
    (status.code, status.message)
}

async fn configured(session_based: bool) -> (Server, Adapter) {
    let (address, heard) = adapter().await;
    let server = Server::start_with(mixer::Args {
        adapter_deadline: Duration::from_secs(5),
        ..mixer::Args::default()
    })
    .await;
    let objects = objects(address, session_based);
    let [_, services, workloads] = SAMPLE;
    server
        .mixer
        .configure(state([objects.as_str(), services, workloads]));
    assert!(
        server.mixer.findings().is_empty(),
        "{:?}",
        server.mixer.findings()
    );
    (server, heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_outside_is_asked_with_its_parameters() {
    let (server, heard) = configured(false).await;
    assert_eq!(
        ask(&server, "mallory").await,
        (7, "outside-doorman.istio-system:begone mallory".to_owned())
    );
    assert_eq!(ask(&server, "jason").await.0, 0);
    let heard = heard.lock();
    let [first, second] = heard.checks.as_slice() else {
        panic!("{}", heard.checks.len())
    };
    assert_eq!(
        first.instance.as_ref().unwrap().name,
        "visitor.instance.istio-system"
    );
    assert_ne!(first.dedup_id, second.dedup_id);
    let config = first.adapter_config.as_ref().unwrap();
    assert_eq!(config.type_url, "type.googleapis.com/doorman.Params");
    let expected = Params {
        greeting: "begone".into(),
        strictness: 3,
    };
    assert_eq!(Params::decode(config.value.as_slice()).unwrap(), expected);
    assert!(heard.configurations.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_of_the_page_asks_the_adapter() {
    let (address, heard) = adapter().await;
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/adapters/outside.md");
    let page = std::fs::read_to_string(page).unwrap();
    let sample = page
        .split("```yaml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    assert!(sample.contains("doorman.security:9070"), "{sample}");
    let sample = sample.replace("doorman.security:9070", &address.to_string());
    let server = Server::start_with(mixer::Args {
        adapter_deadline: Duration::from_secs(20),
        ..mixer::Args::default()
    })
    .await;
    server
        .mixer
        .configure(state([sample.as_str(), SAMPLE[1], SAMPLE[2]]));
    assert!(
        server.mixer.findings().is_empty(),
        "{:?}",
        server.mixer.findings()
    );
    let refused = (7, "doorman.istio-system:begone mallory".to_owned());
    assert_eq!(ask(&server, "mallory").await, refused);
    assert_eq!(ask(&server, "jason").await.0, 0);
    assert_eq!(heard.lock().checks.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_stands_for_the_parameters() {
    let (server, heard) = configured(true).await;
    tell(&server).await;
    let told = async || {
        let heard = heard.lock();
        if heard.metrics.is_empty() {
            Err(format!("{:?}", heard.calls))
        } else {
            Ok(())
        }
    };
    wait::until("a report", Duration::from_secs(30), told)
        .await
        .unwrap();
    {
        let heard = heard.lock();
        let backend = "/istio.mixer.adapter.model.v1beta1.InfrastructureBackend";
        assert_eq!(heard.calls[0], format!("{backend}/Validate"));
        assert_eq!(heard.calls[1], format!("{backend}/CreateSession"));
        let config = heard.configurations[1].adapter_config.as_ref().unwrap();
        assert_eq!(config.type_url, "type.googleapis.com/doorman.Params");
        let told = &heard.metrics[0];
        assert_eq!(told.adapter_config.as_ref().unwrap().value, b"session-7");
        let metric = &told.instances[0];
        assert_eq!(metric.value.as_ref().unwrap().int64_value, Some(204));
        assert_eq!(metric.dimensions["method"].string_value.as_deref(), Some("GET"));
        let from = metric.dimensions["from"].ip_address_value.as_ref().unwrap();
        assert_eq!(from.value, [127, 1, 0, 10]);
    }
    // Without its rule the handler is gone, and its session with it.
    let [_, services, workloads] = SAMPLE;
    server.mixer.configure(state([services, workloads]));
    let closed = async || {
        let heard = heard.lock();
        let closed = heard.calls.iter().any(|call| call.ends_with("/CloseSession"));
        if closed {
            Ok(())
        } else {
            Err(format!("{:?}", heard.calls))
        }
    };
    wait::until("the session's end", Duration::from_secs(30), closed)
        .await
        .unwrap();
}

#[tokio::test]
async fn what_does_not_fit_the_descriptors_is_named() {
    let (address, _) = adapter().await;
    let server = Server::start().await;
    let [_, services, workloads] = SAMPLE;
    for (from, to, expected) in [
        ("greeting: begone", "greetings: begone", "greetings"),
        (
            "adapter: outside\n",
            "adapter: elsewhere\n",
            "there is no adapter elsewhere",
        ),
        (
            "templates: [listentry, ",
            "templates: [nowhere, ",
            "there is no such template",
        ),
    ] {
        let objects = objects(address, false).replace(from, to);
        server
            .mixer
            .configure(state([objects.as_str(), services, workloads]));
        let findings = server.mixer.findings();
        assert!(
            findings
                .iter()
                .any(|finding| finding.to_string().contains(expected)),
            "{expected}: {findings:?}"
        );
    }
}

async fn tell(server: &Server) {
    let report = ReportRequest {
        attributes: vec![request("jason")],
        ..ReportRequest::default()
    };
    MixerClient::new(server.proxy("catalog"))
        .report(report)
        .await
        .unwrap();
}

async fn until(heard: &Adapter, what: &str, holds: impl Fn(&Heard) -> bool) {
    let look = async || {
        let heard = heard.lock();
        match holds(&heard) {
            true => Ok(()),
            false => Err(format!("{:?}", heard.calls)),
        }
    };
    wait::until(what, Duration::from_secs(30), look).await.unwrap();
}

/// An adapter that had a batch but could not say so must be able to tell that it is the same; and no two are the same, of one Mixer
/// or of several.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_sent_again_has_the_same_id() {
    let (server, heard) = configured(false).await;
    heard.lock().failing = 2;
    tell(&server).await;
    until(&heard, "three attempts", |heard| heard.metrics.len() == 3).await;
    tell(&server).await;
    until(&heard, "another batch", |heard| heard.metrics.len() == 4).await;
    let ids: Vec<String> = heard
        .lock()
        .metrics
        .iter()
        .map(|told| told.dedup_id.clone())
        .collect();
    assert!(
        ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3],
        "{ids:?}"
    );
    assert!(
        ids.iter().all(|id| id.len() == 32),
        "no small numbers, which each Mixer has: {ids:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_was_started_anew_gets_a_session_anew() {
    let (server, heard) = configured(true).await;
    tell(&server).await;
    until(&heard, "a report", |heard| heard.metrics.len() == 1).await;
    heard.lock().restarted = true;
    tell(&server).await;
    until(&heard, "the next report", |heard| heard.metrics.len() == 2).await;
    assert_eq!(heard.lock().sessions, 2);
}
