//! What becomes of reports while Mixer is away.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::{
    AccessLogService, AccessLogServiceServer,
};
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, Streaming};

use crate::asked::{lead, lead_to};
use crate::mesh::{MESH, plaintext};
use crate::support::envoy::{request, run};
use crate::support::{generator, tables};

/// A metric that Mixer alone keeps.
const TOLD: &str = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: h, namespace: shop}, spec: {compiledAdapter: prometheus, params: {metrics: [{name: sizes, instance_name: sizes.instance.shop, kind: DISTRIBUTION, buckets: {explicitBuckets: {bounds: [1]}}}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: sizes, namespace: shop}, spec: {compiledTemplate: metric, params: {value: response.size | 0}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: told, namespace: shop}, spec: {actions: [{handler: h, instances: [sizes]}]}}
"#;

#[test]
fn what_does_not_fit_while_mixer_is_away_is_counted() {
    let mesh = MESH.replace("127.11.N.", "127.11.14.");
    let node = "sidecar~127.11.14.2~echo-v1.shop~shop.svc.cluster.local";
    // Nobody listens at port 1.
    let edit = |bootstrap: &mut _| {
        plaintext(bootstrap);
        lead(bootstrap, 1);
    };
    let output = tables(&generator(&[&mesh, TOLD]), node);
    let Some(running) = run(&output, "127.11.14.2:15000", edit) else {
        return;
    };
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        // There is no application: each is answered by the proxy, and reported.
        for _ in 0..50 {
            request("127.11.14.3:8080", "GET / HTTP/1.1", &[]).unwrap();
        }
        let page = running.page("/stats?filter=grpc_access_log", "logs_dropped: ");
        if !page.contains("logs_dropped: 0\n") {
            return;
        }
        assert!(Instant::now() < until, "{page}");
    }
}

/// A server in Mixer's place that keeps the paths of what it is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

#[tonic::async_trait]
impl AccessLogService for Told {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut stream = request.into_inner();
        while let Some(message) = stream.message().await? {
            if let Some(LogEntries::HttpLogs(logs)) = message.log_entries {
                let paths = logs
                    .log_entry
                    .into_iter()
                    .map(|entry| entry.request.unwrap().path);
                self.0.lock().unwrap().extend(paths);
            }
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}

impl Told {
    /// Serves until the runtime is dropped.
    fn serve(&self, address: &str) -> Runtime {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let service = AccessLogServiceServer::new(self.clone());
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
        runtime
    }

    /// Whether all of these came within some seconds.
    fn has(&self, paths: &[String]) -> bool {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let told = self.0.lock().unwrap().clone();
            if paths.iter().all(|path| told.contains(path)) {
                return true;
            }
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn what_waits_while_mixer_is_away_arrives_when_it_is_back() {
    let mesh = MESH.replace("127.11.N.", "127.11.15.");
    let node = "sidecar~127.11.15.2~echo-v1.shop~shop.svc.cluster.local";
    let edit = |bootstrap: &mut _| {
        plaintext(bootstrap);
        lead_to(bootstrap, "127.11.15.4", 15004);
    };
    let output = tables(&generator(&[&mesh, TOLD]), node);
    let Some(running) = run(&output, "127.11.15.2:15000", edit) else {
        return;
    };
    let tell = |path: &str| request("127.11.15.3:8080", &format!("GET {path} HTTP/1.1"), &[]).unwrap();
    let told = Told::default();
    // Once it is known to be away, nothing is lost until it is tried again, seconds later. Should that come to pass before it is back
    // here, on a machine that is very slow, it is tried once more.
    for attempt in 0..5 {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            tell("/lost");
            let page = running.page("/stats?filter=ejections_active", "ejections_active");
            if page.contains("ejections_active: 1\n") {
                break;
            }
            assert!(Instant::now() < until, "{page}");
            std::thread::sleep(Duration::from_millis(20));
        }
        let waiting: Vec<String> = (0..5)
            .map(|number| format!("/waits/{attempt}/{number}"))
            .collect();
        for path in &waiting {
            tell(path);
        }
        let serving = told.serve("127.11.15.4:15004");
        if told.has(&waiting) {
            return;
        }
        drop(serving);
    }
    panic!("what waited is lost: {:?}", told.0.lock().unwrap());
}
