//! Tokens as an issuer would make them, and as it would not.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::folder::Folder;

/// A key that tokens are signed with.
pub(super) struct Issuer {
    key: EncodingKey,
    kid: Option<String>,
}

impl Issuer {
    /// The issuer that a folder's Citadel believes.
    pub(super) fn of(folder: &Folder) -> anyhow::Result<Self> {
        let key = std::fs::read(folder.path().join("identity/issuer-key.pem")).context("no issuer's key")?;
        let jwks: Value = serde_json::from_str(&folder.read("identity/issuer-jwks.json")?)?;
        let kid = jwks
            .pointer("/keys/0/kid")
            .and_then(Value::as_str)
            .map(str::to_owned);
        Ok(Self {
            key: EncodingKey::from_ec_pem(&key)?,
            kid,
        })
    }

    /// Writes a token for the frontend of the sample. `from` and `until` are seconds from now.
    pub(super) fn write(
        &self,
        dir: &Path,
        name: &str,
        account: &str,
        from: i64,
        until: i64,
    ) -> anyhow::Result<PathBuf> {
        let now = now()?;
        let claims = json!({
            "iss": "https://issuer.argosy.local", "aud": "argosy-ca",
            "sub": format!("system:serviceaccount:shop:{account}"),
            "iat": now + from, "nbf": now + from, "exp": now + until,
        });
        let path = dir.join(name);
        std::fs::write(&path, self.sign(&claims)?)?;
        Ok(path)
    }

    /// A token of an hour for a person, as of an issuer of this name with this key.
    pub(super) fn token(&self, issuer: &str, subject: &str) -> anyhow::Result<String> {
        self.sign(&json!({"iss": issuer, "sub": subject, "exp": now()? + 3600}))
    }

    fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid.clone_from(&self.kid);
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }
}

/// Seconds since 1970.
fn now() -> anyhow::Result<i64> {
    Ok(i64::try_from(
        SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    )?)
}
