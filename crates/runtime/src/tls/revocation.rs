//! Revocation lists (RFC 5280, section 5) that go with a trust bundle.

use std::fmt;

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

/// Most lists that go with one bundle.
pub const MAX_LISTS: usize = 128;

/// Lists could not be used. The bundle stays without them, or as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RevocationError {
    /// The text is not PEM.
    #[error("the revocation lists are not valid PEM: {0}")]
    Pem(String),
    /// More than [`MAX_LISTS`].
    #[error("more than {MAX_LISTS} revocation lists")]
    TooMany,
    /// One of them is broken.
    #[error("revocation list {index} cannot be used: {reason}")]
    List {
        /// Which one, counted from 1.
        index: usize,
        /// What the parser says.
        reason: String,
    },
}

/// Lists of revoked certificates, each by the authority that had signed them.
pub struct Revocations {
    pem: String,
    leaf_only: bool,
    lists: Vec<CertRevocationList<'static>>,
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations")
            .field("lists", &self.lists.len())
            .field("leaf_only", &self.leaf_only)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Revocations {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem && self.leaf_only == other.leaf_only
    }
}

impl Revocations {
    /// The lists in this PEM text. `leaf_only`: they speak of leaves, not of the authorities between those and a root.
    ///
    /// # Errors
    /// When the text is not PEM, or a list is not one that can be checked (a delta or an indirect list, for example).
    pub fn from_pem(text: &str, leaf_only: bool) -> Result<Self, RevocationError> {
        let mut lists = Vec::new();
        for (index, der) in CertificateRevocationListDer::pem_slice_iter(text.as_bytes()).enumerate() {
            if lists.len() == MAX_LISTS {
                return Err(RevocationError::TooMany);
            }
            let der = der.map_err(|error| RevocationError::Pem(error.to_string()))?;
            let list = OwnedCertRevocationList::from_der(&der).map_err(|error| RevocationError::List {
                index: index + 1,
                reason: error.to_string(),
            })?;
            lists.push(CertRevocationList::Owned(list));
        }
        Ok(Self {
            pem: text.to_owned(),
            leaf_only,
            lists,
        })
    }

    /// The lists, in PEM.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether the lists speak of leaves alone.
    pub(super) fn leaf_only(&self) -> bool {
        self.leaf_only
    }

    /// Calls `check` with what webpki needs; with `None` when there are no lists.
    ///
    /// An authority without a list has revoked nothing, and a list that is past its next update still says whom not to
    /// trust.
    pub(super) fn with_options<T>(
        this: Option<&Self>,
        check: impl FnOnce(Option<RevocationOptions<'_>>) -> T,
    ) -> T {
        let lists: Vec<&CertRevocationList<'_>> = this.iter().flat_map(|these| &these.lists).collect();
        let depth = match this {
            Some(these) if !these.leaf_only => RevocationCheckDepth::Chain,
            _ => RevocationCheckDepth::EndEntity,
        };
        // The only error is that there are no lists.
        let options = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder
                .with_depth(depth)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        check(options)
    }
}
