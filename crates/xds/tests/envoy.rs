//! A real Envoy on this server: the rules that the state is written to hold for it, in both variants.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may fail loudly"
)]

mod resources;

use resources::{cluster, endpoints, listener, route, static_cluster};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use testkit::envoy::{Admin, binary};
use testkit::net::Block;
use testkit::{Process, Rundir, Spec, wait};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::transport::Server as Transport;
use xds::server::{Hello, Limits, Source, StreamId};
use xds::stream::Settings;
use xds::table::Builder;
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};
use xds::{Event, Server, Table, TypeUrl};

/// Longer than anything should take, shorter than the 15 s that Envoy waits for what does not come.
const SOON: Duration = Duration::from_secs(12);
const DRAIN: Duration = Duration::from_secs(2);

struct Tables {
    tables: watch::Receiver<Arc<Table>>,
    events: mpsc::UnboundedSender<Event>,
}

impl Source for Tables {
    async fn connect(&self, _: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        Ok(self.tables.clone())
    }

    fn observe(&self, _: StreamId, event: Event) {
        _ = self.events.send(event);
    }
}

struct Test {
    block: Block,
    tables: watch::Sender<Arc<Table>>,
    events: mpsc::UnboundedReceiver<Event>,
    admin: Admin,
    envoy: Process,
    server: (oneshot::Sender<()>, JoinHandle<()>),
    address: SocketAddr,
    _dir: Rundir,
}

/// Serves the tables until it is told to stop.
async fn serve(
    address: SocketAddr,
    tables: watch::Receiver<Arc<Table>>,
    events: mpsc::UnboundedSender<Event>,
) -> (SocketAddr, (oneshot::Sender<()>, JoinHandle<()>)) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        stream: Settings {
            drain: DRAIN,
            ..Settings::default()
        },
        ..Limits::default()
    };
    let server = Server::new(Tables { tables, events }, limits);
    let (stop, stopped) = oneshot::channel();
    let stopped = async move { _ = stopped.await };
    let serving = Transport::builder()
        .add_service(server.ads())
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped);
    (
        address,
        (stop, tokio::spawn(async move { serving.await.unwrap() })),
    )
}

impl Test {
    /// An Envoy that has the table.
    async fn start(name: &str, api_type: &str, table: impl Fn(&Block) -> Table) -> Self {
        let block = Block::take().unwrap();
        let dir = Rundir::new(name).unwrap();
        let (tables, receiver) = watch::channel(Arc::new(table(&block)));
        let (sender, events) = mpsc::unbounded_channel();
        let (address, server) = serve(block.addr(1, 0), receiver, sender).await;
        let config = bootstrap(address, block.addr(2, 15000), api_type);
        let envoy = envoy(dir.path(), &config).start().unwrap();
        let admin = Admin::new(block.addr(2, 15000));
        let mut test = Self {
            block,
            tables,
            events,
            admin,
            envoy,
            server,
            address,
            _dir: dir,
        };
        test.synced().await;
        test
    }

    /// Publishes a table and waits until Envoy has answered all of it. The events until then.
    async fn publish(&mut self, table: Builder) -> Vec<Event> {
        self.tables.send_replace(Arc::new(table.build(None)));
        self.synced().await
    }

    /// Another server in the place of this one, with another table. The events until Envoy has answered all of it.
    async fn restart(&mut self, table: Builder) -> Vec<Event> {
        let (tables, receiver) = watch::channel(Arc::new(table.build(None)));
        let (sender, events) = mpsc::unbounded_channel();
        let (unused, _) = oneshot::channel();
        let stop = std::mem::replace(&mut self.server.0, unused);
        stop.send(()).unwrap();
        // Its streams end with its tables, and the server with its streams.
        self.tables = tables;
        (&mut self.server.1).await.unwrap();
        self.events = events;
        self.server = serve(self.address, receiver, sender).await.1;
        // Envoy asks type by type, routes last; what it has asked for so far may be answered before.
        let asked_for_routes =
            |event: &Event| matches!(event, Event::Subscribed { type_url, .. } if *type_url == ROUTE);
        let mut events = self.until(asked_for_routes).await;
        events.extend(self.synced().await);
        events
    }

    async fn synced(&mut self) -> Vec<Event> {
        let newest = self.tables.borrow().version();
        self.until(|event| matches!(event, Event::Synced { table } if table.version() == newest))
            .await
    }

    async fn until(&mut self, what: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let event = self.events.recv().await.unwrap();
                seen.push(event.clone());
                if what(&event) {
                    return;
                }
            }
        };
        let came = timeout(SOON, wait).await.is_ok();
        assert!(came, "it did not come; events: {seen:#?}\n{}", self.envoy.tail());
        seen
    }

    /// What the listener on this port answers.
    async fn answers(&self, port: u16, expected: u16) {
        let url = format!("http://{}/ready", self.block.addr(3, port));
        let look = || async {
            let answer = testkit::http::Client::default().get(&url).send().await?;
            answer.expect_status(expected)
        };
        wait::until("the listener to answer", SOON, look).await.unwrap();
    }

    async fn has_cluster(&self, name: &str) -> bool {
        let dump = self.admin.config_dump().await.unwrap();
        dump["configs"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|each| each["dynamic_active_clusters"].as_array())
            .flatten()
            .any(|each| each["cluster"]["name"] == name)
    }
}

fn envoy(dir: &Path, config: &Value) -> Spec {
    Spec::new("envoy", binary().unwrap(), dir)
        .arg("--config-yaml")
        .arg(config.to_string())
        .arg("--disable-hot-restart")
        .flag("--concurrency", 1)
}

