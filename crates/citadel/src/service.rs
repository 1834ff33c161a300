//! The CSR service: `istio.v1.auth.IstioCertificateService`, as Istio's agents speak it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::ca::istio_certificate_service_server::IstioCertificateService;
use proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use runtime::grpc;
use runtime::spiffe::SpiffeId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status};

use crate::auth::{Authenticator, Caller, Method, Refusal};
use crate::ca::csr::{self, CsrError};
use crate::ca::{self, Authority, Leaf, MAX_LEAF_TTL, Terms};
use crate::current::{Asked, Current};
use crate::limit::{Limiter, holder};
use crate::meters::Meters;

/// The shortest life that can be asked for; shorter ones would have ended before they are used.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Requests for which somebody else is asked at once; others wait their turn.
const AT_ONCE: usize = 256;
/// How long a request may wait for its turn.
const TURN: Duration = Duration::from_secs(5);
/// Refusals that callers of one address are told at once, and each second after that.
const UNKNOWN: (u32, u32) = (1000, 50);

/// What callers may take of the authority's time. Unknown ones take nothing of what known ones have.
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

/// A caller that gets a certificate.
struct Admitted {
    caller: Caller,
    /// When it was last recognised by more than a certificate, in seconds since 1970.
    proven: i64,
}

/// When a certificate that does not say so can have been issued at the earliest.
fn earliest(not_after: i64) -> i64 {
    not_after.saturating_sub(i64::try_from(MAX_LEAF_TTL.as_secs()).unwrap_or(0))
}

/// Answers certificate requests.
#[derive(Debug, Clone)]
pub(crate) struct CertificateService {
    pub(crate) current: Current,
    pub(crate) authenticator: Authenticator,
    pub(crate) ttl: Duration,
    /// How long an identity is renewed by certificates alone.
    pub(crate) certificate_renewal: Duration,
    pub(crate) limits: Arc<CallerLimits>,
    pub(crate) meters: Meters,
}

impl CertificateService {
    /// Recognises the caller by what is known here; failing that, by asking for it, for which unknown callers of one address have
    /// a budget. Who is known does not share it.
    async fn caller<T>(&self, request: &Request<T>, from: &str, now: i64) -> Result<Caller, Status> {
        let peer = grpc::peer(request.extensions());
        let refusal = match self.authenticator.here(request.metadata(), peer, now) {
            Err(refusal) if self.authenticator.can_ask(&refusal) => refusal,
            result => return result.map_err(|refusal| self.unknown(request, from, &refusal)),
        };
        let budget = self.limits.unknown.look(from, Instant::now());
        budget.map_err(|wait| self.too_many(wait))?;
        let _turn = self.turn().await?;
        let asked = self.authenticator.ask(request.metadata(), refusal).await;
        asked.map_err(|refusal| self.unknown(request, from, &refusal))
    }

    fn unknown<T>(&self, request: &Request<T>, from: &str, refusal: &Refusal) -> Status {
        let remote = grpc::remote(request.extensions());
        let tell = || {
            self.meters.unauthenticated(refusal.reason());
            tracing::warn!(target: "citadel::audit", remote = shown(remote), reason = %refusal, "caller refused");
        };
        if refusal.is_temporary() {
            tell();
            return Status::unavailable(refusal.to_string());
        }
        self.refuse(from, || {
            tell();
            Status::unauthenticated(refusal.to_string())
        })
    }

    /// Refuses a caller, as long as its address has refusals left: telling each would be work that anybody can make.
    fn refuse(&self, from: &str, tell: impl FnOnce() -> Status) -> Status {
        match self.limits.unknown.take(from, Instant::now()) {
            Ok(()) => tell(),
            Err(wait) => self.too_many(wait),
        }
    }

    fn too_many(&self, wait: Duration) -> Status {
        self.meters.limited("too_many_failures");
        exhausted("too many requests from this address were refused", wait)
    }

    /// Waits for a turn to ask somebody else.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        let turn = tokio::time::timeout(TURN, self.limits.turns.acquire()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            self.meters.limited("busy");
            Status::resource_exhausted("too many requests at once: ask again in a few seconds")
        })
    }

    /// A known caller has its own rate; an identity of an older name of the trust domain gets one of today's; a revoked
    /// certificate is no proof, whatever connection it came on.
    fn admit<T>(
        &self,
        caller: Caller,
        request: &Request<T>,
        from: &str,
        now: i64,
    ) -> Result<Admitted, Status> {
        let revoked =
            || grpc::serial(request.extensions()).is_some_and(|serial| self.current.is_revoked(serial));
        if caller.method == Method::Certificate && (revoked() || self.current.is_cut(&caller.id)) {
            return Err(self.refuse(from, || {
                self.meters.unauthenticated("certificate_revoked");
                tracing::warn!(target: "citadel::audit", id = %caller.id, "caller refused: its certificate was revoked");
                Status::unauthenticated(
                    "the client certificate was revoked, or all of its identity were within the last day: connect again with a token",
                )
            }));
        }
        let proven = self.proven(&caller, request, from, now)?;
        if let Err(wait) = self.limits.known.take(&caller.id.to_string(), Instant::now()) {
            self.meters.limited("rate_limited");
            tracing::warn!(target: "citadel::audit", id = %caller.id, "caller asks too often");
            return Err(exhausted("this identity asks for too many certificates", wait));
        }
        let authority = self.current.authority();
        let renamed = SpiffeId::new(authority.trust_domain().clone(), caller.id.path());
        let caller = match authority.bundle().aliases().contains(caller.id.trust_domain()) {
            true => Caller {
                id: renamed.map_err(|error| Status::invalid_argument(error.to_string()))?,
                ..caller
            },
            false => caller,
        };
        Ok(Admitted { caller, proven })
    }

    /// When the caller was last recognised by more than a certificate. Who stole a key could renew for ever else.
    fn proven<T>(&self, caller: &Caller, request: &Request<T>, from: &str, now: i64) -> Result<i64, Status> {
        if caller.method != Method::Certificate {
            return Ok(now);
        }
        let said = grpc::serial(request.extensions()).and_then(ca::proven);
        let ends = grpc::peer(request.extensions()).map_or(now, |peer| peer.not_after);
        let proven = said.unwrap_or(earliest(ends)).min(now);
        let alone = u64::try_from(now.saturating_sub(proven)).unwrap_or(0);
        if alone < self.certificate_renewal.as_secs() {
            return Ok(proven);
        }
        Err(self.refuse(from, || {
            self.meters.unauthenticated("certificate_renewed_too_long");
            tracing::warn!(target: "citadel::audit", id = %caller.id, alone, "caller refused: renewed by certificates alone for too long");
            Status::unauthenticated(format!(
                "this identity showed no token for {alone} s, and renews by its certificate alone for {} s at most (--certificate-renewal): send a token",
                self.certificate_renewal.as_secs()
            ))
        }))
    }

    fn sign(
        &self,
        Admitted { caller, proven }: &Admitted,
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
        let terms = Terms {
            ttl,
            proven: *proven,
            names: &[],
        };
        self.current
            .sign(&key, &caller.id, &terms, asked)
            .map_err(|error| {
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
        let now = ca::now().unix_timestamp();
        let caller = self.caller(&request, &from, now).await?;
        let caller = self.admit(caller, &request, &from, now)?;
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
