//! SPIFFE ids and trust domains, parsed strictly by the SPIFFE-ID specification (sections 2.1 to 2.4).
//!
//! It knows nothing of certificates: those are read in [`crate::tls`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest trust domain name that is accepted, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_TRUST_DOMAIN: usize = 255;
/// Longest SPIFFE id that is accepted, in bytes (SPIFFE-ID, section 2.3).
pub const MAX_ID: usize = 2048;
/// Namespace of Argosy's own services.
pub const SYSTEM_NAMESPACE: &str = "argosy-system";

/// Why a text is not a SPIFFE id. Each message names the rule; the way out is to correct the id at its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// The scheme is not exactly `spiffe`.
    #[error("a SPIFFE id starts with \"spiffe://\"")]
    Scheme,
    /// The id is longer than [`MAX_ID`].
    #[error("longer than {MAX_ID} bytes")]
    TooLong,
    /// The trust domain is empty.
    #[error("the trust domain is empty")]
    EmptyTrustDomain,
    /// The trust domain is longer than [`MAX_TRUST_DOMAIN`].
    #[error("the trust domain is longer than {MAX_TRUST_DOMAIN} bytes")]
    LongTrustDomain,
    /// A character that a trust domain may not have (this covers user information, ports and upper case).
    #[error("the trust domain has the character {0:?}; allowed are a-z, 0-9, '.', '-' and '_'")]
    TrustDomainChar(char),
    /// A character that a path may not have (this covers percent-encoding, queries and fragments).
    #[error("the path has the character {0:?}; allowed are letters, digits, '.', '-', '_' and '/'")]
    PathChar(char),
    /// `//` or a `/` at the end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.` or `..` as a segment.
    #[error("the path has a relative segment (\".\" or \"..\")")]
    RelativeSegment,
}

/// The name of a trust domain, such as `cluster.local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Parses a bare name.
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_TRUST_DOMAIN`] or has a character outside `a-z 0-9 . - _`.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        if name.is_empty() {
            return Err(SpiffeIdError::EmptyTrustDomain);
        }
        if name.len() > MAX_TRUST_DOMAIN {
            return Err(SpiffeIdError::LongTrustDomain);
        }
        match name
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_'))
        {
            Some(c) => Err(SpiffeIdError::TrustDomainChar(c)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TrustDomain {
    /// `cluster.local`, Istio's default.
    fn default() -> Self {
        Self("cluster.local".into())
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

/// A SPIFFE id: a trust domain and a path, which is empty or starts with `/`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    path: Arc<str>,
}

impl SpiffeId {
    /// Parses a URI.
    ///
    /// # Errors
    /// When a rule of the specification is broken; nothing is normalised (CVE-2021-27099 came from that).
    pub fn parse(uri: &str) -> Result<Self, SpiffeIdError> {
        if uri.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = uri.strip_prefix("spiffe://").ok_or(SpiffeIdError::Scheme)?;
        let (domain, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        Self::new(TrustDomain::parse(domain)?, path)
    }

    /// Joins a trust domain and a path (empty, or starting with `/`).
    ///
    /// # Errors
    /// When the path breaks a rule or the whole is longer than [`MAX_ID`].
    pub fn new(trust_domain: TrustDomain, path: &str) -> Result<Self, SpiffeIdError> {
        check_path(path)?;
        if "spiffe://".len() + trust_domain.as_str().len() + path.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong);
        }
        Ok(Self {
            trust_domain,
            path: path.into(),
        })
    }

    /// The id of a service account, `spiffe://TD/ns/NAMESPACE/sa/ACCOUNT`, as Istio writes it.
    ///
    /// # Errors
    /// When a name is empty or has a character that a path segment may not have.
    pub fn workload(td: &TrustDomain, namespace: &str, account: &str) -> Result<Self, SpiffeIdError> {
        for segment in [namespace, account] {
            if segment.contains('/') {
                return Err(SpiffeIdError::PathChar('/'));
            }
        }
        Self::new(td.clone(), &format!("/ns/{namespace}/sa/{account}"))
    }

    /// The id of one of Argosy's own services, such as `spiffe://TD/ns/argosy-system/sa/pilot`.
    ///
    /// # Errors
    /// When the name cannot be a path segment.
    pub fn system(td: &TrustDomain, service: &str) -> Result<Self, SpiffeIdError> {
        Self::workload(td, SYSTEM_NAMESPACE, service)
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The path: empty, or starting with `/`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Namespace and service account, when the path is `/ns/NAMESPACE/sa/ACCOUNT` and nothing else.
    #[must_use]
    pub fn account(&self) -> Option<(&str, &str)> {
        let mut parts = self.path.strip_prefix("/ns/")?.split('/');
        let namespace = parts.next()?;
        if parts.next()? != "sa" {
            return None;
        }
        let account = parts.next()?;
        parts.next().is_none().then_some((namespace, account))
    }

    /// The namespace, when this is the id of a service account.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.account().map(|(namespace, _)| namespace)
    }

    /// The service account's name, when this is the id of one.
    #[must_use]
    pub fn service_account(&self) -> Option<&str> {
        self.account().map(|(_, account)| account)
    }
}

fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    if path.is_empty() {
        return Ok(());
    }
    let Some(segments) = path.strip_prefix('/') else {
        return Err(SpiffeIdError::EmptySegment);
    };
    for segment in segments.split('/') {
        if let Some(c) = segment
            .chars()
            .find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'))
        {
            return Err(SpiffeIdError::PathChar(c));
        }
        match segment {
            "" => return Err(SpiffeIdError::EmptySegment),
            "." | ".." => return Err(SpiffeIdError::RelativeSegment),
            _ => {}
        }
    }
    Ok(())
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;
    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        Self::parse(uri)
    }
}

macro_rules! serde_as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(|e| serde::de::Error::custom(format!("{text:?}: {e}")))
            }
        }
    };
}
serde_as_text!(TrustDomain);
serde_as_text!(SpiffeId);

/// Who is at the other end of a connection, as its verified certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The one URI SAN of its certificate.
    pub spiffe_id: SpiffeId,
    /// When its certificate ends, in seconds since 1970.
    pub not_after: i64,
}

impl Peer {
    /// The namespace, when the id is a service account's.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.spiffe_id.namespace()
    }

    /// The service account's name, when the id is a service account's.
    #[must_use]
    pub fn service_account(&self) -> Option<&str> {
        self.spiffe_id.service_account()
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "cases read better by value")]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Result<(&str, &str), SpiffeIdError>) {
        let seen = SpiffeId::parse(uri);
        let seen = seen
            .as_ref()
            .map(|id| (id.trust_domain().as_str(), id.path()))
            .map_err(Clone::clone);
        assert_eq!(seen, expected, "{uri}");
    }

    #[test]
    fn accepts_what_the_specification_allows() {
        check(
            "spiffe://cluster.local/ns/shop/sa/orders",
            Ok(("cluster.local", "/ns/shop/sa/orders")),
        );
        check("spiffe://td", Ok(("td", "")));
        check("spiffe://td_1-a.b/A.b-C_9/...", Ok(("td_1-a.b", "/A.b-C_9/...")));
        check(
            &format!("spiffe://td/{}", "a".repeat(2048 - 12)),
            Ok(("td", &format!("/{}", "a".repeat(2036)))),
        );
    }

    #[test]
    fn refuses_what_it_does_not() {
        use SpiffeIdError::*;
        check("", Err(Scheme));
        check("SPIFFE://td/a", Err(Scheme));
        check("https://td/a", Err(Scheme));
        check("spiffe:/td/a", Err(Scheme));
        check("spiffe://", Err(EmptyTrustDomain));
        check("spiffe:///a", Err(EmptyTrustDomain));
        check("spiffe://TD/a", Err(TrustDomainChar('T')));
        check("spiffe://user@td/a", Err(TrustDomainChar('@')));
        check("spiffe://td:80/a", Err(TrustDomainChar(':')));
        check("spiffe://td?x", Err(TrustDomainChar('?')));
        check("spiffe://td#x", Err(TrustDomainChar('#')));
        check("spiffe://tĉ/a", Err(TrustDomainChar('ĉ')));
        check("spiffe://td/", Err(EmptySegment));
        check("spiffe://td/a/", Err(EmptySegment));
        check("spiffe://td//a", Err(EmptySegment));
        check("spiffe://td/./a", Err(RelativeSegment));
        check("spiffe://td/a/..", Err(RelativeSegment));
        check("spiffe://td/a%2fb", Err(PathChar('%')));
        check("spiffe://td/a?b", Err(PathChar('?')));
        check("spiffe://td/a#b", Err(PathChar('#')));
        check("spiffe://td/a\0b", Err(PathChar('\0')));
        check("spiffe://td/ä", Err(PathChar('ä')));
        check(&format!("spiffe://{}/a", "a".repeat(256)), Err(LongTrustDomain));
        check(&format!("spiffe://td/{}", "a".repeat(2048 - 11)), Err(TooLong));
    }

    #[test]
    fn account_is_found_only_in_its_exact_form() {
        let account = |uri: &str| {
            let id = SpiffeId::parse(uri).unwrap();
            id.account().map(|(ns, sa)| (ns.to_owned(), sa.to_owned()))
        };
        assert_eq!(account("spiffe://td/ns/a/sa/b"), Some(("a".into(), "b".into())));
        assert_eq!(account("spiffe://td/ns/a/sa/b/c"), None);
        assert_eq!(account("spiffe://td/x/ns/a/sa/b"), None);
        assert_eq!(account("spiffe://td/ns/a/b"), None);
        assert_eq!(account("spiffe://td"), None);
    }

    #[test]
    fn a_workload_cannot_smuggle_a_segment() {
        let td = TrustDomain::default();
        assert_eq!(
            SpiffeId::workload(&td, "a/sa/b", "c"),
            Err(SpiffeIdError::PathChar('/'))
        );
        assert_eq!(
            SpiffeId::workload(&td, "..", "c"),
            Err(SpiffeIdError::RelativeSegment)
        );
        assert_eq!(SpiffeId::workload(&td, "a", ""), Err(SpiffeIdError::EmptySegment));
    }
}
