//! JSON Web Key Sets (RFC 7517): what of them tokens can be verified by, as Envoy reads them. What fetches them is not known
//! here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

/// Most keys in a set.
pub const MAX_KEYS: usize = 100;
/// Members that are private, or are the key itself (RFC 7518, section 6).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];
/// Exponents that Envoy takes; it refuses others as weak.
const EXPONENTS: [&[u8]; 2] = [&[3], &[1, 0, 1]];

/// Why a text is no key set that can be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It is not JSON.
    #[error("is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is something else.
    #[error("is no JSON Web Key Set: it has no list `keys`")]
    NoList,
    /// There is nothing in it that tokens could be verified by.
    #[error(
        "the key set has no key that tokens can be verified by: a public key of type RSA, EC or OKP that is whole"
    )]
    Empty,
    /// It is too long.
    #[error("the key set has {0} keys, more than the {MAX_KEYS} allowed")]
    TooMany(usize),
}

/// Where a key set comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was fetched from where everybody may see it: symmetric keys are left out.
    Fetched,
    /// It stands in the configuration, and may hold symmetric keys (`oct`).
    Inline,
}

/// The keys of a set by which tokens may be verified, as one text: keys of other types, for other uses, or that lack a part are
/// left out, and private parts too. A key alone counts as a set of one.
///
/// # Errors
/// The text is no key set, or there is no key in it that can be used.
pub fn usable(text: &[u8], origin: Origin) -> Result<String, KeysError> {
    let mut value: Value = serde_json::from_slice(text)?;
    let keys = match value.get_mut("keys").map(Value::take) {
        Some(Value::Array(keys)) => keys,
        None if value.get("kty").is_some() => vec![value],
        _ => return Err(KeysError::NoList),
    };
    if keys.len() > MAX_KEYS {
        return Err(KeysError::TooMany(keys.len()));
    }
    let keys: Vec<Value> = keys
        .into_iter()
        .filter_map(|key| verifying(key, origin))
        .collect();
    match keys.is_empty() {
        true => Err(KeysError::Empty),
        false => Ok(json!({ "keys": keys }).to_string()),
    }
}

fn verifying(key: Value, origin: Origin) -> Option<Value> {
    let Value::Object(key) = key else { return None };
    if text(&key, "use") == Some("enc") || !is_whole(&key, origin) {
        return None;
    }
    let all = key
        .into_iter()
        .filter(|(name, _)| !PRIVATE.contains(&name.as_str()));
    Some(Value::Object(all.collect::<Map<_, _>>()))
}

fn text<'a>(key: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    key.get(name).and_then(Value::as_str)
}

/// Whether a key has what its type needs (RFC 7518, section 6; RFC 8037), and is for signatures of its type.
fn is_whole(key: &Map<String, Value>, origin: Origin) -> bool {
    let number = |name: &str| {
        let bytes = URL_SAFE_NO_PAD
            .decode(text(key, name)?.trim_end_matches('='))
            .ok()?;
        (!bytes.is_empty()).then_some(bytes)
    };
    let has = |names: &[&str]| names.iter().all(|name| number(name).is_some());
    let signs = |families: &[&str]| {
        text(key, "alg").is_none_or(|alg| families.iter().any(|family| alg.starts_with(family)))
    };
    let curve = |names: &[&str]| text(key, "crv").is_none_or(|name| names.contains(&name));
    match text(key, "kty") {
        Some("RSA") => {
            let exponent = number("e").is_some_and(|e| EXPONENTS.contains(&e.as_slice()));
            has(&["n"]) && exponent && signs(&["RS", "PS"]) && text(key, "alg") != Some("RSA-OAEP")
        }
        Some("EC") => has(&["x", "y"]) && signs(&["ES"]) && curve(&["P-256", "P-384", "P-521"]),
        Some("OKP") => has(&["x"]) && signs(&["EdDSA"]) && text(key, "crv") == Some("Ed25519"),
        Some("oct") => origin == Origin::Inline && has(&["k"]) && signs(&["HS"]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, origin: Origin, expected: Result<&str, &str>) {
        let seen = usable(text.as_bytes(), origin).map_err(|error| error.to_string());
        match (seen, expected) {
            (Ok(seen), Ok(expected)) => assert_eq!(seen, expected),
            (Err(seen), Err(expected)) => assert!(seen.contains(expected), "{text}: {seen}"),
            (seen, expected) => panic!("{text}: {seen:?} {expected:?}"),
        }
    }

    #[test]
    fn only_whole_public_keys_that_sign() {
        use Origin::{Fetched, Inline};
        check(
            r#"{"keys":[{"kty":"EC","x":"AQ","y":"Ag","d":"secret"},{"kty":"oct","k":"c2VjcmV0"},
                {"kty":"RSA","use":"enc","n":"AQ","e":"AQAB"},{"kty":"EC","x":"AQ"},{"kty":"RSA","n":"A","e":"AQAB"},
                {"kty":"RSA","n":"AQ","e":"Ag"},{"kty":"RSA","n":"AQ","e":"AQAB","alg":"RSA-OAEP"},
                {"kty":"EC","crv":"secp256k1","x":"AQ","y":"Ag"}],"z":1}"#,
            Fetched,
            Ok(r#"{"keys":[{"kty":"EC","x":"AQ","y":"Ag"}]}"#),
        );
        check(
            r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#,
            Fetched,
            Err("no key that"),
        );
        check(
            r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#,
            Inline,
            Ok(r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#),
        );
        check(
            r#"{"kty":"OKP","crv":"Ed25519","x":"AQ"}"#,
            Inline,
            Ok(r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQ"}]}"#),
        );
        check(r#"{"keys":[]}"#, Inline, Err("no key that"));
        check(r#"{"error":"x"}"#, Fetched, Err("no JSON Web Key Set"));
        check("null", Fetched, Err("no JSON Web Key Set"));
        check("<html>", Fetched, Err("not JSON"));
        let many = format!(r#"{{"keys":[{}]}}"#, vec![r#"{"kty":"EC"}"#; 101].join(","));
        check(&many, Fetched, Err("101 keys"));
    }
}
