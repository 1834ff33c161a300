//! The webhook's certificate. The API server knows it by the DNS name of the Service before it, and trusts the roots in the
//! webhook's configuration (`caBundle`).
//!
//! The service's own identity from Citadel serves, since Citadel puts that name into it. Until there is one (or where it does not
//! have the name) the certificate comes from an authority that lives and dies with this process; its key is never written.
//! Handshakes look the certificate up, so renewal needs no restart.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use runtime::tls::bundle::certificates_to_pem;
use runtime::{Identity, Svid};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Life of the process's own authority. It ends with the process.
const AUTHORITY_LIFE: time::Duration = time::Duration::days(3650);
/// Life of a certificate from it; a new one is made at half of that.
const LEAF_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Valid from this long ago, for API servers whose clocks are behind.
const BACKDATE: time::Duration = time::Duration::hours(1);

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Not a name of a server.
    #[error("{0:?} is no DNS name or address; correct --webhook-service or --webhook-host")]
    Name(String),
    /// The cryptography library.
    #[error("the webhook's own certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    /// The key cannot be used for TLS.
    #[error("the webhook's own key cannot be used: {0}")]
    Key(#[from] rustls::Error),
}

/// Who signed the certificate in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Citadel: all replicas' certificates verify against the same roots.
    Citadel,
    /// This process alone.
    SelfSigned,
}

/// What the API server has to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Who signed the certificate in use.
    pub source: Source,
    /// The roots, PEM.
    pub roots: String,
}

/// The certificate in use.
#[derive(Debug)]
pub struct Certificates {
    own: OwnAuthority,
    name: String,
    current: ArcSwap<CertifiedKey>,
    trust: watch::Sender<Trust>,
}

impl Certificates {
    /// A certificate for the DNS name `name`, signed by this process.
    ///
    /// # Errors
    /// When the name is none, or the cryptography library fails.
    pub fn new(name: &str) -> Result<Arc<Self>, CertificateError> {
        ServerName::try_from(name).map_err(|_| CertificateError::Name(name.to_owned()))?;
        let own = OwnAuthority::new(OffsetDateTime::now_utc())?;
        let current = own.sign(name, OffsetDateTime::now_utc())?;
        let trust = watch::Sender::new(own.trust());
        Ok(Arc::new(Self {
            own,
            name: name.to_owned(),
            current: ArcSwap::from_pointee(current),
            trust,
        }))
    }

    /// What the API server has to trust, as it changes.
    #[must_use]
    pub fn trust(&self) -> watch::Receiver<Trust> {
        self.trust.subscribe()
    }

    /// Keeps the certificate current until `shutdown`: by the identity, once there is one, where it has the webhook's name.
    pub async fn keep(
        self: Arc<Self>,
        mut identities: watch::Receiver<Option<Identity>>,
        shutdown: CancellationToken,
    ) {
        loop {
            let mut svids = identities.borrow_and_update().as_ref().map(Identity::watch);
            let svid = svids.as_mut().map(|svids| svids.borrow_and_update().clone());
            self.choose(svid.as_deref());
            let renewed = async {
                match &mut svids {
                    Some(svids) => svids.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = identities.changed() => {}
                true = renewed => {}
                () = tokio::time::sleep(LEAF_LIFE / 2) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn choose(&self, svid: Option<&Svid>) {
        let named = svid.filter(|svid| {
            let leaf = svid.chain_der().first();
            leaf.is_some_and(|leaf| names(leaf, &self.name))
        });
        let (certified, trust) = match named {
            Some(svid) => {
                let roots = certificates_to_pem(svid.bundle().roots());
                let source = Source::Citadel;
                (svid.certified_key(), Trust { source, roots })
            }
            None => match self.own.sign(&self.name, OffsetDateTime::now_utc()) {
                Ok(own) => (Arc::new(own), self.own.trust()),
                // The one in use is good for hours yet.
                Err(error) => return tracing::error!(%error, "the webhook keeps its certificate"),
            },
        };
        self.current.store(certified);
        self.trust.send_if_modified(|before| {
            let changed = *before != trust;
            if changed && before.source != trust.source {
                tracing::info!(source = ?trust.source, name = self.name, "the webhook's certificate");
            }
            *before = trust;
            changed
        });
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// Whether a certificate is for this DNS name.
fn names(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(leaf), Ok(name)) = (webpki::EndEntityCert::try_from(leaf), ServerName::try_from(name)) else {
        return false;
    };
    leaf.verify_is_valid_for_subject_name(&name).is_ok()
}

/// An authority in memory.
#[derive(Debug)]
struct OwnAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl OwnAuthority {
    fn new(now: OffsetDateTime) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named("Argosy webhook");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = now - BACKDATE;
        params.not_after = now + AUTHORITY_LIFE;
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    fn trust(&self) -> Trust {
        Trust {
            source: Source::SelfSigned,
            roots: self.pem.clone(),
        }
    }

    fn sign(&self, name: &str, now: OffsetDateTime) -> Result<CertifiedKey, CertificateError> {
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name = named("Argosy");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - BACKDATE;
        params.not_after = now + LEAF_LIFE;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(CertifiedKey::new(
            vec![leaf.der().clone()],
            any_supported_type(&private)?,
        ))
    }
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    const NAME: &str = "galley.argosy-system.svc";

    /// As the API server verifies it.
    fn verifies(certificates: &Certificates, name: &str) -> bool {
        let trust = certificates.trust().borrow().clone();
        let root = CertificateDer::from_pem_slice(trust.roots.as_bytes()).unwrap();
        let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
        let current = certificates.current.load_full();
        let leaf = webpki::EndEntityCert::try_from(&current.cert[0]).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms.all;
        let now = rustls::pki_types::UnixTime::now();
        let usage = webpki::KeyUsage::server_auth();
        let chain = leaf.verify_for_usage(algorithms, &anchors, &[], now, usage, None, None);
        chain.is_ok() && names(&current.cert[0], name)
    }

    #[test]
    fn the_own_certificate_verifies_for_its_name_alone() {
        let certificates = Certificates::new(NAME).unwrap();
        assert_eq!(certificates.trust().borrow().source, Source::SelfSigned);
        assert!(verifies(&certificates, NAME));
        assert!(!verifies(&certificates, "pilot.argosy-system.svc"));
        assert!(Certificates::new("not a name").is_err());
    }
}
