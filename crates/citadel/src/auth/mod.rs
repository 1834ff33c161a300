//! Who is calling? Decided before anything else of a request is looked at.
//!
//! A caller shows a bearer token, or, to renew, a certificate of this authority. A token that is shown must be good: a
//! bad one is not made up for by a certificate.

pub mod jwks;
pub mod jwt;

use runtime::spiffe::{Peer, SpiffeId, SpiffeIdError};
use tonic::metadata::MetadataMap;

use crate::identity_file::IdentityConfig;
use jwt::TokenRefusal;

/// How a caller was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By a signed token.
    Token,
    /// By a current certificate of this authority.
    Certificate,
}

impl Method {
    /// For logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
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
            Self::Id(_) => "malformed_subject",
            Self::CertificateExpired => "certificate_expired",
            Self::NotAccount => "certificate_not_account",
        }
    }
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
            let id = SpiffeId::workload(&config.trust_domain, &account.namespace, &account.name)?;
            Ok(Caller {
                id,
                method: Method::Token,
            })
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
    }
}
