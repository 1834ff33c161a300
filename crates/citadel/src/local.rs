//! Certificates that the authority signs for its own process: Citadel's, and, where all services share a process,
//! theirs.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use runtime::Svid;
use runtime::identity::{IssueError, Issuer};
use runtime::spiffe::SpiffeId;
use runtime::tls::TrustBundle;
use rustls_pki_types::UnixTime;
use tokio::sync::{Mutex, watch};
use zeroize::{Zeroize, Zeroizing};

use crate::ca::Terms;
use crate::current::{Asked, Current, Trust};

/// Issues to this process from its own authority.
#[derive(Debug)]
pub struct LocalIssuer {
    current: Current,
    id: SpiffeId,
    ttl: Duration,
    names: Vec<String>,
    news: Mutex<watch::Receiver<Trust>>,
}

impl LocalIssuer {
    /// Issues certificates for `id` that live for `ttl`.
    #[must_use]
    pub fn new(current: Current, id: SpiffeId, ttl: Duration) -> Self {
        let news = Mutex::new(current.trust());
        Self {
            current,
            id,
            ttl,
            names: Vec::new(),
            news,
        }
    }

    /// With these DNS names in its certificates, beside those that follow from the identity.
    #[must_use]
    pub fn with_names(self, names: Vec<String>) -> Self {
        Self { names, ..self }
    }
}

fn local(error: impl std::error::Error + Send + Sync + 'static) -> IssueError {
    IssueError::Local(Box::new(error))
}

impl Issuer for LocalIssuer {
    async fn issue(&self, _current: Option<Arc<Svid>>) -> Result<Svid, IssueError> {
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let asked = Asked {
            by: "own process",
            key: "P-256",
            remote: "none",
        };
        let terms = Terms {
            ttl: self.ttl,
            proven: crate::ca::now().unix_timestamp(),
            names: &self.names,
        };
        let signed = self.current.sign(&key, &self.id, &terms, asked);
        let (leaf, authority) = signed.map_err(local)?;
        let der = Zeroizing::new(key.serialize_der());
        key.zeroize();
        let bundle = Arc::new(authority.bundle().clone());
        let mut chain = vec![leaf.der];
        chain.extend_from_slice(authority.chain());
        Ok(Svid::new(der, chain, bundle, UnixTime::now())?)
    }

    async fn changed_bundle(&self, current: &Svid) -> Result<Option<TrustBundle>, IssueError> {
        let authority = self.current.authority();
        let bundle = authority.bundle();
        Ok((bundle != &**current.bundle()).then(|| bundle.clone()))
    }

    async fn news(&self) {
        let mut news = self.news.lock().await;
        if news.changed().await.is_err() {
            std::future::pending().await
        }
    }

    fn reissue_before(&self) -> i64 {
        self.current.trust().borrow().reissue_before
    }
}
