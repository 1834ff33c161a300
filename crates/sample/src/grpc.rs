//! The gRPC server: `argosy.sample.v1.Echo`.

use std::sync::Arc;
use std::time::Duration;

use proto::sample::echo_server::{Echo, EchoServer};
use proto::sample::{EchoRequest, EchoResponse};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use crate::behaviour::MAX_DELAY;
use crate::echo;
use crate::instance::Instance;

/// The path under which calls are counted.
const SAY: &str = "/argosy.sample.v1.Echo/Say";

pub(crate) async fn serve(
    listener: TcpListener,
    instance: Arc<Instance>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tonic::transport::Server::builder()
        .add_service(EchoServer::new(Service { instance }))
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            async move { stop.cancelled().await },
        )
        .await?;
    Ok(())
}

struct Service {
    instance: Arc<Instance>,
}

#[tonic::async_trait]
impl Echo for Service {
    async fn say(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        self.instance.seen.record(SAY, None);
        let wanted = request.into_inner();
        tokio::time::sleep(Duration::from_millis(u64::from(wanted.delay_ms)).min(MAX_DELAY)).await;
        if wanted.status != 0 {
            let code = i32::try_from(wanted.status).map_or(Code::Unknown, Code::from_i32);
            return Err(Status::new(code, "the request asked for this status"));
        }
        Ok(Response::new(EchoResponse {
            message: wanted.message,
            service: self.instance.args.name.clone(),
            version: self.instance.args.version.clone(),
            instance: self.instance.name.clone(),
            headers: echo::headers(&headers).into_iter().collect(),
        }))
    }
}
