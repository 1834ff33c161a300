//! Server and client over a real connection.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest,
};
use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server as Transport};
use tonic::{Code, Status, Streaming};
use xds::client::{Backoff, Notice, State, Subscription};
use xds::server::{Hello, Limits, Source, StreamId};
use xds::types::SECRET;
use xds::{Client, Event, Server, Table, TypeUrl, Update};

const FEED: TypeUrl = TypeUrl::fixed("core/v1/Service");
const LONG: Duration = Duration::from_secs(20);

/// One table for all whose node id is not `stranger`.
#[derive(Clone)]
struct Tables {
    tables: Arc<Mutex<Option<watch::Sender<Arc<Table>>>>>,
    events: mpsc::UnboundedSender<(StreamId, Event)>,
    /// What cuts each stream's connection, in the order in which they came.
    cuts: Arc<Mutex<Vec<CancellationToken>>>,
}

impl Source for Tables {
    fn connection(&self, _: &http::Extensions) -> Option<CancellationToken> {
        let cut = CancellationToken::new();
        self.cuts.lock().unwrap().push(cut.clone());
        Some(cut)
    }

    async fn connect(&self, hello: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        if hello.node.id == "stranger" {
            return Err(Status::permission_denied("strangers are not served"));
        }
        let tables = self.tables.lock().unwrap();
        tables
            .as_ref()
            .map(watch::Sender::subscribe)
            .ok_or_else(|| Status::unavailable("closing"))
    }

    fn observe(&self, stream: StreamId, event: Event) {
        _ = self.events.send((stream, event));
    }
}

struct Running {
    address: SocketAddr,
    tables: Tables,
    events: mpsc::UnboundedReceiver<(StreamId, Event)>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(at: Option<SocketAddr>, first: Table, limits: Limits) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(at.unwrap_or(any)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (events, observed) = mpsc::unbounded_channel();
        let sender = watch::channel(Arc::new(first)).0;
        let tables = Tables {
            tables: Arc::new(Mutex::new(Some(sender))),
            events,
            cuts: Arc::default(),
        };
        let server = Server::new(tables.clone(), limits);
        let serving = Transport::builder()
            .add_service(server.ads())
            .add_service(server.sds())
            .serve_with_incoming(TcpListenerStream::new(listener));
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self {
            address,
            tables,
            events: observed,
            task,
        }
    }

    fn publish(&self, table: Table) {
        let tables = self.tables.tables.lock().unwrap();
        tables.as_ref().unwrap().send_replace(Arc::new(table));
    }

    /// Ends all streams and frees the port.
    async fn stop(self) {
        self.tables.tables.lock().unwrap().take();
        self.task.abort();
        _ = self.task.await;
    }

    async fn channel(&self) -> Channel {
        endpoint(self.address).connect().await.unwrap()
    }

