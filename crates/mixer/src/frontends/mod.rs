//! The gRPC services by which Envoy asks and reports. Each turns messages into calls of the engine and back; the caller is
//! who its certificate says.

mod access_log;
mod authorization;
mod dedup;
mod mixer;
mod otlp;
mod rate_limit;
mod rate_limit_server;

use std::time::SystemTime;

use tonic::{Extensions, Status};

pub(crate) use access_log::AccessLogs;
pub(crate) use authorization::Checks;
pub(crate) use mixer::MixerApi;
pub(crate) use otlp::{Logs, Metrics, Stream};
pub(crate) use rate_limit_server::RateLimitServer;

use crate::attributes::check::Unsent;
use crate::engine::Undecided;

/// Longest node id that is looked at, in bytes.
const MAX_NODE_ID: usize = 1024;

/// The caller's identity without `spiffe://`.
fn caller(extensions: &Extensions) -> Result<String, Status> {
    let peer = runtime::grpc::peer(extensions);
    let id = peer.map(|peer| peer.spiffe_id.to_string());
    let principal = id.as_deref().and_then(|id| id.strip_prefix("spiffe://"));
    principal.map(str::to_owned).ok_or_else(|| {
        Status::unauthenticated(
            "Mixer answers only callers with a certificate of the mesh; connect over mutual TLS",
        )
    })
}

impl From<Undecided> for Status {
    fn from(why: Undecided) -> Self {
        match why {
            Undecided::NoConfiguration | Undecided::UnknownCaller(_) | Undecided::Uncounted(_) => {
                Self::unavailable(why.to_string())
            }
            // A code that proxies do not retry (`retry_on` of Mixer's calls).
            Undecided::Uncountable(_) => Self::failed_precondition(why.to_string()),
            Undecided::Unsent(Unsent::UnknownService(_)) => Self::unavailable(why.to_string()),
            Undecided::Unsent(Unsent::NoGateway(_)) => Self::permission_denied(why.to_string()),
            Undecided::Malformed(_) => Self::invalid_argument(why.to_string()),
        }
    }
}

/// The time of day.
pub(crate) fn wall() -> expr::Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    expr::Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
