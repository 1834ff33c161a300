//! Pilot without its feed: snapshots given by hand, served over loopback to a delta client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::Kind;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use envoy_types::pb::google::rpc;
use model::Snapshot;
use pilot::epoch::Epoch;
use pilot::metrics::PilotMetrics;
use pilot::proxies::Proxies;
use pilot::source::Mesh;
use runtime::grpc::ConnectInfo;
use runtime::{Metrics, Peer, SpiffeId};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::service::InterceptorLayer;
use tonic::transport::{Endpoint, Server as Transport};
use tonic::{Code, Status, Streaming};
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};
use xds::{Server, TypeUrl};

const LONG: Duration = Duration::from_secs(20);
const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";

/// The sample mesh, edited.
fn sample(edit: impl Fn(String) -> String) -> Arc<Snapshot> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/src/sample");
    let files = ["services.yaml", "workloads.yaml", "sidecars.yaml", "traffic.yaml"];
    let objects = files.iter().flat_map(|file| {
        let text = edit(std::fs::read_to_string(folder.join(file)).unwrap());
        config::parse(file, text.as_bytes(), "default").objects
    });
    Arc::new(Snapshot::build(objects.map(Arc::new)))
}

fn weights(text: &str) -> String {
    text.replace("weight: 90", "weight: 80")
        .replace("weight: 10", "weight: 20")
}

struct Pilot {
    proxies: Arc<Proxies>,
    metrics: Metrics,
    address: SocketAddr,
    snapshots: u64,
    /// What cuts its clients' connections.
    cut: CancellationToken,
}

impl Pilot {
    /// A Pilot whose every client has this identity; none: plaintext.
    async fn start(peer: Option<&str>) -> Self {
        let peer = peer.map(|id| {
            Arc::new(Peer {
                spiffe_id: SpiffeId::parse(id).unwrap(),
                not_after: 0,
            })
        });
        let cut = CancellationToken::new();
        let cut_by = cut.clone();
        let known = InterceptorLayer::new(move |mut request: tonic::Request<()>| {
            let info = ConnectInfo {
                remote: None,
                peer: peer.clone(),
                serial: None,
                cut: cut_by.clone(),
            };
            request.extensions_mut().insert(info);
            Ok(request)
        });
        let metrics = Metrics::new();
        let proxies = Arc::new(Proxies::new(
            envoygen::Settings::default(),
            PilotMetrics::new(&metrics),
        ));
        let limits = xds::server::Limits {
            blocked: Duration::from_millis(300),
            ..Default::default()
        };
        let server = Server::new(Mesh(proxies.clone()), limits);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Transport::builder()
            .layer(known)
            .add_service(server.ads())
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { serving.await.unwrap() });
        Self {
            proxies,
            metrics,
            address,
            snapshots: 0,
            cut,
        }
    }

    fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshots += 1;
        let epoch = Epoch {
            number: self.snapshots,
            snapshot,
            seen: Instant::now(),
        };
        self.proxies.advance(&Arc::new(epoch));
    }

    async fn proxy(&self, node: &str) -> Proxy {
        self.over(self.endpoint(), node).await
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }

    async fn over(&self, endpoint: Endpoint, node: &str) -> Proxy {
        let (requests, outbound) = mpsc::channel(64);
        let node = Node {
            id: node.into(),
            ..Default::default()
        };
        let first = DeltaDiscoveryRequest {
            node: Some(node),
            ..ask(&CLUSTER, &[])
        };
        requests.send(first).await.unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = client
            .delta_aggregated_resources(ReceiverStream::new(outbound))
            .await
            .unwrap();
        Proxy {
            requests,
            responses: responses.into_inner(),
            has: BTreeMap::new(),
        }
    }

    /// Waits until the debug page and the metrics say so.
    async fn says(&self, what: &str, holds: impl Fn(&str, &str) -> bool) {
        let wait = async {
            while !holds(&self.proxies.syncz().to_string(), &self.metrics.encode()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let came = timeout(LONG, wait).await.is_ok();
        assert!(
            came,
            "{what}\n{:#}\n{}",
            self.proxies.syncz(),
            self.metrics.encode()
        );
    }
}

fn ask(url: &TypeUrl, names: &[String]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: url.to_string(),
        resource_names_subscribe: names.to_vec(),
        ..Default::default()
    }
}

