//! Sessions of an adapter outside (`InfrastructureBackend`): begun when the handler starts and by no call's deadline, once for all
//! calls that wait; begun anew when the adapter does not know them any more; ended with the handler.

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use prost::Message;
use tokio::runtime::Handle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::encode::Configured;
use super::wire::{Accepted, CloseSessionRequest, CreateSessionResponse, SessionRequest};
use super::{Fault, PATIENCE, accepted, call, fault};

const BACKEND: &str = "/istio.mixer.adapter.model.v1beta1.InfrastructureBackend";
/// `type_url` of a session's number (`template_handler_service.proto` of Istio's templates).
const SESSION: &str = "google.protobuf.Any.type_url";
/// Least time between two sessions of which the first was not known any more: an adapter may answer so to what it was asked.
const RENEWAL: Duration = Duration::from_secs(1);

/// A session that begins, or has begun.
pub(super) type Begun = Shared<BoxFuture<'static, Result<String, Fault>>>;

/// Begins sessions, one at a time.
pub(super) struct Sessions {
    adapter: String,
    channel: Channel,
    configured: Option<Configured>,
    pool: Handle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: Option<Begun>,
    lost_at: Option<Instant>,
}

/// Whether an answer may mean that the adapter does not know the session. Adapters in Go answer UNKNOWN for any error.
pub(super) fn may_be_unknown(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::Unauthenticated
            | Code::Unavailable
            | Code::Unknown
    )
}

impl Sessions {
    /// Sessions for these parameters; the first one begins.
    pub(super) fn new(adapter: &str, channel: Channel, configured: Option<Configured>, pool: Handle) -> Self {
        let sessions = Self {
            adapter: adapter.to_owned(),
            channel,
            configured,
            pool,
            state: Mutex::default(),
        };
        // A task of the pool's has it.
        drop(sessions.begun());
        sessions
    }

    /// The session, as calls carry it, and by what [`Sessions::lost`] knows it.
    pub(super) async fn get(&self) -> Result<(Configured, Begun), Fault> {
        let begun = self.begun();
        match begun.clone().await {
            Ok(session) => {
                let configured = Configured {
                    type_url: SESSION.to_owned(),
                    value: session.into_bytes(),
                };
                Ok((configured, begun))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Takes note that a session may not be known to the adapter any more, and tells whether another one may be had now.
    pub(super) fn lost(&self, begun: &Begun) -> bool {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.lost_at.is_some_and(|at| now < at + RENEWAL) {
            // Somebody else may have lost the same one.
            return state.begun.as_ref().is_none_or(|known| !known.ptr_eq(begun));
        }
        if state.begun.take_if(|known| known.ptr_eq(begun)).is_some() {
            state.lost_at = Some(now);
            self.end(begun);
        }
        true
    }

    fn begun(&self) -> Begun {
        let mut state = self.state.lock();
        // One that could not be had is tried for again by the next call.
        state.begun.take_if(|begun| matches!(begun.peek(), Some(Err(_))));
        let begin = || {
            let begun = begin(self.channel.clone(), self.configured.clone());
            let adapter = self.adapter.clone();
            let begun = begun.inspect(move |begun| {
                if let Err(fault) = begun {
                    tracing::warn!(adapter, %fault, "no session with an adapter outside");
                }
            });
            let begun = begun.boxed().shared();
            // A call that waits for it may be given up on.
            self.pool.spawn(begun.clone());
            begun
        };
        state.begun.get_or_insert_with(begin).clone()
    }

    /// Tells the adapter that a session is not needed any more.
    fn end(&self, begun: &Begun) {
        let Some(Ok(session_id)) = begun.peek().cloned() else {
            return;
        };
        let channel = self.channel.clone();
        self.pool.spawn(async move {
            let body = CloseSessionRequest { session_id }.encode_to_vec();
            let path = format!("{BACKEND}/CloseSession");
            let closing = call::<Accepted>(channel, &path, body);
            // Nobody is left whom a failure would concern.
            let _ = tokio::time::timeout(PATIENCE, closing).await;
        });
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        if let Some(begun) = self.state.get_mut().begun.take() {
            self.end(&begun);
        }
    }
}

async fn begin(channel: Channel, configured: Option<Configured>) -> Result<String, Fault> {
    let beginning = async {
        let adapter_config = configured.map(|configured| prost_types::Any {
            type_url: configured.type_url,
            value: configured.value,
        });
        let request = SessionRequest { adapter_config }.encode_to_vec();
        let path = format!("{BACKEND}/Validate");
        let validated: Accepted = call(channel.clone(), &path, request.clone())
            .await
            .map_err(|status| fault(&status))?;
        accepted(validated.status, "the parameters")?;
        let path = format!("{BACKEND}/CreateSession");
        let created: CreateSessionResponse = call(channel, &path, request)
            .await
            .map_err(|status| fault(&status))?;
        accepted(created.status, "a session")?;
        Ok(created.session_id)
    };
    tokio::time::timeout(PATIENCE, beginning)
        .await
        .unwrap_or(Err(Fault::Late(PATIENCE)))
}
