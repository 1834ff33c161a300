//! A token issuer's public keys: a JSON Web Key Set, with each key's algorithms fixed by what it is.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

/// Kinds of keys that verify tokens here (RFC 7518, section 6.1), and the curves of those that have one.
const KINDS: [&str; 2] = ["RSA", "EC"];
const CURVES: [&str; 2] = ["P-256", "P-384"];

/// Most keys in a set.
pub const MAX_KEYS: usize = 64;

/// A key set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Not an object with a list `keys`.
    #[error("not a key set: wanted is {{\"keys\": […]}}")]
    Form,
    /// Too many.
    #[error("more than {MAX_KEYS} keys")]
    TooMany,
    /// None that can verify tokens.
    #[error("no key in it can verify tokens (wanted: RSA, or EC with curve P-256 or P-384)")]
    Empty,
    /// A secret where only public keys belong.
    #[error("keys[{0}] holds a private key (\"d\"); publish only public keys, and replace this one")]
    Secret(usize),
    /// A key that signs and verifies.
    #[error(
        "keys[{0}] is a symmetric key (kty oct): whoever can verify tokens by it can make them too; use RSA, or EC with curve P-256 or P-384"
    )]
    Symmetric(usize),
    /// A key that cannot be read.
    #[error("keys[{index}]: {reason}")]
    Key {
        /// Which one, counted from 0.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// Two keys with one id.
    #[error("the key id {0:?} is there twice")]
    Twice(String),
}

/// A key, and the algorithms that tokens may name for it.
pub struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// What verifies signatures.
    #[must_use]
    pub fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// Whether a token may name this algorithm for the key.
    #[must_use]
    pub fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

/// A key set.
#[derive(Debug)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Keys that were passed over.
    skipped: usize,
}

/// No key, or not just one, is meant by a token's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// None has this id.
    Unknown,
    /// Without an id several keys would do.
    Ambiguous,
}

impl KeySet {
    /// Parses JSON.
    ///
    /// # Errors
    /// When it is not a key set, or one of its keys is not fit. A kind of key that we do not use is passed over (RFC
    /// 7517, section 5), a symmetric one is an error.
    pub fn parse(text: &str) -> Result<Self, JwksError> {
        Self::from_value(&serde_json::from_str(text)?)
    }

    /// As [`KeySet::parse`], of somebody else's set: a key that is not fit is passed over too, for its owner's others count.
    ///
    /// # Errors
    /// When it is not a key set, or none of its keys is fit.
    pub fn parse_usable(text: &str) -> Result<Self, JwksError> {
        Self::read(&serde_json::from_str(text)?, true)
    }

    /// Takes parsed JSON.
    ///
    /// # Errors
    /// As [`KeySet::parse`].
    pub fn from_value(value: &Value) -> Result<Self, JwksError> {
        Self::read(value, false)
    }

    fn read(value: &Value, lenient: bool) -> Result<Self, JwksError> {
        let list = value
            .get("keys")
            .and_then(Value::as_array)
            .ok_or(JwksError::Form)?;
        if list.len() > MAX_KEYS {
            return Err(JwksError::TooMany);
        }
        let mut set = Self {
            keys: Vec::new(),
            skipped: 0,
        };
        for (index, value) in list.iter().enumerate() {
            match parse_key(index, value).and_then(|key| set.unlike(key)) {
                Ok(Some(key)) => set.keys.push(key),
                Ok(None) => set.skipped += 1,
                Err(_) if lenient => set.skipped += 1,
                Err(error) => return Err(error),
            }
        }
        match set.keys.is_empty() {
            true => Err(JwksError::Empty),
            false => Ok(set),
        }
    }

    /// The key, unless one with its id is there.
    fn unlike(&self, key: Option<Key>) -> Result<Option<Key>, JwksError> {
        let kid = key.as_ref().and_then(|key| key.kid.as_ref());
        match kid.filter(|kid| self.keys.iter().any(|key| key.kid.as_ref() == Some(*kid))) {
            Some(kid) => Err(JwksError::Twice(kid.clone())),
            None => Ok(key),
        }
    }

    /// How many keys were passed over, because they are of another kind or for another use.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The key that a token's header means: the one with its id, or, without an id, the only one of its algorithm.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, NoKey> {
        if kid.is_some() {
            return self
                .keys
                .iter()
                .find(|key| key.kid.as_deref() == kid)
                .ok_or(NoKey::Unknown);
        }
        let mut fitting = self.keys.iter().filter(|key| key.allows(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(NoKey::Unknown),
            (Some(_), Some(_)) => Err(NoKey::Ambiguous),
        }
    }
}