/// A client that asks as Envoy does.
struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    has: BTreeMap<TypeUrl, BTreeSet<String>>,
}

impl Proxy {
    async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let response = timeout(LONG, self.responses.message())
            .await
            .expect("a response in time")?;
        response.ok_or_else(|| Status::ok("ended"))
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn answer(&self, response: &DeltaDiscoveryResponse, error: Option<&str>) {
        let error_detail = error.map(|message| rpc::Status {
            code: 3,
            message: message.into(),
            details: Vec::new(),
        });
        let url = TypeUrl::from(response.type_url.as_str());
        self.send(DeltaDiscoveryRequest {
            response_nonce: response.nonce.clone(),
            error_detail,
            ..ask(&url, &[])
        })
        .await;
    }

    /// Takes and accepts a response of that type; its resources' names.
    async fn takes(&mut self, url: &TypeUrl) -> Vec<String> {
        let response = self.next().await.unwrap();
        assert_eq!(response.type_url, url.as_str());
        self.answer(&response, None).await;
        let names: Vec<String> = response.resources.iter().map(|each| each.name.clone()).collect();
        self.has
            .entry(url.clone())
            .or_default()
            .extend(names.iter().cloned());
        names
    }

    /// From nothing to all that the proxy should have.
    async fn begin(&mut self) {
        let clusters = self.takes(&CLUSTER).await;
        let eds: Vec<String> = clusters
            .into_iter()
            .filter(|name| name.starts_with("outbound|"))
            .collect();
        self.send(ask(&ENDPOINTS, &eds)).await;
        self.takes(&ENDPOINTS).await;
        self.send(ask(&LISTENER, &[])).await;
        self.takes(&LISTENER).await;
        self.send(ask(&ROUTE, &["7080".into()])).await;
    }
}

#[tokio::test]
async fn a_proxy_gets_its_configuration_and_of_a_change_only_what_changed() {
    let mut pilot = Pilot::start(None).await;
    pilot.publish(sample(|text| text));
    let mut proxy = pilot.proxy(FRONTEND).await;
    proxy.begin().await;
    let route = proxy.next().await.unwrap();
    proxy.answer(&route, None).await;
    assert!(
        proxy.has[&CLUSTER].contains("outbound|7080|v1|catalog.shop.svc.cluster.local"),
        "{:?}",
        proxy.has
    );
    pilot
        .says("synced", |syncz, _| {
            syncz.contains("\"synced\":true") && !syncz.contains("STALE")
        })
        .await;

    pilot.publish(sample(|text| weights(&text)));
    let change = proxy.next().await.unwrap();
    assert_eq!(change.type_url, ROUTE.as_str(), "weights are in routes alone");
    proxy.answer(&change, None).await;
    let converged = |_: &str, metrics: &str| metrics.contains("pilot_proxy_convergence_time_count 1");
    pilot.says("the time to convergence", converged).await;
    let seen = |_: &str, metrics: &str| {
        let lines = [
            "pilot_xds_push_time_count{type=\"rds\"} 1",
            "pilot_xds_config_size_bytes_count{type=\"rds\"} 2",
            "pilot_virt_services 1",
        ];
        lines.iter().all(|line| metrics.contains(line)) && !metrics.contains("pilot_services 0")
    };
    pilot.says("sizes and times", seen).await;
}

#[tokio::test]
async fn an_agent_learns_its_own_workload() {
    let mut pilot = Pilot::start(None).await;
    pilot.publish(sample(|text| text));
    let mut proxy = pilot.proxy(&FRONTEND.replace("127.1.0.10", "0.0.0.0")).await;
    let url = feed::type_url(Kind::WorkloadEntry);
    proxy.takes(&CLUSTER).await;
    proxy
        .send(ask(&url, &["shop/frontend-v1".into(), "shop/orders-v1".into()]))
        .await;
    let response = proxy.next().await.unwrap();
    let any = response.resources[0].resource.as_ref().unwrap();
    let object = feed::decode("shop/frontend-v1", &any.value).unwrap();
    assert_eq!(object.key().to_string(), "WorkloadEntry shop/frontend-v1");
    assert_eq!(
        response.removed_resources,
        ["shop/orders-v1"],
        "another's is none of its business"
    );
    pilot
        .says("an agent is no proxy", |syncz, metrics| {
            syncz.contains("\"agents\":1,\"proxies\":[]") && metrics.contains("pilot_xds 0")
        })
        .await;
}

