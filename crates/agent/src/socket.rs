//! What Envoy talks to: one Unix socket with SDS, answered here, and ADS, carried to Pilot.

use runtime::grpc::{self, Limits};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Streams that one Envoy opens are one for ADS and one for each secret: plenty.
const STREAMS: u32 = 1024;

/// Serves `routes` until `end`; what is open then is cut.
///
/// # Errors
/// When the socket breaks.
pub async fn serve(
    listener: UnixListener,
    routes: Routes,
    end: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let limits = Limits {
        streams: STREAMS,
        ..Limits::default()
    };
    let serving = grpc::server(&limits)
        .add_routes(routes)
        .serve_with_incoming(UnixListenerStream::new(listener));
    end.run_until_cancelled(serving).await.unwrap_or(Ok(()))
}
