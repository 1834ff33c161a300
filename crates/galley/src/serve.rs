//! Serves the feed: who may subscribe, and the table that follows the newest state.

use std::sync::Arc;

use runtime::grpc;
use runtime::spiffe::SYSTEM_NAMESPACE;
use tokio::sync::watch;
use tonic::Status;
use xds::Table;
use xds::server::{Hello, Source};

/// The mesh's services that read the feed.
const SUBSCRIBERS: [&str; 3] = ["citadel", "mixer", "pilot"];

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
