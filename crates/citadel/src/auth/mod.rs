//! Who is calling? Decided before anything else of a request is looked at.
//!
//! A caller shows a bearer token, or, to renew, a certificate of this authority. A token that is shown must be good: a
//! bad one is not made up for by a certificate.

pub(crate) mod fetched;
pub mod jwks;
pub mod jwt;

use std::sync::Arc;

use arc_swap::ArcSwap;
use runtime::spiffe::{Peer, SpiffeId, SpiffeIdError};
use tonic::metadata::MetadataMap;

use crate::identity_file::IdentityConfig;
use crate::kubernetes::review::{ReviewRefusal, TokenReviewer};
use fetched::{Fetched, Known};
use jwt::TokenRefusal;

/// How a caller was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By a signed token.
    Token,
    /// By a token that the API server knows.
    TokenReview,
    /// By a current certificate of this authority.
    Certificate,
}

impl Method {
    /// For logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TokenReview => "token_review",
            Self::Certificate => "certificate",
        }
    }
}

/// A caller that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose certificate it may have.
    pub id: SpiffeId,
    /// How it was recognised.
    pub method: Method,
}

/// A caller that was not. The message is for the caller: it says which check failed and what to do, and has nothing in
/// it that the caller did not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing was shown.
    #[error(
        "no credentials: send \"authorization: Bearer TOKEN\", or connect with a current certificate of this mesh"
    )]
    None,
    /// The header is not one bearer token.
    #[error("the authorization header is not one \"Bearer TOKEN\"")]
    Header,
    /// The token.
    #[error("the token was refused: {0}")]
    Token(#[from] TokenRefusal),
    /// The API server's answer about the token.
    #[error("the token was refused: {0}")]
    Review(#[from] ReviewRefusal),
    /// The issuer's keys are not known yet.
    #[error("the keys of the token's issuer {issuer} are not known yet ({reason}); try again")]
    NoKeys {
        /// The issuer.
        issuer: String,
        /// Why they are not known.
        reason: String,
    },
    /// The account's names make no SPIFFE id.
    #[error("the token's subject makes no SPIFFE id: {0}")]
    Id(#[from] SpiffeIdError),
    /// The certificate ended while the connection stayed open.
    #[error("the client certificate has expired: connect again with a token")]
    CertificateExpired,
    /// The certificate is not a service account's.
    #[error(
        "the client certificate is not a service account's: its SPIFFE id is not of the form /ns/NAMESPACE/sa/ACCOUNT"
    )]
    NotAccount,
}

impl Refusal {
    /// A short name, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::None => "no_credentials",
            Self::Header => "malformed_header",
            Self::Token(refusal) => refusal.reason(),
            Self::Review(refusal) => refusal.reason(),
            Self::NoKeys { .. } => "issuer_keys_unknown",
            Self::Id(_) => "malformed_subject",
            Self::CertificateExpired => "certificate_expired",
            Self::NotAccount => "certificate_not_account",
        }
    }

    /// Whether nobody could say, rather than that somebody said no: the caller may try again.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Review(ReviewRefusal::Unavailable(_)) | Self::NoKeys { .. }
        )
    }
}

/// Recognises callers: by what `identity.yaml` says, and, in a cluster, by the API server.
#[derive(Debug, Clone)]
pub(crate) struct Authenticator {
    pub(crate) config: Arc<ArcSwap<IdentityConfig>>,
    /// Issuers of `identity.yaml` whose keys are fetched.
    pub(crate) fetched: Arc<Fetched>,
    pub(crate) reviewer: Option<Arc<TokenReviewer>>,
}

impl Authenticator {
    /// As [`authenticate`], also with keys that were fetched. Nobody is asked.
    ///
    /// # Errors
    /// As [`authenticate`].
    pub(crate) fn here(
        &self,
        metadata: &MetadataMap,
        peer: Option<&Peer>,
        now: i64,
    ) -> Result<Caller, Refusal> {
        let config = self.config.load_full();
        let refusal = match authenticate(&config, metadata, peer, now) {
            Err(refusal @ Refusal::Token(TokenRefusal::Issuer(_))) => refusal,
            result => return result,
        };
        let fetched = |issuer: &str| config.remote_issuers.iter().any(|remote| remote.issuer == issuer);
        match (&refusal, bearer(metadata)?) {
            (Refusal::Token(TokenRefusal::Issuer(issuer)), Some(token)) if fetched(issuer) => {
                let account = self.by_fetched(issuer, token, now)?;
                caller(&config, &account, Method::Token)
            }
            _ => Err(refusal),
        }
    }

    /// Whether the API server may know what is not known here: a token of an issuer that `identity.yaml` does not name.
    pub(crate) fn can_ask(&self, refusal: &Refusal) -> bool {
        self.reviewer.is_some() && matches!(refusal, Refusal::Token(TokenRefusal::Issuer(_)))
    }