#[tokio::test]
async fn a_rejection_is_shown_with_its_object_until_it_is_over() {
    let mut pilot = Pilot::start(None).await;
    pilot.publish(sample(|text| text));
    let mut proxy = pilot.proxy(FRONTEND).await;
    proxy.begin().await;
    let route = proxy.next().await.unwrap();
    proxy.answer(&route, Some("no such thing")).await;
    let metric = |metrics: &str, value: u8| {
        let label = "kind=\"VirtualService\",namespace=\"shop\",name=\"catalog\"";
        metrics
            .lines()
            .any(|line| line.contains(label) && line.ends_with(&format!(" {value}")))
    };
    pilot
        .says("the object behind the rejected route", |syncz, metrics| {
            syncz.contains("VirtualService shop/catalog")
                && syncz.contains("no such thing")
                && metric(metrics, 1)
                && metrics.contains("pilot_total_xds_rejects{type=\"rds\"} 1")
                && metrics.contains("pilot_xds_rds_reject 1")
        })
        .await;
    pilot.publish(sample(|text| weights(&text)));
    let route = proxy.next().await.unwrap();
    proxy.answer(&route, None).await;
    let over = |syncz: &str, metrics: &str| {
        !syncz.contains("no such thing") && metric(metrics, 0) && metrics.contains("pilot_xds_rds_reject 0")
    };
    pilot.says("the rejection to be over", over).await;
}

#[tokio::test]
async fn a_certificate_of_another_account_gets_nothing() {
    let mut pilot = Pilot::start(Some("spiffe://cluster.local/ns/shop/sa/orders")).await;
    pilot.publish(sample(|text| text));
    let status = pilot.proxy(FRONTEND).await.next().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("runs as service account frontend"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_stream_ends_when_its_workload_gets_another_account() {
    let mut pilot = Pilot::start(Some("spiffe://cluster.local/ns/shop/sa/frontend")).await;
    pilot.publish(sample(|text| text));
    let mut proxy = pilot.proxy(FRONTEND).await;
    proxy.takes(&CLUSTER).await;
    pilot.publish(sample(|text| {
        text.replace("serviceAccount: frontend", "serviceAccount: other")
    }));
    assert_eq!(proxy.next().await.unwrap_err().code(), Code::Unavailable);
    let status = pilot.proxy(FRONTEND).await.next().await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn nobody_is_served_before_the_first_snapshot_or_after_the_end() {
    let mut pilot = Pilot::start(None).await;
    assert_eq!(
        pilot.proxy(FRONTEND).await.next().await.unwrap_err().code(),
        Code::Unavailable
    );
    pilot.publish(sample(|text| text));
    let mut proxy = pilot.proxy(FRONTEND).await;
    proxy.takes(&CLUSTER).await;
    pilot.proxies.close();
    assert_eq!(proxy.next().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(
        pilot.proxy(FRONTEND).await.next().await.unwrap_err().code(),
        Code::Unavailable
    );
}

#[tokio::test]
async fn hostile_node_ids_are_refused_with_a_reason() {
    let mut pilot = Pilot::start(None).await;
    pilot.publish(sample(|text| text));
    for node in ["", "~~~", &"x".repeat(5000), "sidecar~127.1.0.10~\u{0}.~x"] {
        let status = pilot.proxy(node).await.next().await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{node:.20}");
        assert!(status.message().len() < 1000, "{}", status.message().len());
    }
}

#[tokio::test]
async fn a_proxy_that_takes_no_responses_loses_its_connection() {
    let mut pilot = Pilot::start(None).await;
    pilot.publish(sample(|text| text));
    let closed = pilot.endpoint().initial_stream_window_size(0);
    let _proxy = pilot.over(closed, FRONTEND).await;
    let cut = timeout(LONG, pilot.cut.cancelled()).await;
    cut.expect("its connection should be cut");
}