fn parse_key(index: usize, value: &Value) -> Result<Option<Key>, JwksError> {
    let field = |name: &str| value.get(name).and_then(Value::as_str);
    if field("kty") == Some("oct") || value.get("k").is_some() {
        return Err(JwksError::Symmetric(index));
    }
    if value.get("d").is_some() {
        return Err(JwksError::Secret(index));
    }
    // The library knows no other names, and says of the whole key that it is broken.
    let curve = field("crv").is_none_or(|curve| CURVES.contains(&curve));
    if !field("kty").is_some_and(|kind| KINDS.contains(&kind)) || !curve {
        return Ok(None);
    }
    let broken = |reason: String| JwksError::Key { index, reason };
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|e| broken(e.to_string()))?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return Ok(None);
    }
    let Some(mut algorithms) = algorithms(&jwk) else {
        return Ok(None);
    };
    if let Some(only) = jwk.common.key_algorithm {
        algorithms.retain(|algorithm| KeyAlgorithm::from(*algorithm) == only);
        if algorithms.is_empty() {
            return Err(broken(format!("alg {only} does not fit this kind of key")));
        }
    }
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|e| broken(e.to_string()))?;
    Ok(Some(Key {
        kid: jwk.common.key_id,
        algorithms,
        decoding,
    }))
}

fn algorithms(jwk: &Jwk) -> Option<Vec<Algorithm>> {
    use Algorithm::{ES256, ES384, PS256, PS384, PS512, RS256, RS384, RS512};
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(vec![RS256, RS384, RS512, PS256, PS384, PS512]),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => Some(vec![ES256]),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => Some(vec![ES384]),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value, reason = "cases read better by value")]
mod tests {
    use super::*;
    use crate::token::IssuerKey;
    use serde_json::json;

    fn key() -> Value {
        let set: Value = serde_json::from_str(&IssuerKey::generate().unwrap().jwks().unwrap()).unwrap();
        set["keys"][0].clone()
    }

    fn with(changes: Value) -> Value {
        let mut key = key();
        for (name, value) in changes.as_object().unwrap() {
            key[name] = value.clone();
        }
        key
    }

    fn parse(keys: &[Value]) -> Result<KeySet, String> {
        KeySet::from_value(&json!({ "keys": keys })).map_err(|e| e.to_string())
    }

    #[test]
    fn a_key_is_found_by_its_id_or_as_the_only_one() {
        let set = parse(&[with(json!({"kid": "a"})), with(json!({"kid": "b"}))]).unwrap();
        assert!(set.find(Some("a"), Algorithm::ES256).is_ok());
        assert_eq!(set.find(Some("c"), Algorithm::ES256).unwrap_err(), NoKey::Unknown);
        assert_eq!(set.find(None, Algorithm::ES256).unwrap_err(), NoKey::Ambiguous);
        assert!(parse(&[key()]).unwrap().find(None, Algorithm::ES256).is_ok());
        assert_eq!(
            parse(&[key()]).unwrap().find(None, Algorithm::RS256).unwrap_err(),
            NoKey::Unknown
        );
    }

    #[test]
    fn an_algorithm_must_fit_the_key() {
        let set = parse(&[key()]).unwrap();
        let found = set.find(None, Algorithm::ES256).unwrap();
        assert!(found.allows(Algorithm::ES256));
        for other in [
            Algorithm::HS256,
            Algorithm::ES384,
            Algorithm::RS256,
            Algorithm::PS256,
            Algorithm::EdDSA,
        ] {
            assert!(!found.allows(other), "{other:?}");
        }
        assert!(
            parse(&[with(json!({"alg": "RS256"}))])
                .unwrap_err()
                .contains("does not fit")
        );
    }

    #[test]
    fn sets_that_cannot_be_trusted_are_refused() {
        let refused = |keys: &[Value], part: &str| {
            let error = parse(keys).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        refused(&[], "no key");
        refused(&[with(json!({"use": "enc"}))], "no key");
        refused(&[json!({"kty": "unknown"})], "no key");
        refused(&[with(json!({"d": "AAAA"}))], "keys[0] holds a private key");
        refused(
            &[key(), json!({"kty": "oct", "k": "c2VjcmV0"})],
            "keys[1] is a symmetric key",
        );
        refused(&[with(json!({"x": "!"}))], "keys[0]: ");
        refused(&[with(json!({"kid": "a"})), with(json!({"kid": "a"}))], "twice");
        refused(&vec![key(); 65], "more than 64");
        assert!(matches!(KeySet::parse("{}"), Err(JwksError::Form)));
        assert!(matches!(KeySet::parse("nonsense"), Err(JwksError::Json(_))));
    }

    #[test]
    fn keys_of_other_kinds_are_passed_over_and_broken_ones_of_others_sets_too() {
        let others = [
            json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}),
            json!({"kty": "OKP", "crv": "Ed448", "x": "AA"}),
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}),
            with(json!({"use": "enc"})),
        ];
        let set = parse(&[&others[..], &[key()]].concat()).unwrap();
        assert_eq!((set.keys.len(), set.skipped()), (1, 4));
        let broken = [
            with(json!({"x": "!"})),
            with(json!({"d": "AAAA"})),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!("key"),
            key(),
        ];
        for one in &broken[..3] {
            assert!(parse(&[one.clone(), key()]).is_err(), "{one}");
        }
        let usable = |keys: &[Value]| KeySet::parse_usable(&json!({ "keys": keys }).to_string());
        let set = usable(&broken).unwrap();
        assert_eq!((set.keys.len(), set.skipped()), (1, 4));
        assert!(matches!(usable(&broken[..4]), Err(JwksError::Empty)));
    }
}
