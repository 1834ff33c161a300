//! Telemetry's spans and entries where they are sent: in a real OpenTelemetry Collector, in an access log service, in a file.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::{
    AccessLogService, AccessLogServiceServer,
};
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use serde_json::Value;
use testkit::collector::{Collector, Signal};
use tonic::{Request, Response, Status, Streaming};

use crate::support::envoy::{Running, request, run, serve};
use crate::support::{generator, tables};

/// Only a failing test waits that long.
const BOUND: Duration = Duration::from_secs(60);
/// As many spans as tracers send together.
const REQUESTS: usize = 8;

/// A workload with a proxy, on addresses of one test, and where its telemetry goes.
fn mesh(number: u8, otlp: SocketAddr, zipkin: SocketAddr, log: SocketAddr, file: &str) -> String {
    format!(
        r#"
{{apiVersion: v1, kind: Service, metadata: {{name: echo, namespace: shop}}, spec: {{selector: {{app: echo}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}
---
{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: echo-v1, namespace: shop}}, spec: {{address: 127.9.{number}.2, labels: {{app: echo}}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: Sidecar, metadata: {{name: echo, namespace: shop}}, spec: {{workloadSelector: {{labels: {{app: echo}}}}, egress: [{{hosts: ["~/*"]}}],
  ingress: [{{port: {{number: 8080, protocol: HTTP, name: http}}, bind: 127.9.{number}.3, captureMode: NONE, defaultEndpoint: "127.9.{number}.2:8080"}}]}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: backends, namespace: obs}}
spec:
  hosts: [backends.obs.svc.cluster.local]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
  - {{number: 4317, name: grpc-otlp, protocol: GRPC, targetPort: {}}}
  - {{number: 9411, name: http-zipkin, protocol: HTTP, targetPort: {}}}
  - {{number: 9001, name: grpc-log, protocol: GRPC, targetPort: {}}}
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {{name: default, namespace: istio-system}}
spec:
  extensionProviders:
  - {{name: b3, zipkin: {{service: backends.obs.svc.cluster.local, port: 9411, traceContextOption: USE_B3_WITH_W3C_PROPAGATION}}}}
  - {{name: w3c, opentelemetry: {{service: backends.obs.svc.cluster.local, port: 4317}}}}
  - {{name: als, envoyHttpAls: {{service: backends.obs.svc.cluster.local, port: 9001, additionalRequestHeadersToLog: [x-user]}}}}
  - {{name: otel-als, envoyOtelAls: {{service: backends.obs.svc.cluster.local, port: 4317, logFormat: {{labels: {{path: "%REQ(:PATH)%", code: "%RESPONSE_CODE%"}}}}}}}}
  - {{name: file, envoyFileAccessLog: {{path: {file}, logFormat: {{labels: {{path: "%REQ(:PATH)%", code: "%RESPONSE_CODE%"}}}}}}}}
"#,
        otlp.port(),
        zipkin.port(),
        log.port()
    )
}

/// The proxy with a Telemetry (its spec in flow style); its application answers paths with `bad` in them by 503.
fn start(number: u8, mesh: &str, spec: &str) -> Option<Running> {
    let object = format!(
        "---\n{{apiVersion: telemetry.istio.io/v1, kind: Telemetry, metadata: {{name: t, namespace: istio-system}}, spec: {spec}}}"
    );
    let node = format!("sidecar~127.9.{number}.2~echo-v1.shop~shop.svc.cluster.local");
    let output = tables(&generator(&[mesh, &object]), &node);
    assert!(output.findings.is_empty(), "{:?}", output.findings);
    serve(&format!("127.9.{number}.2:8080"), |head| {
        if head.contains("/bad") { 503 } else { 200 }
    });
    run(&output, &format!("127.9.{number}.2:15000"), |bootstrap| {
        let listeners = &mut bootstrap.static_resources.as_mut().unwrap().listeners;
        listeners.retain(|listener| listener.name.ends_with("_8080"));
    })
}

/// Calls the application through its proxy; it shows the head of the request that it got.
fn call(number: u8, path: &str) -> String {
    let address = format!("127.9.{number}.3:8080");
    request(&address, &format!("GET {path} HTTP/1.1"), &["x-user: jason"]).unwrap()
}

/// A header in a text with heads.
fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(seen, _)| *seen == name).map(|(_, value)| value)
}

/// All objects that have a field `name`.
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

/// An attribute of an object of OTLP.
fn attribute<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let all = object["attributes"].as_array()?;
    let found = all.iter().find(|pair| pair["key"] == name)?;
    found["value"]["stringValue"].as_str()
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let look = || std::future::ready(look());
    testkit::wait::until(what, BOUND, look).await.unwrap().0
}

/// Waits for a span of a trace.
async fn span(collector: &Collector, trace: &str) -> Value {
    until("the span", || {
        let received = collector.received(Signal::Traces);
        let mut spans = Vec::new();
        received
            .iter()
            .for_each(|message| all(message, "traceId", &mut spans));
        let found = spans.into_iter().find(|span| span["traceId"] == trace);
        found
            .cloned()
            .ok_or_else(|| format!("{} messages", received.len()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_sampled_tagged_and_known_to_the_application_by_their_headers() {
    let collector = Collector::start().await.unwrap();
    let (otlp, zipkin) = (collector.otlp, collector.zipkin);
    for (number, provider) in [(41, "w3c"), (42, "b3")] {
        let mesh = mesh(number, otlp, zipkin, otlp, "/dev/null");
        let spec = format!(
            "{{tracing: [{{providers: [{{name: {provider}}}], randomSamplingPercentage: 100, customTags: {{shop: {{literal: {{value: books}}}}, user: {{header: {{name: x-user}}}}}}}}]}}"
        );
        let Some(_running) = start(number, &mesh, &spec) else {
            return;
        };
        let all: Vec<String> = (0..REQUESTS).map(|_| call(number, "/traced")).collect();
        let seen = all.last().unwrap();
        let parent: Vec<&str> = header(seen, "traceparent").unwrap().split('-').collect();
        assert_eq!(
            (parent[0], parent[1].len(), parent[3]),
            ("00", 32, "01"),
            "{seen}"
        );
        if provider == "b3" {
            assert_eq!(header(seen, "x-b3-traceid"), Some(parent[1]), "{seen}");
            assert_eq!(header(seen, "x-b3-sampled"), Some("1"), "{seen}");
        }
        let span = span(&collector, parent[1]).await;
        assert_eq!(attribute(&span, "shop"), Some("books"), "{span}");
        assert_eq!(attribute(&span, "user"), Some("jason"), "{span}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sampled_says_so() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let mesh = mesh(43, nowhere, nowhere, nowhere, "/dev/null");
    let spec = "{tracing: [{providers: [{name: b3}], randomSamplingPercentage: 0}]}";
    let Some(_running) = start(43, &mesh, spec) else {
        return;
    };
    let seen = call(43, "/untraced");
    assert_eq!(header(&seen, "x-b3-sampled"), Some("0"), "{seen}");
}

/// An access log service that keeps paths, codes and users.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(String, u32, String)>>>);

#[tonic::async_trait]
impl AccessLogService for Kept {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut stream = request.into_inner();
        while let Some(message) = stream.message().await? {
            let Some(LogEntries::HttpLogs(logs)) = message.log_entries else {
                continue;
            };
            for entry in logs.log_entry {
                let (request, response) = (entry.request.unwrap(), entry.response.unwrap());
                let user = request.request_headers.get("x-user").cloned().unwrap_or_default();
                let code = response.response_code.map_or(0, |code| code.value);
                self.0.lock().unwrap().push((request.path, code, user));
            }
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}

impl Kept {
    async fn serve() -> (Self, SocketAddr) {
        let kept = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server =
            tonic::transport::Server::builder().add_service(AccessLogServiceServer::new(kept.clone()));
        tokio::spawn(server.serve_with_incoming(incoming));
        (kept, address)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_go_to_each_provider_if_the_filter_holds() {
    let collector = Collector::start().await.unwrap();
    let (kept, service) = Kept::serve().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("log");
    let mesh = mesh(
        44,
        collector.otlp,
        collector.zipkin,
        service,
        &file.display().to_string(),
    );
    let spec = "{accessLogging: [{providers: [{name: als}, {name: otel-als}, {name: file}], filter: {expression: 'response.code >= 400'}}]}";
    let Some(_running) = start(44, &mesh, spec) else {
        return;
    };
    for path in ["/good/1", "/bad/2", "/good/3", "/bad/4"] {
        call(44, path);
    }
    let wanted = ["/bad/2", "/bad/4"];
    let in_file = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    };
    let lines = until("lines", || match in_file() {
        lines if lines.len() >= 2 => Ok(lines),
        lines => Err(format!("{lines:?}")),
    })
    .await;
    let seen: Vec<_> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(seen, wanted, "{lines:?}");
    let entries = until("entries", || match kept.0.lock().unwrap().clone() {
        entries if entries.len() >= 2 => Ok(entries),
        entries => Err(format!("{entries:?}")),
    })
    .await;
    let expected = wanted.map(|path| (path.to_owned(), 503, "jason".to_owned()));
    assert_eq!(entries, expected);
    let records = until("records", || {
        let received = collector.received(Signal::Logs);
        let mut records = Vec::new();
        received
            .iter()
            .for_each(|message| all(message, "body", &mut records));
        let paths: Vec<String> = records
            .iter()
            .filter_map(|record| Some(attribute(record, "path")?.to_owned()))
            .collect();
        if paths.len() >= 2 {
            Ok(paths)
        } else {
            Err(format!("{received:?}"))
        }
    })
    .await;
    assert_eq!(records, wanted);
}
