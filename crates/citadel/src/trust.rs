//! Tells connected holders of certificates which roots to trust, at once and at each change.

use std::pin::Pin;

use proto::trust::trust_bundle_service_server::TrustBundleService;
use proto::trust::{TrustBundle, WatchTrustBundleRequest};
use runtime::grpc;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::current::{Current, Trust};

/// Serves the mesh's trust bundle to whoever has a certificate of the mesh.
#[derive(Debug, Clone)]
pub(crate) struct TrustService {
    pub(crate) current: Current,
    /// Ends all streams: they would hold up the end of the server.
    pub(crate) shutdown: CancellationToken,
}

fn message(trust: &Trust) -> TrustBundle {
    TrustBundle {
        roots: trust.roots.to_string(),
        reissue_before: trust.reissue_before,
        crl: trust.crl.to_string(),
        crl_leaf_only: trust.crl_leaf_only,
        trust_domain_aliases: trust.aliases.to_vec(),
    }
}

#[tonic::async_trait]
impl TrustBundleService for TrustService {
    type WatchTrustBundleStream = Pin<Box<dyn Stream<Item = Result<TrustBundle, Status>> + Send>>;

    async fn watch_trust_bundle(
        &self,
        request: Request<WatchTrustBundleRequest>,
    ) -> Result<Response<Self::WatchTrustBundleStream>, Status> {
        if grpc::peer(request.extensions()).is_none() {
            return Err(Status::unauthenticated(
                "connect with a current certificate of this mesh",
            ));
        }
        let mut trust = self.current.trust();
        let (answers, stream) = mpsc::channel(1);
        let following = async move {
            loop {
                let now = message(&trust.borrow_and_update());
                if answers.send(Ok(now)).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = trust.changed() => if changed.is_err() { return },
                    () = answers.closed() => return,
                }
            }
        };
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(following));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
