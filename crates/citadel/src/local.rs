//! Certificates that the authority signs for its own process: Citadel's, and, where all services share a process,
//! theirs.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use runtime::Svid;
use runtime::identity::{IssueError, Issuer};
use runtime::spiffe::SpiffeId;
use rustls_pki_types::UnixTime;
use zeroize::{Zeroize, Zeroizing};

use crate::ca::Root;

/// Issues to this process from its own root.
#[derive(Debug)]
pub struct LocalIssuer {
    /// The authority.
    pub root: Arc<Root>,
    /// For whom it signs.
    pub id: SpiffeId,
    /// How long each certificate lives.
    pub ttl: Duration,
}

fn local(error: impl std::error::Error + Send + Sync + 'static) -> IssueError {
    IssueError::Local(Box::new(error))
}

impl Issuer for LocalIssuer {
    async fn issue(&self, _current: Option<Arc<Svid>>) -> Result<Svid, IssueError> {
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = self
            .root
            .issue(&key, &self.id, self.ttl, crate::ca::now())
            .map_err(local)?;
        let der = Zeroizing::new(key.serialize_der());
        key.zeroize();
        let bundle = Arc::new(self.root.bundle().clone());
        Ok(Svid::new(der, vec![leaf.der], bundle, UnixTime::now())?)
    }
}
