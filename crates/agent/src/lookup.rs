//! Asks Pilot for the agent's own WorkloadEntry, and goes on listening: the entry may change, or come later.
//!
//! What an entry means is [`crate::workload`]'s.

use std::{convert::Infallible, future::ready, sync::Arc, time::Duration, time::Instant};

use config::Kind;
use envoy_types::pb::envoy::config::core::v3::Node;
use runtime::{Condition, context::describe};
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use xds::client::{Backoff, Client, Notice, State, Subscription, Update};

use crate::{
    calm::Calm,
    workload::{Workload, WorkloadName},
};

/// First and longest wait before Pilot is asked again.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// What is asked, and of whom.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The way to Pilot.
    pub channel: Channel,
    /// Pilot's address, for messages.
    pub pilot: String,
    /// Whose entry.
    pub workload: WorkloadName,
    /// The node id to ask with.
    pub node_id: String,
}

/// The entry as Pilot last told it; `None` before it did. It never goes back to `None`.
pub type Current = watch::Receiver<Option<Arc<Workload>>>;

impl Lookup {
    /// The entry, and the work of following it, which ends when nobody receives any more. `condition` holds once
    /// there is an entry, and says why not until then.
    pub fn follow(self, condition: Condition) -> (Current, impl Future<Output = ()> + Send) {
        let (sender, receiver) = watch::channel(None);
        let node = Node {
            id: self.node_id.clone(),
            ..Node::default()
        };
        let wanted = Subscription::Names(vec![self.workload.to_string()]);
        let state = State::new(node, [(feed::type_url(Kind::WorkloadEntry), wanted)]);
        let channel = self.channel.clone();
        let client = Client::new(move || ready(Ok::<_, Infallible>(channel.clone())), state)
            .with_backoff(Backoff::new(WAITS.0, WAITS.1));
        condition.set_not_ready(format!("Pilot at {} has not answered yet", self.pilot));
        let follower = Follower {
            lookup: self,
            condition,
            sender,
            calm: Calm::default(),
        };
        let (notices, received) = mpsc::channel(1);
        (receiver, async move {
            tokio::join!(client.run(notices), follower.run(received));
        })
    }
}

struct Follower {
    lookup: Lookup,
    condition: Condition,
    sender: watch::Sender<Option<Arc<Workload>>>,
    calm: Calm,
}

impl Follower {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>) {
        loop {
            let notice = tokio::select! {
                notice = notices.recv() => notice,
                () = self.sender.closed() => return,
            };
            match notice {
                Some(Notice::Update(update)) => self.take(&update),
                Some(Notice::Lost { error, .. }) => self.lost(&error),
                Some(Notice::Connected) => {}
                None => return,
            }
        }
    }

    fn take(&mut self, update: &Update) {
        let name = self.lookup.workload.to_string();
        for resource in update.upserts.iter().filter(|resource| resource.name == name) {
            match read(&name, &resource.bytes) {
                Ok(workload) => self.found(workload),
                Err(reason) => self.say(reason),
            }
        }
        if update.removed.contains(&name) {
            self.gone();
        }
    }

    fn found(&mut self, workload: Workload) {
        self.calm.clear();
        self.condition.set_ready();
        let workload = Some(Arc::new(workload));
        self.sender.send_if_modified(|current| {
            let changed = *current != workload;
            if changed {
                *current = workload;
            }
            changed
        });
    }

    /// Pilot has no such entry. A proxy that runs keeps running.
    fn gone(&mut self) {
        let name = &self.lookup.workload;
        self.say(if self.is_known() {
            format!("WorkloadEntry {name} was removed; its proxy runs on until this agent is stopped")
        } else {
            format!(
                "Pilot at {} knows no WorkloadEntry {name}; add it to the configuration, or correct --workload",
                self.lookup.pilot
            )
        });
    }

    /// Once the entry is known this is no news: Envoy's own streams to Pilot fail alike, and are told of.
    fn lost(&mut self, error: &str) {
        if !self.is_known() {
            self.say(format!("Pilot at {}: {error}", self.lookup.pilot));
        }
    }

    fn is_known(&self) -> bool {
        self.sender.borrow().is_some()
    }

    fn say(&mut self, reason: String) {
        if self.calm.is_due(&reason, Instant::now()) {
            tracing::warn!("{reason}");
        }
        if !self.is_known() {
            self.condition.set_not_ready(reason);
        }
    }
}

fn read(name: &str, bytes: &[u8]) -> Result<Workload, String> {
    let object = feed::decode(name, bytes).map_err(|error| describe(&error))?;
    Workload::from_object(&object).map_err(|error| error.to_string())
}
