//! Access logs as a real Envoy sends them: a server that keeps the messages, to be sent to Mixer later.

use std::sync::Arc;

use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::{
    AccessLogService, AccessLogServiceServer,
};
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use parking_lot::Mutex;
use runtime::grpc::{self, Limits};
use runtime::logging::LogHandle;
use runtime::tls::{self, ClientAuth};
use runtime::{Context, Identity, Svid};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::reports::entries;

/// Most messages that are kept.
const MOST: usize = 10_000;

/// What came so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Vec<StreamAccessLogsMessage>>>);

#[tonic::async_trait]
impl AccessLogService for Recorder {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let mut stream = request.into_inner();
        let mut identifier = None;
        while let Some(mut message) = stream.message().await? {
            // A stream's first message alone says whose it is.
            identifier = message.identifier.take().or(identifier);
            message.identifier.clone_from(&identifier);
            let mut kept = self.0.lock();
            if kept.len() < MOST {
                kept.push(message);
            }
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}

impl Recorder {
    /// Serves with the identity of Mixer, as long as `context` is not shut down.
    pub(super) async fn serve(svid: Svid) -> anyhow::Result<(Self, std::net::SocketAddr, Context)> {
        let recorder = Self::default();
        let context = Context::new(
            "recorder",
            LogHandle::detached(),
            std::time::Duration::from_secs(1),
        );
        let listener = runtime::bind("--listen", (std::net::Ipv4Addr::LOCALHOST, 0).into()).await?;
        let address = listener.local_addr()?;
        let tls = tls::server(&Identity::fixed(svid), ClientAuth::Required)?;
        let routes = Routes::new(AccessLogServiceServer::new(recorder.clone()));
        let own = context.clone();
        tokio::spawn(async move {
            grpc::serve("recorder", listener, Some(tls), routes, &Limits::default(), &own).await
        });
        Ok((recorder, address, context))
    }

    /// How many entries came.
    pub(super) fn count(&self) -> usize {
        self.0.lock().iter().map(entries).sum()
    }

    /// What came, and nothing from now on.
    pub(super) fn take(&self) -> Vec<StreamAccessLogsMessage> {
        std::mem::take(&mut self.0.lock())
    }
}
