//! SDS: gives Envoy the agent's own certificate and roots, and new ones as they come.

use std::sync::Arc;

use runtime::Identity;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes};
use xds::{
    Server, Source, Table,
    server::{Hello, Limits, StreamId},
    stream::Event,
};

use crate::secrets;

/// Streams at once; Envoy opens one for each secret and place of use.
const STREAMS: usize = 1024;

/// The source of the agent's secrets: whoever can open its socket may have them.
#[derive(Debug)]
pub struct Secrets {
    tables: watch::Receiver<Arc<Table>>,
}

impl Source for Secrets {
    async fn connect(&self, _: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        Ok(self.tables.clone())
    }

    fn observe(&self, stream: StreamId, event: Event) {
        match event {
            Event::Nacked {
                message, suspects, ..
            } => {
                tracing::error!(%stream, ?suspects, "Envoy refuses its certificate or roots: {message}");
            }
            event => tracing::trace!(%stream, ?event, "SDS"),
        }
    }
}

/// Adds the SDS service of `identity`, which follows its renewals until `end`.
pub fn add(routes: Routes, identity: &Identity, end: &CancellationToken) -> Routes {
    let (sender, tables) = watch::channel(secrets::table(&identity.current()));
    let follow = follow(identity.watch(), sender);
    let end = end.clone();
    tokio::spawn(async move { end.run_until_cancelled(follow).await });
    let limits = Limits {
        streams: STREAMS,
        message_bytes: 64 << 10,
        ..Limits::default()
    };
    routes.add_service(Server::new(Secrets { tables }, limits).sds())
}

async fn follow(mut identity: watch::Receiver<Arc<runtime::Svid>>, tables: watch::Sender<Arc<Table>>) {
    loop {
        let table = secrets::table(&identity.borrow_and_update().clone());
        tables.send_if_modified(|current| {
            let changed = **current != *table;
            *current = table;
            changed
        });
        if identity.changed().await.is_err() {
            return;
        }
    }
}
