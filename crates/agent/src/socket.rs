//! What Envoy talks to: one Unix socket with SDS, answered here, and ADS, carried to Pilot. Only processes of the agent's
//! own user, and root's, are listened to: the kernel says whose they are (`SO_PEERCRED`).

use runtime::grpc::{self, Limits};
use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Streams that one Envoy opens are one for ADS and one for each secret: plenty.
const STREAMS: u32 = 1024;

/// Whether a process of the user `peer` may have what the user `own` has.
fn may(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

/// Whether the other end may have secrets; folder and socket are closed to others too, but somebody may open them.
fn admitted(stream: &UnixStream) -> bool {
    let own = geteuid().as_raw();
    match stream.peer_cred() {
        Ok(peer) if may(peer.uid(), own) => true,
        Ok(peer) => {
            tracing::warn!(
                uid = peer.uid(),
                pid = peer.pid(),
                own,
                "a process of another user wants the workload's secrets and is refused; run Envoy as the agent's user"
            );
            false
        }
        Err(error) => {
            tracing::warn!(%error, "a process whose user is not known is refused");
            false
        }
    }
}

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
    let serving = grpc::server(&limits).add_routes(routes).serve_with_incoming(
        UnixListenerStream::new(listener).filter(|stream| stream.as_ref().map_or(true, admitted)),
    );
    end.run_until_cancelled(serving).await.unwrap_or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_user_and_root_are_served() {
        assert!(may(1000, 1000) && may(0, 1000));
        assert!(!may(1001, 1000) && !may(1000, 0));
    }
}
