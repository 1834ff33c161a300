//! Has the mesh's names from Pilot, by a stream of the agent's own, and keeps them while Pilot is away.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::data::dns::v3::DnsTable;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use prost::{Message, Name};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use xds::client::{Backoff, Client, Notice, State, Subscription, Update};

use super::names::Names;

/// First and longest wait before Pilot is asked again.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Who asks Pilot, and what for.
#[derive(Debug, Clone)]
pub struct Asker {
    /// The way to Pilot.
    pub channel: Channel,
    /// The node's id.
    pub node_id: String,
    /// Texts of the node's metadata by which Pilot tells proxies' configurations apart.
    pub metadata: Vec<(String, String)>,
    /// The machine's search list.
    pub search: Vec<String>,
}

impl Asker {
    /// The names, none at first, and the work of following them, which ends when nobody reads them any more.
    pub fn follow(self) -> (watch::Receiver<Arc<Names>>, impl Future<Output = ()> + Send) {
        let (sender, receiver) = watch::channel(Arc::new(Names::default()));
        let text = |text: String| Value {
            kind: Some(Kind::StringValue(text)),
        };
        let fields = self.metadata.into_iter().map(|(name, value)| (name, text(value)));
        let node = Node {
            id: self.node_id,
            metadata: Some(Struct {
                fields: fields.collect(),
            }),
            ..Node::default()
        };
        let state = State::new(node, [(DnsTable::type_url().into(), Subscription::Wildcard)]);
        let (channel, search) = (self.channel, self.search);
        let client = Client::new(move || ready(Ok::<_, Infallible>(channel.clone())), state)
            .with_backoff(Backoff::new(WAITS.0, WAITS.1));
        let (notices, received) = mpsc::channel(1);
        (receiver, async move {
            tokio::join!(client.run(notices), take(received, &sender, &search));
        })
    }
}

async fn take(mut notices: mpsc::Receiver<Notice>, names: &watch::Sender<Arc<Names>>, search: &[String]) {
    while let Some(notice) = notices.recv().await {
        if names.is_closed() {
            return;
        }
        if let Notice::Update(update) = notice
            && let Some(read) = read(&update, search)
        {
            tracing::debug!(names = read.len(), "names of the mesh for DNS");
            names.send_replace(Arc::new(read));
        }
    }
}

/// The names of an update; `None` for one that says nothing of them. Pilot has them in one resource.
fn read(update: &Update, search: &[String]) -> Option<Names> {
    let table = update.upserts.last()?;
    match DnsTable::decode(table.bytes.clone()) {
        Ok(table) => Some(Names::new(&table, search)),
        Err(error) => {
            tracing::error!(%error, "Pilot's names cannot be read; those from before stay");
            None
        }
    }
}
