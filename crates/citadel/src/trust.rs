//! Tells connected holders of certificates which roots to trust, at once and at each change.

use std::pin::Pin;

use proto::trust::trust_bundle_service_server::TrustBundleService;
use proto::trust::{TrustBundle, WatchTrustBundleRequest};
use runtime::grpc;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use crate::keeper::{Current, Trust};

/// Serves the mesh's trust bundle to whoever has a certificate of the mesh.
#[derive(Debug, Clone)]
pub(crate) struct TrustService {
    pub(crate) current: Current,
}

fn message(trust: &Trust) -> TrustBundle {
    TrustBundle {
        roots: trust.roots.to_string(),
        reissue_before: trust.reissue_before,
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
        let news = WatchStream::new(self.current.trust());
        Ok(Response::new(Box::pin(news.map(|trust| Ok(message(&trust))))))
    }
}
