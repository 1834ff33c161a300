//! Serves the feed: who may subscribe, and the table that follows the newest state.

use std::sync::Arc;

use runtime::grpc;
use runtime::spiffe::SYSTEM_NAMESPACE;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::http::Extensions;
use xds::Table;
use xds::server::{Hello, Source};

/// The mesh's services that read the feed.
const SUBSCRIBERS: [&str; 2] = ["mixer", "pilot"];

/// The feed's tables for subscribers.
#[derive(Debug)]
pub(crate) struct Feed {
    tables: watch::Receiver<Option<Arc<Table>>>,
}

impl Feed {
    /// A feed of these tables; `None` before the first complete state.
    pub(crate) fn new(tables: watch::Receiver<Option<Arc<Table>>>) -> Self {
        Self { tables }
    }
}

impl Source for Feed {
    fn connection(&self, extensions: &Extensions) -> Option<CancellationToken> {
        grpc::cut(extensions)
    }

    async fn connect(&self, hello: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        let peer = grpc::peer(&hello.extensions)
            .ok_or_else(|| Status::unauthenticated("the feed is served over mutual TLS only"))?;
        let account = peer.spiffe_id.account();
        if !SUBSCRIBERS
            .iter()
            .any(|service| account == Some((SYSTEM_NAMESPACE, service)))
        {
            tracing::warn!(peer = %peer.spiffe_id, "refused a subscriber of the feed");
            let text = format!(
                "{} may not read the feed; it is for the mesh's own services",
                peer.spiffe_id
            );
            return Err(Status::permission_denied(text));
        }
        let mut tables = self.tables.clone();
        // Nothing is served as complete before the source has been read.
        let ended = |_| Status::unavailable("Galley is shutting down");
        let first = tables
            .wait_for(Option::is_some)
            .await
            .map_err(ended)?
            .clone()
            .unwrap_or_default();
        let (sender, receiver) = watch::channel(first);
        tokio::spawn(forward(tables, sender));
        Ok(receiver)
    }
}