    /// Shows the token to the API server, in place of what was said `here`.
    ///
    /// # Errors
    /// When it does not accept the token, or cannot be asked.
    pub(crate) async fn ask(&self, metadata: &MetadataMap, here: Refusal) -> Result<Caller, Refusal> {
        let (Some(reviewer), Some(token)) = (&self.reviewer, bearer(metadata)?) else {
            return Err(here);
        };
        let account = reviewer.review(token).await?;
        caller(&self.config.load(), &account, Method::TokenReview)
    }

    fn by_fetched(&self, issuer: &str, token: &str, now: i64) -> Result<jwt::Account, Refusal> {
        let no_keys = |reason: String| Refusal::NoKeys {
            issuer: issuer.to_owned(),
            reason,
        };
        let issuer = match self.fetched.find(issuer) {
            Some(Known::Keys(issuer)) => issuer,
            Some(Known::Nothing(reason)) => return Err(no_keys(reason)),
            None => return Err(no_keys("they are being fetched".to_owned())),
        };
        let verified = jwt::verify(std::slice::from_ref(&*issuer), token, now);
        if verified == Err(TokenRefusal::UnknownKey) {
            self.fetched.missed();
        }
        Ok(verified?)
    }
}

fn caller(config: &IdentityConfig, account: &jwt::Account, method: Method) -> Result<Caller, Refusal> {
    Ok(Caller {
        id: SpiffeId::workload(&config.trust_domain, &account.namespace, &account.name)?,
        method,
    })
}

/// Recognises the caller by its metadata and its verified certificate, at `now` (seconds since 1970).
///
/// # Errors
/// When it shows nothing, or something that does not hold.
pub fn authenticate(
    config: &IdentityConfig,
    metadata: &MetadataMap,
    peer: Option<&Peer>,
    now: i64,
) -> Result<Caller, Refusal> {
    match (bearer(metadata)?, peer) {
        (Some(token), _) => {
            let account = jwt::verify(&config.token_issuers, token, now)?;
            caller(config, &account, Method::Token)
        }
        (None, Some(peer)) if peer.not_after <= now => Err(Refusal::CertificateExpired),
        (None, Some(peer)) if peer.spiffe_id.account().is_none() => Err(Refusal::NotAccount),
        (None, Some(peer)) => Ok(Caller {
            id: peer.spiffe_id.clone(),
            method: Method::Certificate,
        }),
        (None, None) => Err(Refusal::None),
    }
}

fn bearer(metadata: &MetadataMap) -> Result<Option<&str>, Refusal> {
    let mut values = metadata.get_all("authorization").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Refusal::Header);
    }
    let text = value.to_str().map_err(|_| Refusal::Header)?;
    let (scheme, token) = text.split_once(' ').ok_or(Refusal::Header)?;
    let token = token.trim();
    match scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        true => Ok(Some(token)),
        false => Err(Refusal::Header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn peer(id: &str, not_after: i64) -> Peer {
        Peer {
            spiffe_id: SpiffeId::parse(id).unwrap(),
            not_after,
        }
    }

    fn check(header: &[&str], peer: Option<&Peer>, expected: Result<&str, Refusal>) {
        let mut metadata = MetadataMap::new();
        for value in header {
            metadata.append("authorization", value.parse().unwrap());
        }
        let seen = authenticate(&IdentityConfig::default(), &metadata, peer, NOW);
        assert_eq!(
            seen.map(|c| c.id.to_string()),
            expected.map(str::to_owned),
            "{header:?}"
        );
    }

    #[test]
    fn a_certificate_renews_itself_and_nothing_else() {
        let id = "spiffe://cluster.local/ns/shop/sa/orders";
        check(&[], Some(&peer(id, NOW + 1)), Ok(id));
        check(&[], Some(&peer(id, NOW)), Err(Refusal::CertificateExpired));
        check(
            &[],
            Some(&peer("spiffe://cluster.local/x", NOW + 1)),
            Err(Refusal::NotAccount),
        );
        check(&[], None, Err(Refusal::None));
    }

    #[test]
    fn a_bad_token_is_not_made_up_for_by_a_certificate() {
        let peer = peer("spiffe://cluster.local/ns/shop/sa/orders", NOW + 1);
        check(
            &["Bearer x"],
            Some(&peer),
            Err(Refusal::Token(TokenRefusal::Malformed)),
        );
        check(&["Basic x"], Some(&peer), Err(Refusal::Header));
        check(&["Bearer "], Some(&peer), Err(Refusal::Header));
        check(&["Bearer"], Some(&peer), Err(Refusal::Header));
        check(&["Bearer a", "Bearer b"], Some(&peer), Err(Refusal::Header));
        // The scheme's case does not matter, nor how many spaces follow it (RFC 9110, section 11.4).
        for scheme in ["bearer x", "BEARER  x", "bEaReR x"] {
            check(
                &[scheme],
                Some(&peer),
                Err(Refusal::Token(TokenRefusal::Malformed)),
            );
        }
    }
}