    async fn event(&mut self, what: impl Fn(&Event) -> bool) -> Event {
        let wait = async {
            loop {
                let (_, event) = self.events.recv().await.unwrap();
                if what(&event) {
                    return event;
                }
            }
        };
        timeout(LONG, wait).await.expect("the event should come")
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

fn table(type_url: &TypeUrl, resources: &[(&str, &str)]) -> Table {
    let mut table = Table::builder();
    for (name, content) in resources {
        table.insert(type_url.clone(), (*name).into(), (*content).to_owned().into());
    }
    table.build(None)
}

fn node(id: &str) -> Node {
    Node {
        id: id.into(),
        ..Default::default()
    }
}

fn follow(address: SocketAddr) -> mpsc::Receiver<Notice> {
    let state = State::new(node("reader"), [(FEED, Subscription::Wildcard)]);
    let connect = move || async move { endpoint(address).connect().await };
    let client = Client::new(connect, state)
        .with_backoff(Backoff::new(Duration::from_millis(10), Duration::from_millis(50)));
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(client.run(sender));
    receiver
}

async fn update(notices: &mut mpsc::Receiver<Notice>) -> Update {
    let wait = async {
        loop {
            if let Notice::Update(update) = notices.recv().await.unwrap() {
                return update;
            }
        }
    };
    timeout(LONG, wait).await.expect("an update should come")
}

fn names(update: &Update) -> Vec<&str> {
    update.upserts.iter().map(|each| each.name.as_str()).collect()
}

type Delta = (
    mpsc::Sender<DeltaDiscoveryRequest>,
    Streaming<DeltaDiscoveryResponse>,
);

async fn delta(channel: Channel, id: &str, type_url: &TypeUrl) -> Delta {
    let (requests, outbound) = mpsc::channel(4);
    let first = DeltaDiscoveryRequest {
        node: Some(node(id)),
        type_url: type_url.to_string(),
        resource_names_subscribe: vec!["*".into()],
        ..Default::default()
    };
    requests.send(first).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(64 << 20);
    let response = client
        .delta_aggregated_resources(ReceiverStream::new(outbound))
        .await
        .unwrap();
    (requests, response.into_inner())
}

#[tokio::test]
async fn a_client_follows_a_table_and_resumes_with_a_server_that_was_restarted() {
    let server = Running::start(None, table(&FEED, &[("a", "1"), ("b", "1")]), Limits::default()).await;
    let address = server.address;
    let mut notices = follow(address);
    let first = update(&mut notices).await;
    assert_eq!((names(&first), first.complete), (vec!["a", "b"], true));
    assert_eq!(first.upserts[0].bytes, "1");

    server.publish(table(&FEED, &[("a", "2"), ("b", "1")]));
    assert_eq!(names(&update(&mut notices).await), ["a"]);

    server.stop().await;
    let server = Running::start(
        Some(address),
        table(&FEED, &[("a", "2"), ("c", "1")]),
        Limits::default(),
    )
    .await;
    let resumed = update(&mut notices).await;
    assert_eq!(
        (names(&resumed), resumed.removed.clone(), resumed.complete),
        (vec!["c"], vec!["b".to_owned()], true)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_long_first_state_comes_whole_and_in_parts() {
    let big = "x".repeat(1 << 20);
    let all: Vec<(String, &str)> = (0..10).map(|at| (format!("r{at}"), big.as_str())).collect();
    let all: Vec<(&str, &str)> = all
        .iter()
        .map(|(name, content)| (name.as_str(), *content))
        .collect();
    let server = Running::start(None, table(&FEED, &all), Limits::default()).await;
    let mut notices = follow(server.address);
    let mut seen = Vec::new();
    loop {
        let update = update(&mut notices).await;
        let bytes: usize = update.upserts.iter().map(|each| each.bytes.len()).sum();
        assert!(bytes <= 4 << 20, "{bytes}");
        seen.extend(names(&update).iter().map(ToString::to_string));
        if update.complete {
            break;
        }
    }
    assert_eq!(
        seen,
        all.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()
    );
    server.stop().await;
}

#[tokio::test]
async fn events_tell_what_the_client_did() {
    let mut server = Running::start(None, table(&FEED, &[("a", "1")]), Limits::default()).await;
    let mut notices = follow(server.address);
    update(&mut notices).await;
    server.event(|event| matches!(event, Event::Connected)).await;
    server
        .event(|event| matches!(event, Event::Subscribed { wildcard: true, .. }))
        .await;
    server
        .event(|event| matches!(event, Event::Sent { resources: 1, .. }))
        .await;
    server.event(|event| matches!(event, Event::Acked { .. })).await;
    server.event(|event| matches!(event, Event::Synced { .. })).await;
    drop(notices);
    server.event(|event| matches!(event, Event::Closed)).await;
    server.stop().await;
}

#[tokio::test]
async fn whom_the_source_refuses_gets_its_status() {
    let server = Running::start(None, Table::default(), Limits::default()).await;
    let (_requests, mut responses) = delta(server.channel().await, "stranger", &FEED).await;
    let status = responses.message().await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::PermissionDenied, "strangers are not served")
    );
    server.stop().await;
}

#[tokio::test]
async fn one_stream_too_many_is_refused_and_its_place_is_free_again_later() {
    let limits = Limits {
        streams: 1,
        ..Limits::default()
    };
    let mut server = Running::start(None, table(&FEED, &[("a", "1")]), limits).await;
    let first = delta(server.channel().await, "one", &FEED).await;
    server.event(|event| matches!(event, Event::Connected)).await;
    let (_requests, mut second) = delta(server.channel().await, "two", &FEED).await;
    assert_eq!(
        second.message().await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    drop(first);
    server.event(|event| matches!(event, Event::Closed)).await;
    let (_requests, mut third) = delta(server.channel().await, "three", &FEED).await;
    assert_eq!(third.message().await.unwrap().unwrap().resources.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_gives_no_window_for_responses_is_cut_and_one_beside_it_is_not() {
    let limits = Limits {
        blocked: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = Running::start(None, table(&FEED, &[("a", "1")]), limits).await;
    let (_honest, mut responses) = delta(server.channel().await, "honest", &FEED).await;
    assert_eq!(responses.message().await.unwrap().unwrap().resources.len(), 1);
    let closed = endpoint(server.address).initial_stream_window_size(0);
    let _stuck = delta(closed.connect().await.unwrap(), "stuck", &FEED).await;
    let cuts = server.tables.cuts.lock().unwrap().clone();
    let [honest, stuck] = cuts.as_slice() else {
        panic!("{} streams", cuts.len())
    };
    let cut = timeout(LONG, stuck.cancelled()).await;
    cut.expect("a stream whose responses nobody takes should end");
    assert!(!honest.is_cancelled());
    server.stop().await;
}

#[tokio::test]
async fn who_starts_waits_for_those_who_have_not_answered_yet() {
    let limits = Limits {
        starting: 1,
        start: LONG,
        ..Limits::default()
    };
    let mut server = Running::start(None, table(&FEED, &[("a", "1")]), limits).await;
    let (requests, mut first) = delta(server.channel().await, "one", &FEED).await;
    let sent = first.message().await.unwrap().unwrap();
    let (_requests, mut second) = delta(server.channel().await, "two", &FEED).await;
    let early = timeout(Duration::from_millis(100), second.message()).await;
    assert!(early.is_err(), "it is not the second's turn");
    let ack = DeltaDiscoveryRequest {
        type_url: FEED.to_string(),
        response_nonce: sent.nonce,
        ..Default::default()
    };
    requests.send(ack).await.unwrap();
    assert_eq!(second.message().await.unwrap().unwrap().resources.len(), 1);
    server.event(|event| matches!(event, Event::Acked { .. })).await;
    server.stop().await;
}

#[tokio::test]
async fn who_is_slow_to_answer_gives_its_turn_to_the_next() {
    let limits = Limits {
        starting: 1,
        start: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = Running::start(None, table(&FEED, &[("a", "1")]), limits).await;
    let (_requests, mut first) = delta(server.channel().await, "one", &FEED).await;
    first.message().await.unwrap().unwrap();
    loop {
        let (_requests, mut second) = delta(server.channel().await, "two", &FEED).await;
        match second.message().await {
            Ok(response) => break assert_eq!(response.unwrap().resources.len(), 1),
            Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_has_its_age_ends_once_all_is_answered() {
    let limits = Limits {
        age: Some(Duration::from_millis(50)),
        ..Limits::default()
    };
    let server = Running::start(None, table(&FEED, &[("a", "1")]), limits).await;
    let (requests, mut responses) = delta(server.channel().await, "one", &FEED).await;
    let sent = responses.message().await.unwrap().unwrap();
    let early = timeout(Duration::from_millis(150), responses.message()).await;
    assert!(early.is_err(), "it waits for the answer");
    let ack = DeltaDiscoveryRequest {
        type_url: FEED.to_string(),
        response_nonce: sent.nonce,
        ..Default::default()
    };
    requests.send(ack).await.unwrap();
    let end = timeout(LONG, responses.message()).await.expect("it ends");
    assert!(end.unwrap().is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_silent_stream_is_ended() {
    let limits = Limits {
        first_request: Duration::from_millis(50),
        ..Limits::default()
    };
    let server = Running::start(None, Table::default(), limits).await;
    let (_requests, outbound) = mpsc::channel::<DeltaDiscoveryRequest>(1);
    let mut client = AggregatedDiscoveryServiceClient::new(server.channel().await);
    let response = client
        .delta_aggregated_resources(ReceiverStream::new(outbound))
        .await
        .unwrap();
    let ended = timeout(LONG, response.into_inner().message()).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded);
    server.stop().await;
}

#[tokio::test]
async fn a_request_against_the_rules_ends_its_stream_with_the_reason() {
    let server = Running::start(None, Table::default(), Limits::default()).await;
    let (requests, mut responses) = delta(server.channel().await, "one", &FEED).await;
    responses.message().await.unwrap();
    requests.send(DeltaDiscoveryRequest::default()).await.unwrap();
    let status = responses.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("type_url"), "{}", status.message());
    server.stop().await;
}

#[tokio::test]
async fn state_of_the_world_is_served_beside_delta() {
    let server = Running::start(None, table(&FEED, &[("a", "1"), ("b", "1")]), Limits::default()).await;
    let (requests, outbound) = mpsc::channel(4);
    let first = DiscoveryRequest {
        node: Some(node("one")),
        type_url: FEED.to_string(),
        resource_names: vec!["b".into()],
        ..Default::default()
    };
    requests.send(first).await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(server.channel().await);
    let response = client
        .stream_aggregated_resources(ReceiverStream::new(outbound))
        .await
        .unwrap();
    let message = response.into_inner().message().await.unwrap().unwrap();
    assert_eq!(message.resources.len(), 1);
    assert_eq!(message.resources[0].value, b"1");
    server.stop().await;
}

#[tokio::test]
async fn secrets_have_a_service_of_their_own_that_serves_nothing_else() {
    let mut all = table(&SECRET, &[("default", "key")]);
    all = all.with(&FEED, [("a".into(), "1".into())], [""; 0]);
    let server = Running::start(None, all, Limits::default()).await;
    let ask = |type_url: &str, name: &str| DeltaDiscoveryRequest {
        node: Some(node("one")),
        type_url: type_url.into(),
        resource_names_subscribe: vec![name.into()],
        ..Default::default()
    };
    let mut client = SecretDiscoveryServiceClient::new(server.channel().await);
    let (requests, outbound) = mpsc::channel(4);
    requests.send(ask("", "default")).await.unwrap();
    let mut responses = client
        .delta_secrets(ReceiverStream::new(outbound))
        .await
        .unwrap()
        .into_inner();
    let message = responses.message().await.unwrap().unwrap();
    assert_eq!(message.type_url, SECRET.as_str());
    assert_eq!(message.resources[0].resource.as_ref().unwrap().value, b"key");
    requests.send(ask(FEED.as_str(), "a")).await.unwrap();
    assert_eq!(
        responses.message().await.unwrap_err().code(),
        Code::InvalidArgument
    );
    server.stop().await;
}

#[tokio::test]
async fn one_that_never_reads_holds_nobody_up() {
    let big = "x".repeat(8 << 20);
    let mut server = Running::start(None, table(&FEED, &[("a", &big)]), Limits::default()).await;
    let stuck = delta(server.channel().await, "stuck", &FEED).await;
    server.event(|event| matches!(event, Event::Sent { .. })).await;
    for version in 0..5 {
        server.publish(table(&FEED, &[("a", &format!("{big}{version}")), ("b", "1")]));
    }
    let (_requests, mut responses) = delta(server.channel().await, "other", &FEED).await;
    let message = timeout(LONG, responses.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(
        message.resources.len(),
        2 - usize::from(message.system_version_info.is_empty())
    );
    drop(stuck);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_ends_its_stream_and_no_other() {
    let limits = Limits {
        message_bytes: 1 << 20,
        ..Limits::default()
    };
    let server = Running::start(None, table(&FEED, &[("a", "1")]), limits).await;
    let (_requests, mut other) = delta(server.channel().await, "one", &FEED).await;
    assert_eq!(other.message().await.unwrap().unwrap().resources.len(), 1);
    let large = "x".repeat(2 << 20);
    let (_requests, mut refused) = delta(server.channel().await, &large, &FEED).await;
    let status = timeout(LONG, refused.message()).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
    server.publish(table(&FEED, &[("a", "2")]));
    let early = timeout(Duration::from_millis(100), other.message()).await;
    assert!(
        early.is_err(),
        "the first response is not answered yet, and the stream lives"
    );
    server.stop().await;
}

#[tokio::test]
async fn who_asks_for_unknown_types_gets_a_reason_at_the_bound() {
    let server = Running::start(None, table(&FEED, &[("a", "1")]), Limits::default()).await;
    let (requests, mut responses) = delta(server.channel().await, "one", &FEED).await;
    responses.message().await.unwrap();
    let ask = |at: usize| DeltaDiscoveryRequest {
        type_url: format!("unknown/{at}"),
        resource_names_subscribe: vec!["x".into()],
        ..Default::default()
    };
    let asking = tokio::spawn(async move {
        for at in 0..100 {
            if requests.send(ask(at)).await.is_err() {
                break;
            }
        }
    });
    let reason = async {
        loop {
            match responses.message().await {
                Ok(Some(response)) => assert!(response.resources.is_empty()),
                Ok(None) => panic!("it ends with a reason"),
                Err(status) => break status,
            }
        }
    };
    let status = timeout(LONG, reason).await.expect("it ends");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("64 resource types"), "{status}");
    asking.await.unwrap();
    server.stop().await;
}