/// Gives a subscriber the newest table until it goes.
async fn forward(mut tables: watch::Receiver<Option<Arc<Table>>>, sender: watch::Sender<Arc<Table>>) {
    loop {
        tokio::select! {
            changed = tables.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
        if let Some(table) = tables.borrow_and_update().clone() {
            sender.send_replace(table);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Weak;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use config::Kind;
    use runtime::grpc::ConnectInfo;
    use runtime::{Peer, SpiffeId};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tonic::service::InterceptorLayer;
    use tonic::transport::{Endpoint, Server as Transport};
    use tonic::{Code, Request};
    use xds::client::{Backoff, Client, Notice, State, Subscription};
    use xds::server::StreamId;
    use xds::stream::Variant;

    use super::*;

    type Tables = watch::Sender<Option<Arc<Table>>>;

    fn info(account: Option<&str>) -> ConnectInfo {
        let peer = |account: &str| {
            let id = format!("spiffe://cluster.local/{account}");
            Arc::new(Peer {
                spiffe_id: SpiffeId::parse(&id).unwrap(),
                not_after: 0,
            })
        };
        ConnectInfo {
            remote: None,
            peer: account.map(peer),
            serial: None,
            cut: CancellationToken::new(),
        }
    }

    fn hello(account: Option<&str>) -> Hello {
        let mut hello = Hello {
            stream: StreamId(1),
            variant: Variant::Delta,
            node: Default::default(),
            extensions: Default::default(),
        };
        hello.extensions.insert(info(account));
        hello
    }

    /// A table of one large object of that content, and one of its own name.
    fn table(content: u8, name: &str) -> Arc<Table> {
        let type_url = feed::type_url(Kind::Sidecar);
        let large = vec![content; 2 << 20].into();
        let table = Table::builder().add(type_url.clone(), "shop/large", large);
        Arc::new(table.add(type_url, name, vec![content].into()).build(None))
    }

    #[tokio::test]
    async fn only_the_meshs_own_services_may_read() {
        let (_tables, served) = watch::channel(Some(table(0, "shop/a")));
        let feed = Feed::new(served);
        for (account, expected) in [
            (Some("ns/argosy-system/sa/pilot"), Ok(())),
            (Some("ns/argosy-system/sa/mixer"), Ok(())),
            (Some("ns/argosy-system/sa/citadel"), Err(Code::PermissionDenied)),
            (Some("ns/shop/sa/pilot"), Err(Code::PermissionDenied)),
            (Some("argosy-system/pilot"), Err(Code::PermissionDenied)),
            (None, Err(Code::Unauthenticated)),
        ] {
            let seen = feed.connect(&hello(account)).await;
            assert_eq!(
                seen.map(drop).map_err(|status| status.code()),
                expected,
                "{account:?}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_is_served_before_the_source_has_been_read() {
        let (tables, served) = watch::channel(None);
        let feed = Feed::new(served);
        let hello = hello(Some("ns/argosy-system/sa/pilot"));
        let mut connecting = Box::pin(feed.connect(&hello));
        tokio::select! {
            biased;
            _ = &mut connecting => panic!("served"),
            () = tokio::task::yield_now() => {}
        }
        tables.send_replace(Some(table(7, "shop/a")));
        let first = connecting.await.unwrap().borrow().clone();
        assert_eq!(first.version(), table(7, "shop/a").version());
        drop(tables);
    }

    /// A Galley on a port, whose callers all are Pilots.
    async fn serve(served: watch::Receiver<Option<Arc<Table>>>) -> SocketAddr {
        let known = InterceptorLayer::new(|mut request: Request<()>| {
            request
                .extensions_mut()
                .insert(info(Some("ns/argosy-system/sa/pilot")));
            Ok(request)
        });
        let server = xds::Server::new(Feed::new(served), crate::limits());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(connection, _)| connection);
            Some((accepted, listener))
        });
        let serving = Transport::builder()
            .layer(known)
            .add_service(server.ads())
            .serve_with_incoming(incoming);
        tokio::spawn(async move { serving.await.unwrap() });
        address
    }

    /// Subscribes; what is not received holds the subscriber up. `addresses` are tried in turn.
    fn subscribe(addresses: &[SocketAddr]) -> mpsc::Receiver<Notice> {
        let (notices, received) = mpsc::channel(1);
        let addresses = addresses.to_vec();
        let attempts = AtomicUsize::new(0);
        let connect = move || {
            let attempt = attempts.fetch_add(1, Ordering::Relaxed);
            let address = addresses[attempt % addresses.len()];
            async move {
                Ok::<_, tonic::transport::Error>(
                    Endpoint::from_shared(format!("http://{address}"))?.connect_lazy(),
                )
            }
        };
        let wants = [(feed::type_url(Kind::Sidecar), Subscription::Wildcard)];
        let retry = Duration::from_millis(10);
        let client = Client::new(connect, State::new(Default::default(), wants))
            .with_backoff(Backoff::new(retry, retry));
        tokio::spawn(client.run(notices));
        received
    }

    /// Receives until the object of that name has come; the names that came, and whether the state was complete.
    async fn until(received: &mut mpsc::Receiver<Notice>, name: &str) -> (Vec<String>, bool) {
        let (mut names, mut complete) = (Vec::new(), false);
        let receiving = async {
            while !names.iter().any(|each| each == name) {
                if let Some(Notice::Update(update)) = received.recv().await {
                    names.extend(update.upserts.iter().map(|each| each.name.clone()));
                    complete |= update.complete;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(30), receiving)
            .await
            .expect("served");
        (names, complete)
    }

    #[tokio::test]
    async fn who_never_reads_holds_no_memory_and_nobody_up() {
        let (tables, served) = watch::channel(Some(table(0, "shop/first")));
        let address = serve(served).await;
        let mut reading = [subscribe(&[address]), subscribe(&[address])];
        for each in &mut reading {
            until(each, "shop/first").await;
        }
        let silent = subscribe(&[address]);
        let mut given: Vec<Weak<Table>> = Vec::new();
        for number in 1..=40 {
            let name = format!("shop/n{number}");
            let table = table(number, &name);
            given.push(Arc::downgrade(&table));
            tables.send_replace(Some(table));
            until(&mut reading[0], &name).await;
        }
        until(&mut reading[1], "shop/n40").await;
        // The newest, what is being compared with it, and what the silent one stands at.
        let held = given.iter().filter(|table| table.strong_count() > 0).count();
        assert!(held <= 4, "{held} tables of 40 are held");
        drop(silent);
    }

    #[tokio::test]
    async fn a_subscriber_resumes_from_its_versions_at_another_galley() {
        let state = |extra: &str| {
            let type_url = feed::type_url(Kind::Sidecar);
            let table = Table::builder().add(type_url.clone(), "shop/a", b"a".to_vec().into());
            let table = table.add(type_url.clone(), "shop/b", b"b".to_vec().into());
            Some(Arc::new(
                table.add(type_url, extra, b"c".to_vec().into()).build(None),
            ))
        };
        let (one, first): (Tables, _) = watch::channel(state("shop/old"));
        let (_two, second): (Tables, _) = watch::channel(state("shop/new"));
        let addresses = [serve(first).await, serve(second).await];
        let mut received = subscribe(&addresses);
        let (names, complete) = until(&mut received, "shop/old").await;
        assert_eq!((names.len(), complete), (3, true));
        // The first Galley goes; the second tells only what differs.
        drop(one);
        let (names, complete) = until(&mut received, "shop/new").await;
        assert_eq!((names, complete), (vec!["shop/new".to_owned()], true));
    }
}
