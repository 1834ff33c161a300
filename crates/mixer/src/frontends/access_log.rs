//! Access log service v3: entries become reports, off the stream's path.

use std::sync::Arc;

use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::AccessLogService;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::Identifier;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::attributes::log::Sender;
use crate::reports::Queue;

/// The service.
#[derive(Debug)]
pub(crate) struct AccessLogs {
    pub(crate) queue: Queue,
    /// Ends the streams, which Envoy would keep open for ever.
    pub(crate) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl AccessLogService for AccessLogs {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let principal = super::caller(request.extensions())?;
        let mut sender = Arc::new(Sender {
            principal,
            ..Sender::default()
        });
        let mut stream = request.into_inner();
        let take = async {
            while let Some(message) = stream.message().await? {
                if let Some(identifier) = message.identifier {
                    sender = Arc::new(introduced(&sender.principal, identifier));
                }
                if let Some(entries) = message.log_entries {
                    self.queue.offer(&sender, entries);
                }
            }
            Ok(())
        };
        let ended: Option<Result<(), Status>> = self.shutdown.run_until_cancelled(take).await;
        ended
            .unwrap_or(Ok(()))
            .map(|()| Response::new(StreamAccessLogsResponse {}))
    }
}

/// The sender as a stream's first message describes it.
fn introduced(principal: &str, identifier: Identifier) -> Sender {
    let node_id = identifier
        .node
        .map(|node| node.id)
        .filter(|id| id.len() <= super::MAX_NODE_ID);
    Sender {
        principal: principal.to_owned(),
        node_id,
        reporter: Sender::reporter_of(&identifier.log_name),
    }
}
