//! The names that Envoy asks for credentials by, as Istio writes them.

use super::Key;

/// What names begin with.
const SCHEME: &str = "kubernetes://";
/// What the name of a gateway of the Gateway API begins with; the namespace always follows.
const GATEWAY_SCHEME: &str = "kubernetes-gateway://";
/// What stands behind a name that asks for roots.
pub(super) const ROOTS_SUFFIX: &str = "-cacert";
/// Longest name that is read: a namespace, a Secret's name and what stands around them.
const MAX_LENGTH: usize = 512;

/// What of a Secret is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Certificate chain and private key.
    KeyPair,
    /// Roots to verify peers by, and revocations.
    Roots,
}

/// A name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    /// The Secret's name, without the suffix.
    pub(crate) secret: String,
    pub(crate) part: Part,
}

/// A name that means no Secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not the name of a credential; written is kubernetes://NAME or kubernetes://NAMESPACE/NAME, by names of Kubernetes"
)]
pub(crate) struct NameError;

impl Name {
    /// The Secret that is asked for.
    pub(crate) fn key(&self) -> Key {
        Key {
            namespace: self.namespace.clone(),
            name: self.secret.clone(),
        }
    }

    /// Takes a name apart; `caller` is the namespace where it names none.
    pub(crate) fn parse(name: &str, caller: &str) -> Result<Self, NameError> {
        if name.len() > MAX_LENGTH {
            return Err(NameError);
        }
        let (namespace, secret) = match (name.strip_prefix(SCHEME), name.strip_prefix(GATEWAY_SCHEME)) {
            (Some(rest), _) => rest.split_once('/').unwrap_or((caller, rest)),
            (None, Some(rest)) => rest.split_once('/').ok_or(NameError)?,
            (None, None) => return Err(NameError),
        };
        let (secret, part) = match secret.strip_suffix(ROOTS_SUFFIX) {
            Some(secret) => (secret, Part::Roots),
            None => (secret, Part::KeyPair),
        };
        if !is_dns(namespace, 63) || !is_dns(secret, 253) {
            return Err(NameError);
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            part,
        })
    }
}

/// A DNS subdomain of RFC 1123, which is what Kubernetes takes for names.
fn is_dns(text: &str, longest: usize) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= longest && text.split('.').all(label)
}
