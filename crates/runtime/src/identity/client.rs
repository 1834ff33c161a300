//! Citadel's client: makes a key and a CSR, shows the token, and takes the certificate.
//!
//! The wire is Istio's `istio.v1.auth.IstioCertificateService/CreateCertificate`.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status};
use zeroize::{Zeroize, Zeroizing};

use super::trust::Follower;
use super::{Issuer, Svid, SvidError};
use crate::args::IdentityArgs;
use crate::grpc;
use crate::spiffe::{SpiffeId, SpiffeIdError, TrustDomain};
use crate::tls::{self, BundleError, Connector, Material, TrustBundle};

/// Largest token that is read, in bytes.
const MAX_TOKEN: u64 = 16 << 10;
/// Most certificates in an answer.
const MAX_CHAIN: usize = 16;
/// How long Citadel may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A certificate could not be had.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The roots in `--ca-root`.
    #[error("--ca-root: {0}")]
    Roots(#[from] BundleError),
    /// The token file.
    #[error("cannot read the token in {path} (--token): {source}")]
    Token {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// What the file holds cannot be a token.
    #[error(
        "{0} (--token) does not hold a token: it is empty, longer than {MAX_TOKEN} bytes or has characters that a JWT has not"
    )]
    NoToken(PathBuf),
    /// The trust domain or address in the flags.
    #[error("--trust-domain: {0}")]
    Id(#[from] SpiffeIdError),
    /// The address cannot be used.
    #[error("--citadel-address: {0}")]
    Address(#[from] grpc::AddressError),
    /// A key or CSR could not be made.
    #[error("cannot make a key and a certificate request: {0}")]
    Csr(#[from] rcgen::Error),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::ConfigError),
    /// Citadel said no, or could not be reached.
    #[error("Citadel at {address} ({code}): {message}")]
    Refused {
        /// Its address.
        address: String,
        /// The gRPC code.
        code: String,
        /// Its message, or the connection's error.
        message: String,
    },
    /// The answer cannot be used.
    #[error("Citadel's answer: {0}")]
    Answer(&'static str),
    /// The roots that Citadel names cannot be used.
    #[error("Citadel's roots: {0}")]
    AnswerRoots(#[source] BundleError),
    /// The answer's certificate cannot be used.
    #[error("Citadel's answer: {0}")]
    Svid(#[from] SvidError),
    /// An issuer in this process failed.
    #[error("{0}")]
    Local(#[source] Box<dyn Error + Send + Sync>),
}

/// Gets certificates from Citadel. Shows the token of `--token`; a certificate in hand serves when the token is refused or
/// cannot be looked at for now, unless the mesh refuses the certificate too. For how long, Citadel decides
/// (`--certificate-renewal`).
#[derive(Debug)]
pub struct CitadelClient {
    args: IdentityArgs,
    citadel: SpiffeId,
    follower: Arc<Follower>,
}

/// The roots that one request trusts, and the certificate that it shows.
#[derive(Debug)]
struct Presented {
    bundle: Arc<TrustBundle>,
    key: Option<Arc<CertifiedKey>>,
}

impl Material for Presented {
    fn bundle(&self) -> Arc<TrustBundle> {
        self.bundle.clone()
    }
    fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        self.key.clone()
    }
}

impl CitadelClient {
    /// A client by these flags.
    ///
    /// # Errors
    /// When the roots or the address cannot be parsed: waiting would not help. A file of roots that is not there yet is
    /// waited for, because Citadel may be about to make it.
    pub async fn new(args: IdentityArgs) -> Result<Self, IssueError> {
        match TrustBundle::load(args.trust_domain.clone(), &args.ca_root).await {
            Err(BundleError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            loaded => drop(loaded?),
        }
        grpc::endpoint(&args.citadel_address)?;
        let citadel = SpiffeId::system(&args.trust_domain, "citadel")?;
        let follower = Arc::default();
        Ok(Self {
            args,
            citadel,
            follower,
        })
    }

    async fn token(&self) -> Result<MetadataValue<Ascii>, IssueError> {
        let path = &self.args.token;
        let read = |source| IssueError::Token {
            path: path.clone(),
            source,
        };
        let wrong = || IssueError::NoToken(path.clone());
        if tokio::fs::metadata(path).await.map_err(read)?.len() > MAX_TOKEN {
            return Err(wrong());
        }
        let bytes = Zeroizing::new(tokio::fs::read(path).await.map_err(read)?);
        let token = std::str::from_utf8(&bytes).map_err(|_| wrong())?.trim();
        let fits = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b'=');
        if token.is_empty() || !token.bytes().all(fits) {
            return Err(wrong());
        }
        let mut value = MetadataValue::try_from(format!("Bearer {token}")).map_err(|_| wrong())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The roots that Citadel itself is verified by: those in the file, and those that it named.
    async fn bundle(&self, current: Option<&Svid>) -> Result<TrustBundle, IssueError> {
        let file = TrustBundle::load(self.args.trust_domain.clone(), &self.args.ca_root).await;
        match (file, current) {
            (Ok(file), Some(svid)) => Ok(file.behind(svid.bundle().roots().iter().cloned())?),
            (Ok(file), None) => Ok(file),
            // Without the file, Citadel's word is as good as before.
            (Err(error), Some(svid)) => {
                tracing::debug!(%error, "the roots in the file are not used");
                Ok((**svid.bundle()).clone())
            }
            (Err(error), None) => Err(error.into()),
        }
    }

    fn channel(&self, material: Presented) -> Result<tonic::transport::Channel, Status> {
        let internal = |e: &dyn Error| Status::internal(e.to_string());
        let config = tls::client(Arc::new(material), self.citadel.clone()).map_err(|e| internal(&e))?;
        grpc::channel(&self.args.citadel_address, Some(Connector::new(config))).map_err(|e| internal(&e))
    }

    /// Hears Citadel's word on the roots, from now on.
    async fn follow(&self, current: &Svid) -> Result<(), IssueError> {
        if !self.follower.wanted().await {
            return Ok(());
        }
        let material = Presented {
            bundle: Arc::new(self.bundle(Some(current)).await?),
            key: Some(current.certified_key()),
        };
        let channel = self.channel(material).map_err(|status| self.refused(&status))?;
        self.follower.follow(channel);
        Ok(())
    }

    async fn call(
        &self,
        csr: &str,
        material: Presented,
        token: Option<MetadataValue<Ascii>>,
    ) -> Result<IstioCertificateResponse, Status> {
        let channel = self.channel(material)?;
        let message = IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: 0,
            metadata: None,
        };
        let mut request = Request::new(message);
        request.set_timeout(DEADLINE);
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token);
        }
        let mut client = IstioCertificateServiceClient::new(channel);
        let answer = tokio::time::timeout(DEADLINE, client.create_certificate(request)).await;
        answer
            .map_err(|_| Status::deadline_exceeded("no answer in time"))?
            .map(tonic::Response::into_inner)
    }

    fn refused(&self, status: &Status) -> IssueError {
        let file = match status.code() {
            Code::Unauthenticated => format!(" (--token {})", self.args.token.display()),
            _ => String::new(),
        };
        IssueError::Refused {
            address: self.args.citadel_address.clone(),
            code: format!("{:?}", status.code()),
            message: format!("{}{file}", status.message()),
        }
    }
}

impl Issuer for CitadelClient {
    async fn issue(&self, current: Option<Arc<Svid>>) -> Result<Svid, IssueError> {
        let current = current.filter(|svid| svid.not_after() > super::renew::unix_now());
        let bundle = Arc::new(self.bundle(current.as_deref()).await?);
        let known = current.as_deref().map(|svid| svid.bundle().clone());
        // One that is refused would end the handshake, and the token with it.
        let current = current.filter(|svid| self.refused_why(svid).is_none());
        let (key, csr) = key_and_csr()?;
        let material = || Presented {
            bundle: bundle.clone(),
            key: current.as_ref().map(|svid| svid.certified_key()),
        };
        let answer = match (self.token().await, current.is_some()) {
            (Ok(token), renewing) => match self.call(&csr, material(), Some(token)).await {
                Err(status) if renewing && by_certificate(&status) => {
                    tracing::warn!(
                        code = ?status.code(),
                        reason = status.message(),
                        "the token does not count; renewing by the certificate in hand"
                    );
                    self.call(&csr, material(), None).await
                }
                answer => answer,
            },
            (Err(error), true) => {
                tracing::warn!(%error, "no token; renewing by the certificate in hand");
                self.call(&csr, material(), None).await
            }
            (Err(error), false) => return Err(error),
        };
        let answer = answer.map_err(|status| self.refused(&status))?;
        // The answer has roots alone; what Citadel says of them on its stream stays as it was.
        let told = self.follower.bundle(&self.args.trust_domain).ok().flatten();
        let before = told.as_ref().or(known.as_deref());
        let svid = accept(&answer, &self.args.trust_domain, before, key)?;
        self.follower.renewed();
        Ok(svid)
    }

    async fn changed_bundle(&self, current: &Svid) -> Result<Option<TrustBundle>, IssueError> {
        self.follow(current).await?;
        let bundle = self
            .follower
            .bundle(&self.args.trust_domain)
            .map_err(IssueError::AnswerRoots)?;
        Ok(bundle.filter(|bundle| bundle != &**current.bundle()))
    }

    async fn news(&self) {
        self.follower.news().await;
    }

    fn reissue_before(&self) -> i64 {
        self.follower.reissue_before()
    }

    fn refused_why(&self, current: &Svid) -> Option<String> {
        let by_list = current.refused().map(ToString::to_string);
        by_list.or_else(|| self.follower.refusal())
    }
}

/// Whether a certificate may help where a token did not: Citadel refused the token, or could not have it looked at (the API
/// server is away or silent, or too many others are asking). What ended the connection ends the next one too; such a status has a
/// source.
fn by_certificate(status: &Status) -> bool {
    match status.code() {
        // The latter two when there was no answer in time: who asks an API server that is silent waits longer than we do.
        Code::Unauthenticated | Code::DeadlineExceeded | Code::Cancelled => true,
        Code::Unavailable | Code::ResourceExhausted => status.source().is_none(),
        _ => false,
    }
}

/// A P-256 key (PKCS #8, DER) and a request for it, in PEM, that asks for nothing: the caller's identity decides.
fn key_and_csr() -> Result<(Zeroizing<Vec<u8>>, String), rcgen::Error> {
    let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key)?.pem()?;
    let der = Zeroizing::new(key.serialize_der());
    key.zeroize();
    Ok((der, csr))
}

/// Takes an answer apart: the leaf first, the root last.
fn accept(
    answer: &IstioCertificateResponse,
    trust_domain: &TrustDomain,
    before: Option<&TrustBundle>,
    key: Zeroizing<Vec<u8>>,
) -> Result<Svid, IssueError> {
    let (roots, chain) = answer
        .cert_chain
        .split_last()
        .ok_or(IssueError::Answer("no certificates"))?;
    let mut certificates: Vec<CertificateDer<'static>> = Vec::new();
    for text in chain {
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            certificates.push(certificate.map_err(|_| IssueError::Answer("a certificate is not PEM"))?);
        }
    }
    if certificates.len() > MAX_CHAIN {
        return Err(IssueError::Answer("more than 16 certificates"));
    }
    let mut bundle =
        TrustBundle::from_pem(trust_domain.clone(), roots.as_bytes()).map_err(IssueError::AnswerRoots)?;
    if let Some(before) = before {
        bundle = bundle.inherit(before);
    }
    Ok(Svid::new(key, certificates, Arc::new(bundle), UnixTime::now())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_stands_in_for_a_token_that_nobody_could_look_at() {
        let broken = |code| {
            let mut status = Status::new(code, "connection");
            status.set_source(Arc::new(std::io::Error::other("reset")));
            status
        };
        for code in [
            Code::Unauthenticated,
            Code::Unavailable,
            Code::ResourceExhausted,
            Code::DeadlineExceeded,
            Code::Cancelled,
        ] {
            assert!(by_certificate(&Status::new(code, "")), "{code:?}");
        }
        // The end of a request's time has tonic's error for its source.
        assert!(by_certificate(&broken(Code::Cancelled)));
        for status in [
            broken(Code::Unavailable),
            broken(Code::ResourceExhausted),
            Status::permission_denied(""),
            Status::invalid_argument(""),
            Status::internal(""),
        ] {
            assert!(!by_certificate(&status), "{status:?}");
        }
    }
}
