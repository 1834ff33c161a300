//! The CSR service: `istio.v1.auth.IstioCertificateService`, as Istio's agents speak it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::ca::istio_certificate_service_server::IstioCertificateService;
use proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use runtime::grpc;
use runtime::spiffe::SpiffeId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Code, Request, Response, Status};

use crate::auth::{Authenticator, Caller, Method};
use crate::ca::csr::{self, CsrError};
use crate::ca::{self, Authority, Leaf};
use crate::current::{Asked, Current};
use crate::limit::{Limiter, holder};
use crate::meters::Meters;

/// The shortest life that can be asked for; shorter ones would have ended before they are used.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Requests that are worked on at once; others wait their turn.
const AT_ONCE: usize = 256;
/// How long a request may wait for its turn.
const TURN: Duration = Duration::from_secs(5);
/// Requests of unknown callers that one address may make at once, and each second after that.
const UNKNOWN: (u32, u32) = (1000, 50);

/// What callers may take of the authority's time.
#[derive(Debug)]
pub(crate) struct CallerLimits {
    turns: Semaphore,
    /// By identity.
    known: Limiter,
    /// By address, for callers that were not recognised.
    unknown: Limiter,
}

impl CallerLimits {
    /// One identity may have `rate` certificates a second, after twenty times as many at once.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            turns: Semaphore::new(AT_ONCE),
            known: Limiter::new(rate.saturating_mul(20), rate),
            unknown: Limiter::new(UNKNOWN.0, UNKNOWN.1),
        }
    }
}

/// Answers certificate requests.
#[derive(Debug, Clone)]
pub(crate) struct CertificateService {
    pub(crate) current: Current,
    pub(crate) authenticator: Authenticator,
    pub(crate) ttl: Duration,
    pub(crate) limits: Arc<CallerLimits>,
    pub(crate) meters: Meters,
}

impl CertificateService {
    async fn caller<T>(&self, request: &Request<T>, now: i64) -> Result<Caller, Status> {
        let peer = grpc::peer(request.extensions());
        let result = self
            .authenticator
            .authenticate(request.metadata(), peer, now)
            .await;
        result.map_err(|refusal| {
            self.meters.unauthenticated(refusal.reason());
            let remote = grpc::remote(request.extensions());
            tracing::warn!(target: "citadel::audit", remote = shown(remote), reason = %refusal, "caller refused");
            match refusal.is_temporary() {
                true => Status::unavailable(refusal.to_string()),
                false => Status::unauthenticated(refusal.to_string()),
            }
        })
    }

    /// Waits for a turn, which callers that fail too often do not get.
    async fn turn(&self, from: &str) -> Result<SemaphorePermit<'_>, Status> {
        if let Err(wait) = self.limits.unknown.look(from, Instant::now()) {
            self.meters.limited("too_many_failures");
            return Err(exhausted(
                "too many requests from this address were refused",
                wait,
            ));
        }
        let turn = tokio::time::timeout(TURN, self.limits.turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            self.meters.limited("busy");
            Status::resource_exhausted("too many requests at once: ask again in a few seconds")
        })
    }

    /// A known caller has its own rate; an identity of an older name of the trust domain gets one of today's; a revoked
    /// certificate is no proof, whatever connection it came on.
    fn admit<T>(&self, caller: Caller, request: &Request<T>) -> Result<Caller, Status> {
        let revoked =
            || grpc::serial(request.extensions()).is_some_and(|serial| self.current.is_revoked(serial));
        if caller.method == Method::Certificate && (revoked() || self.current.is_cut(&caller.id)) {
            self.meters.unauthenticated("certificate_revoked");
            tracing::warn!(target: "citadel::audit", id = %caller.id, "caller refused: its certificate was revoked");
            return Err(Status::unauthenticated(
                "the client certificate was revoked, or all of its identity were within the last day: connect again with a token",
            ));
        }
        if let Err(wait) = self.limits.known.take(&caller.id.to_string(), Instant::now()) {
            self.meters.limited("rate_limited");
            tracing::warn!(target: "citadel::audit", id = %caller.id, "caller asks too often");
            return Err(exhausted("this identity asks for too many certificates", wait));
        }
        let authority = self.current.authority();
        let renamed = SpiffeId::new(authority.trust_domain().clone(), caller.id.path());
        match authority.bundle().aliases().contains(caller.id.trust_domain()) {
            true => Ok(Caller {
                id: renamed.map_err(|error| Status::invalid_argument(error.to_string()))?,
                ..caller
            }),
            false => Ok(caller),
        }
    }

    fn sign(
        &self,
        caller: &Caller,
        remote: &str,
        wanted: &IstioCertificateRequest,
    ) -> Result<(Leaf, Arc<Authority>), Status> {
        let ttl = life(wanted.validity_duration, self.ttl).ok_or_else(|| {
            self.meters.bad_request("negative_validity");
            Status::invalid_argument("validity_duration is negative; ask for seconds, or 0 for the default")
        })?;
        let key = csr::public_key(&wanted.csr, &caller.id).map_err(|error| self.bad_csr(caller, &error))?;
        let asked = Asked {
            by: caller.method.as_str(),
            key: csr::describe(&key),
            remote,
        };
        self.current.sign(&key, &caller.id, ttl, asked).map_err(|error| {
            self.meters.sign_error("signing");
            tracing::error!(target: "citadel::audit", id = %caller.id, %error, "certificate not signed");
            Status::internal(error.to_string())
        })
    }

    fn bad_csr(&self, caller: &Caller, error: &CsrError) -> Status {
        tracing::warn!(target: "citadel::audit", id = %caller.id, %error, "certificate request refused");
        match error {
            CsrError::OtherIdentity { .. } => {
                self.meters.bad_request("other_identity");
                Status::permission_denied(error.to_string())
            }
            _ => {
                self.meters.bad_request("bad_csr");
                Status::invalid_argument(error.to_string())
            }
        }
    }
}

/// The life to give: what was asked for (0: the default), no longer than the default. `None` when negative.
fn life(asked: i64, default: Duration) -> Option<Duration> {
    match asked {
        0 => Some(default),
        _ => Some(Duration::from_secs(u64::try_from(asked).ok()?).clamp(MIN_TTL, default)),
    }
}

fn shown(remote: Option<SocketAddr>) -> String {
    remote.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let start = Instant::now();
        self.meters.request();
        let remote = grpc::remote(request.extensions());
        let from = remote.map_or_else(String::new, |remote| holder(remote.ip()));
        let _turn = self.turn(&from).await?;
        let known = self.caller(&request, ca::now().unix_timestamp()).await;
        let known = known.and_then(|caller| self.admit(caller, &request));
        let caller = known.inspect_err(|status| {
            if status.code() == Code::Unauthenticated {
                // There was a request left when it was looked.
                _ = self.limits.unknown.take(&from, Instant::now());
            }
        })?;
        let (leaf, authority) = self.sign(&caller, &shown(remote), request.get_ref())?;
        let cert_chain = authority.answer(&leaf.der);
        self.meters.issued(start.elapsed());
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

fn exhausted(what: &str, wait: Duration) -> Status {
    Status::resource_exhausted(format!(
        "{what}: ask again in {:.1} s",
        wait.as_secs_f64().max(0.1)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn life_is_what_was_asked_for_within_bounds() {
        let hour = Duration::from_secs(3600);
        assert_eq!(life(0, hour), Some(hour));
        assert_eq!(life(60, hour), Some(Duration::from_secs(60)));
        assert_eq!(life(i64::MAX, hour), Some(hour));
        assert_eq!(life(-1, hour), None);
    }
}
