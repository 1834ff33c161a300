//! Accepts proxies' streams: reads who they are, checks that their certificate entitles them to it, and gives them
//! the table that follows the mesh.

use std::sync::Arc;

use envoygen::Proxy;
use model::Snapshot;
use runtime::{Peer, grpc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::http::Extensions;
use xds::server::{Hello, Source, StreamId};
use xds::{Event, Table};

use crate::access;
use crate::proxies::Proxies;

/// The source of all proxies' tables.
#[derive(Clone)]
pub struct Mesh(pub Arc<Proxies>);

impl Source for Mesh {
    fn connection(&self, extensions: &Extensions) -> Option<CancellationToken> {
        grpc::cut(extensions)
    }

    async fn connect(&self, hello: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        let peer = grpc::peer(&hello.extensions);
        self.accept(hello, peer).inspect_err(|status| {
            self.0.metrics().refused.inc();
            let peer = peer.map(|peer| peer.spiffe_id.to_string());
            tracing::warn!(
                node = shown(&hello.node.id),
                ?peer,
                reason = status.message(),
                "refused a proxy"
            );
        })
    }

    fn observe(&self, stream: StreamId, event: Event) {
        self.0.observe(stream, &event);
    }
}

impl Mesh {
    fn accept(&self, hello: &Hello, peer: Option<&Peer>) -> Result<watch::Receiver<Arc<Table>>, Status> {
        let node = &hello.node;
        let proxy = Proxy::parse(&node.id, node.metadata.as_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let tables = self.0.tables().ok_or_else(not_synced)?;
        let snapshot: &Snapshot = tables.generator().snapshot();
        access::check(snapshot, &proxy, peer)
            .map_err(|denied| Status::permission_denied(denied.to_string()))?;
        self.0
            .connect(hello.stream, proxy, &node.id, peer.cloned())
            .ok_or_else(not_synced)
    }
}

fn not_synced() -> Status {
    Status::unavailable("Pilot has no complete configuration from Galley yet; try again")
}

/// A node id as it may stand in a log.
fn shown(id: &str) -> String {
    id.chars().take(256).collect()
}
