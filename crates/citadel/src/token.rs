//! Tokens for workloads without a platform that makes them: an issuer's key, its public half as a JWKS, and tokens.
//!
//! Citadel itself only verifies tokens; this is for `argosy init`, and for tests.

use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet, KeyOperations, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::Serialize;
use zeroize::{Zeroize, Zeroizing};

/// A key or token could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The key's PEM.
    #[error("not the private key of a token issuer (wanted is ECDSA P-256, PKCS #8, PEM): {0}")]
    Key(jsonwebtoken::errors::Error),
    /// A key could not be generated.
    #[error("cannot make a key: {0}")]
    Generate(#[from] rcgen::Error),
    /// Signing or encoding failed.
    #[error("cannot make a token: {0}")]
    Sign(jsonwebtoken::errors::Error),
    /// The key set could not be written as JSON.
    #[error("cannot write the key set: {0}")]
    Json(#[from] serde_json::Error),
}

/// A token issuer's ES256 key.
pub struct IssuerKey {
    pem: Zeroizing<String>,
    signing: EncodingKey,
    public: Jwk,
}

impl std::fmt::Debug for IssuerKey {
    /// Never the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuerKey")
            .field("kid", &self.kid())
            .finish_non_exhaustive()
    }
}

impl IssuerKey {
    /// A new key.
    ///
    /// # Errors
    /// When the cryptography library refuses.
    pub fn generate() -> Result<Self, TokenError> {
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let pem = Zeroizing::new(key.serialize_pem());
        key.zeroize();
        Self::from_pem(&pem)
    }

    /// The key in this PEM (PKCS #8).
    ///
    /// # Errors
    /// When it is not an ECDSA P-256 key.
    pub fn from_pem(pem: &str) -> Result<Self, TokenError> {
        let signing = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(TokenError::Key)?;
        let mut public = Jwk::from_encoding_key(&signing, Algorithm::ES256).map_err(TokenError::Key)?;
        let kid = public
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(TokenError::Key)?;
        public.common.key_id = Some(kid);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        public.common.key_operations = Some(vec![KeyOperations::Verify]);
        Ok(Self {
            pem: Zeroizing::new(pem.to_owned()),
            signing,
            public,
        })
    }

    /// The private key, PEM (PKCS #8): keep it in a file of mode 0600.
    #[must_use]
    pub fn to_pem(&self) -> &str {
        &self.pem
    }

    /// The key's id: its RFC 7638 thumbprint.
    #[must_use]
    pub fn kid(&self) -> &str {
        self.public.common.key_id.as_deref().unwrap_or_default()
    }

    /// The public key as a JSON Web Key Set, for `jwksFile`.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn jwks(&self) -> Result<String, TokenError> {
        Ok(format!(
            "{}\n",
            serde_json::to_string_pretty(&JwkSet {
                keys: vec![self.public.clone()]
            })?
        ))
    }
}

/// What a token says.
#[derive(Debug, Clone)]
pub struct Grant<'a> {
    /// `iss`: one of identity.yaml's token issuers.
    pub issuer: &'a str,
    /// `aud`: one of that issuer's audiences.
    pub audience: &'a str,
    /// The workload's namespace.
    pub namespace: &'a str,
    /// The workload's service account.
    pub account: &'a str,
    /// `iat`, in seconds since 1970.
    pub issued_at: i64,
    /// From `iat` to `exp`.
    pub lifetime: Duration,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: [&'a str; 1],
    sub: String,
    iat: i64,
    exp: i64,
}

/// Makes a token: a JWT, signed with ES256, its subject `system:serviceaccount:NAMESPACE:ACCOUNT` as Kubernetes has it.
///
/// # Errors
/// When the cryptography library refuses.
pub fn mint(key: &IssuerKey, grant: &Grant<'_>) -> Result<Zeroizing<String>, TokenError> {
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some(key.kid().to_owned());
    let lifetime = i64::try_from(grant.lifetime.as_secs()).unwrap_or(i64::MAX);
    let claims = Claims {
        iss: grant.issuer,
        aud: [grant.audience],
        sub: format!("system:serviceaccount:{}:{}", grant.namespace, grant.account),
        iat: grant.issued_at,
        exp: grant.issued_at.saturating_add(lifetime),
    };
    jsonwebtoken::encode(&header, &claims, &key.signing)
        .map(Zeroizing::new)
        .map_err(TokenError::Sign)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let key = IssuerKey::generate().unwrap();
        let again = IssuerKey::from_pem(key.to_pem()).unwrap();
        assert_eq!(key.jwks().unwrap(), again.jwks().unwrap());
        assert!(!key.kid().is_empty());
        assert!(!key.jwks().unwrap().contains("\"d\""), "the private half");
        assert!(IssuerKey::from_pem("rubbish").is_err());
    }
}