fn bootstrap(server: SocketAddr, admin: SocketAddr, api_type: &str) -> Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let endpoint = json!({"endpoint": {"address": socket(server)}});
    let ads = json!({
        "api_type": api_type,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
    });
    json!({
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": socket(admin)},
        "dynamic_resources": {
            "ads_config": ads,
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [{
            "name": "xds",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }},
        }]},
    })
}

/// Two listeners whose routes lead to clusters whose one endpoint is Envoy's own admin page.
fn mesh(block: &Block, clusters: &[&str], revision: u32) -> Builder {
    let admin = block.addr(2, 15000);
    let first = clusters[0];
    let mut table = Table::builder()
        .add(LISTENER, "one", listener("one", block.addr(3, 8001), "r1"))
        .add(LISTENER, "two", listener("two", block.addr(3, 8002), "r2"))
        .add(ROUTE, "r1", route("r1", first, 1))
        .add(ROUTE, "r2", route("r2", first, 1));
    for name in clusters {
        table =
            table
                .add(CLUSTER, *name, cluster(name, revision))
                .add(ENDPOINTS, *name, endpoints(name, admin));
    }
    table
}

fn acks(events: &[Event], url: &TypeUrl) -> usize {
    events
        .iter()
        .filter(|event| matches!(event, Event::Acked { type_url, .. } if type_url == url))
        .count()
}

async fn a_change_never_waits_for_endpoints(api_type: &str) {
    let mut test = Test::start("xds-warm", api_type, |block| mesh(block, &["a"], 1).build(None)).await;
    test.answers(8001, 200).await;
    // The same endpoints, another cluster: Envoy waits for them nevertheless.
    let events = test.publish(mesh(&test.block, &["a"], 2)).await;
    assert_eq!(acks(&events, &CLUSTER), 1);
    test.publish(mesh(&test.block, &["a", "b"], 3)).await;
    test.answers(8002, 200).await;
}

async fn what_changed_while_the_server_was_away_comes_without_a_wait(api_type: &str) {
    let mut test = Test::start("xds-restart", api_type, |block| {
        mesh(block, &["a"], 1).build(None)
    })
    .await;
    test.restart(mesh(&test.block, &["a", "b"], 2)).await;
    wait::until("the new cluster", SOON, || async {
        or_not_yet(test.has_cluster("b").await)
    })
    .await
    .unwrap();
    test.answers(8001, 200).await;
}

fn or_not_yet(holds: bool) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err("not yet") }
}

/// Delta only: a state-of-the-world client cannot say what it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_changes_nothing_sends_nothing() {
    let mut test = Test::start("xds-resume", "DELTA_GRPC", |block| {
        mesh(block, &["a"], 1).build(None)
    })
    .await;
    let events = test.restart(mesh(&test.block, &["a"], 1)).await;
    for event in &events {
        if let Event::Sent {
            resources, removed, ..
        } = event
        {
            assert_eq!((*resources, *removed), (0, 0), "{events:#?}");
        }
    }
    test.answers(8001, 200).await;
}

async fn what_is_replaced_goes_after_the_drain_time(api_type: &str) {
    let mut test = Test::start("xds-drain", api_type, |block| mesh(block, &["a"], 1).build(None)).await;
    test.publish(mesh(&test.block, &["b"], 1)).await;
    test.answers(8001, 200).await;
    assert!(test.has_cluster("a").await, "it may still be in use");
    let removed = |event: &Event| matches!(event, Event::Acked { type_url, .. } if *type_url == CLUSTER);
    test.until(removed).await;
    assert!(!test.has_cluster("a").await);
    test.answers(8001, 200).await;
}

async fn a_bad_cluster_is_named_and_harms_no_other(api_type: &str) {
    let mut test = Test::start("xds-nack-cds", api_type, |block| {
        mesh(block, &["a"], 1).build(None)
    })
    .await;
    let bad = static_cluster("bad", "not an address");
    let events = test
        .publish(mesh(&test.block, &["a", "b"], 2).add(CLUSTER, "bad", bad))
        .await;
    let nacked = events.iter().find_map(|event| match event {
        Event::Nacked {
            suspects,
            certain: true,
            ..
        } => Some(suspects.clone()),
        _ => None,
    });
    assert_eq!(nacked.unwrap(), ["bad".into()], "{events:#?}");
    assert!(test.has_cluster("b").await, "the good ones were applied");
    let events = test.publish(mesh(&test.block, &["a", "b"], 2)).await;
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::Rejected { resources, .. } if resources.is_empty()))
    );
}

async fn a_bad_route_is_found_among_others(api_type: &str) {
    let mut test = Test::start("xds-nack-rds", api_type, |block| {
        mesh(block, &["a"], 1).build(None)
    })
    .await;
    // Two virtual hosts for one domain.
    let table = mesh(&test.block, &["a"], 1).add(ROUTE, "r1", route("r1", "a", 2));
    let table = table.add(ROUTE, "r2", route("r2", "nowhere", 1));
    let events = test.publish(table).await;
    let rejected = events.iter().rev().find_map(|event| match event {
        Event::Rejected { resources, .. } => Some(resources.clone()),
        _ => None,
    });
    let rejected = rejected.unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!(
        rejected.iter().map(|each| each.name.as_ref()).collect::<Vec<_>>(),
        ["r1"]
    );
    test.answers(8001, 200).await;
    test.answers(8002, 503).await;
}

macro_rules! both_variants {
    ($($rule:ident)*) => {
        mod delta {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                super::$rule("DELTA_GRPC").await;
            })*
        }
        mod sotw {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                super::$rule("GRPC").await;
            })*
        }
    };
}

both_variants! {
    a_change_never_waits_for_endpoints
    what_changed_while_the_server_was_away_comes_without_a_wait
    what_is_replaced_goes_after_the_drain_time
    a_bad_cluster_is_named_and_harms_no_other
    a_bad_route_is_found_among_others
}
