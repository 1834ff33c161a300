//! The facts about all Secrets as a feed for Galley: delta discovery as Galley itself serves it, resumable from versions.
//! Nobody else may read it: which Secrets a cluster has is nobody's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use runtime::spiffe::SYSTEM_NAMESPACE;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::http::Extensions;
use xds::server::{Hello, Source};
use xds::{Table, TypeUrl};

use super::facts;
use super::proof::Proof;
use super::{Key, Known, Secret};
use crate::current::Current;

/// The mesh's service that reads the facts.
const SUBSCRIBER: &str = "galley";
/// Most Galleys at once.
const MAX_SUBSCRIBERS: usize = 64;
/// Secrets that change faster are told of together.
const REST: Duration = Duration::from_millis(50);

type Tables = watch::Receiver<Option<Arc<Table>>>;

/// The feed's tables, and who may still read them.
#[derive(Debug)]
pub(crate) struct FactsFeed {
    pub(crate) tables: Tables,
    pub(crate) current: Current,
}

/// A subscriber has one stream of one type, and facts about what is gone leave at once.
pub(crate) fn limits() -> xds::server::Limits {
    let stream = xds::stream::Settings {
        types: 1,
        drain: Duration::ZERO,
        ..Default::default()
    };
    xds::server::Limits {
        stream,
        streams: MAX_SUBSCRIBERS,
        ..Default::default()
    }
}

impl Source for FactsFeed {
    fn connection(&self, extensions: &Extensions) -> Option<CancellationToken> {
        runtime::grpc::cut(extensions)
    }

    async fn connect(&self, hello: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        let proof = Proof::of(&hello.extensions, &self.current).await?;
        let peer = &proof.peer;
        if peer.spiffe_id.account() != Some((SYSTEM_NAMESPACE, SUBSCRIBER)) {
            tracing::warn!(target: "citadel::audit", id = %peer.spiffe_id, "refused a reader of facts about Secrets");
            return Err(Status::permission_denied(format!(
                "{} may not read facts about Secrets; they are for Galley",
                peer.spiffe_id
            )));
        }
        let mut tables = self.tables.clone();
        // Nothing is told as complete before every source was read.
        let ended = |_| Status::unavailable("Citadel is shutting down");
        let first = tables
            .wait_for(Option::is_some)
            .await
            .map_err(ended)?
            .clone()
            .unwrap_or_default();
        let (sender, receiver) = watch::channel(first);
        tokio::spawn(forward(tables, sender, proof));
        Ok(receiver)
    }
}

/// Gives a subscriber the newest table until one of the two goes, or the subscriber's certificate is revoked: it is told so when it
/// comes again.
async fn forward(mut tables: Tables, sender: watch::Sender<Arc<Table>>, proof: Proof) {
    let lost = proof.lost();
    tokio::pin!(lost);
    loop {
        tokio::select! {
            biased;
            _ = &mut lost => return,
            changed = tables.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
        if let Some(table) = tables.borrow_and_update().clone() {
            sender.send_replace(table);
        }
    }
}

/// Makes tables of what is known until `shutdown`, which ends all streams too.
pub(crate) async fn publish(
    mut known: watch::Receiver<Known>,
    tables: watch::Sender<Option<Arc<Table>>>,
    shutdown: CancellationToken,
) {
    let mut told = Told::default();
    loop {
        let now = known.borrow_and_update().clone();
        if now.complete {
            let table = told.table(&now);
            tables.send_replace(Some(table));
        }
        let next = async {
            tokio::time::sleep(REST).await;
            known.changed().await
        };
        match shutdown.run_until_cancelled(next).await {
            Some(Ok(())) => {}
            _ => return,
        }
    }
}

/// What was told last: certificates are parsed again only where a Secret has changed.
#[derive(Default)]
struct Told {
    secrets: BTreeMap<Key, Arc<Secret>>,
    table: Arc<Table>,
}

impl Told {
    fn table(&mut self, known: &Known) -> Arc<Table> {
        let is_told = |key: &Key, secret: &Arc<Secret>| {
            self.secrets
                .get(key)
                .is_some_and(|told| Arc::ptr_eq(told, secret))
        };
        let upserts: Vec<_> = known
            .secrets
            .iter()
            .filter(|(key, secret)| !is_told(key, secret))
            .map(|(key, secret)| {
                let (name, object) = facts::object(key, secret);
                (Arc::from(name), object.encode_to_vec().into())
            })
            .collect();
        let removed: Vec<String> = self
            .secrets
            .keys()
            .filter(|key| !known.secrets.contains_key(*key))
            .map(|key| format!("{}/{}", key.namespace, key.name))
            .collect();
        self.table = Arc::new(
            self.table
                .with(&TypeUrl::fixed(facts::TYPE_URL), upserts, removed),
        );
        self.secrets = (*known.secrets).clone();
        self.table.clone()
    }
}
