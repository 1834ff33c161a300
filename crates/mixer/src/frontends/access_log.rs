//! Access log service v3: entries become reports, off the stream's path.

use std::sync::Arc;

use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::AccessLogService;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::Identifier;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use policy::REPORTED_METADATA;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
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
            told: told(request.metadata())?,
            ..Sender::default()
        });
        let mut stream = request.into_inner();
        let take = async {
            while let Some(message) = stream.message().await? {
                if let Some(identifier) = message.identifier {
                    sender = Arc::new(introduced(&sender, identifier));
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

/// The rules that are told, if the stream names them.
fn told(metadata: &MetadataMap) -> Result<Option<Arc<[String]>>, Status> {
    let names = metadata.get(REPORTED_METADATA).map(|names| names.to_str());
    let names = names.transpose();
    let names = names.map_err(|_| Status::invalid_argument(format!("{REPORTED_METADATA} must be text")))?;
    Ok(names.map(|names| names.split(',').map(str::to_owned).collect()))
}

/// The sender as a stream's first message describes it.
fn introduced(before: &Sender, identifier: Identifier) -> Sender {
    let node_id = identifier
        .node
        .map(|node| node.id)
        .filter(|id| id.len() <= super::MAX_NODE_ID);
    Sender {
        principal: before.principal.clone(),
        told: before.told.clone(),
        node_id,
        reporter: Sender::reporter_of(&identifier.log_name),
    }
}
