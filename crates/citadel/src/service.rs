//! The CSR service: `istio.v1.auth.IstioCertificateService`, as Istio's agents speak it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use proto::ca::istio_certificate_service_server::IstioCertificateService;
use proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use runtime::grpc;
use runtime::tls::bundle::certificates_to_pem;
use tonic::{Request, Response, Status};

use crate::auth::{self, Caller};
use crate::ca::csr::{self, CsrError};
use crate::ca::{self, Authority, Leaf};
use crate::identity_file::IdentityConfig;
use crate::keeper::Current;
use crate::meters::Meters;

/// The shortest life that can be asked for; shorter ones would have ended before they are used.
const MIN_TTL: Duration = Duration::from_secs(1);

/// Answers certificate requests.
#[derive(Debug, Clone)]
pub(crate) struct CertificateService {
    pub(crate) current: Current,
    pub(crate) config: Arc<ArcSwap<IdentityConfig>>,
    pub(crate) ttl: Duration,
    pub(crate) meters: Meters,
}

impl CertificateService {
    fn caller<T>(&self, request: &Request<T>, now: i64) -> Result<Caller, Status> {
        let peer = grpc::peer(request.extensions());
        let result = auth::authenticate(&self.config.load(), request.metadata(), peer, now);
        result.map_err(|refusal| {
            self.meters.unauthenticated(refusal.reason());
            let remote = grpc::remote(request.extensions());
            tracing::warn!(target: "citadel::audit", remote = shown(remote), reason = %refusal, "caller refused");
            Status::unauthenticated(refusal.to_string())
        })
    }

    fn sign(
        &self,
        authority: &Authority,
        caller: &Caller,
        wanted: &IstioCertificateRequest,
    ) -> Result<(Leaf, &'static str), Status> {
        let ttl = life(wanted.validity_duration, self.ttl).ok_or_else(|| {
            self.meters.bad_request("negative_validity");
            Status::invalid_argument("validity_duration is negative; ask for seconds, or 0 for the default")
        })?;
        let key = csr::public_key(&wanted.csr, &caller.id).map_err(|error| self.bad_csr(caller, &error))?;
        let leaf = authority
            .issue(&key, &caller.id, ttl, ca::now())
            .map_err(|error| {
                self.meters.sign_error("signing");
                tracing::error!(target: "citadel::audit", id = %caller.id, %error, "certificate not signed");
                Status::internal(error.to_string())
            })?;
        Ok((leaf, csr::describe(&key)))
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
        let caller = self.caller(&request, ca::now().unix_timestamp())?;
        let authority = self.current.authority();
        let (leaf, key) = self.sign(&authority, &caller, request.get_ref())?;
        let remote = grpc::remote(request.extensions());
        self.meters.issued(start.elapsed());
        tracing::info!(target: "citadel::audit", id = %caller.id, serial = %leaf.serial, not_after = runtime::logging::utc(leaf.not_after),
            by = caller.method.as_str(), key, remote = shown(remote), "certificate issued");
        // The leaf first, then intermediates, and in the last place all roots, as Istio's agents take them.
        let mut cert_chain = vec![certificates_to_pem(&[leaf.der])];
        cert_chain.extend(
            authority
                .chain()
                .iter()
                .map(|der| certificates_to_pem(std::slice::from_ref(der))),
        );
        cert_chain.push(authority.bundle().to_pem());
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
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
