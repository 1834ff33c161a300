//! Key sets as they are served: public keys that sign, and nothing else (RFC 7517).

use serde_json::{Map, Value, json};

/// Most keys in a set.
const MAX_KEYS: usize = 100;
/// Members that are private, or are the key itself (RFC 7518, section 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Why a text is no key set that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    /// It is not JSON.
    #[error("the answer is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// It is something else.
    #[error("the answer is no JSON Web Key Set: it has no list `keys`")]
    NoList,
    /// There is nothing in it that tokens could be verified by.
    #[error("the key set has no public key of type RSA, EC or OKP")]
    Empty,
    /// It is too long.
    #[error("the key set has {0} keys, more than the {MAX_KEYS} allowed")]
    TooMany(usize),
}

/// The keys of a set by which tokens may be verified, as one text.
pub(super) fn usable(text: &[u8]) -> Result<String, KeysError> {
    let mut value: Value = serde_json::from_slice(text)?;
    let Some(Value::Array(keys)) = value.get_mut("keys").map(Value::take) else {
        return Err(KeysError::NoList);
    };
    if keys.len() > MAX_KEYS {
        return Err(KeysError::TooMany(keys.len()));
    }
    let keys: Vec<Value> = keys.into_iter().filter_map(public).collect();
    match keys.is_empty() {
        true => Err(KeysError::Empty),
        false => Ok(json!({ "keys": keys }).to_string()),
    }
}

fn public(key: Value) -> Option<Value> {
    let Value::Object(key) = key else { return None };
    let is = |name: &str, values: &[&str]| {
        let value = key.get(name).and_then(Value::as_str);
        value.is_some_and(|value| values.contains(&value))
    };
    if !is("kty", &["RSA", "EC", "OKP"]) || is("use", &["enc"]) {
        return None;
    }
    let all = key
        .into_iter()
        .filter(|(name, _)| !PRIVATE.contains(&name.as_str()));
    Some(Value::Object(all.collect::<Map<_, _>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let seen = usable(text.as_bytes()).map_err(|error| error.to_string());
        match (seen, expected) {
            (Ok(seen), Ok(expected)) => assert_eq!(seen, expected),
            (Err(seen), Err(expected)) => assert!(seen.contains(expected), "{seen}"),
            (seen, expected) => panic!("{seen:?} {expected:?}"),
        }
    }

    #[test]
    fn only_public_keys_that_sign() {
        check(
            r#"{"keys":[{"kty":"EC","x":"1","d":"secret"},{"kty":"oct","k":"secret"},{"kty":"RSA","use":"enc"}],"z":1}"#,
            Ok(r#"{"keys":[{"kty":"EC","x":"1"}]}"#),
        );
        check(r#"{"keys":[{"kty":"oct","k":"secret"}]}"#, Err("no public key"));
        check(r#"{"keys":[]}"#, Err("no public key"));
        check(r#"{"error":"x"}"#, Err("no JSON Web Key Set"));
        check("null", Err("no JSON Web Key Set"));
        check("<html>", Err("not JSON"));
        let many = format!(r#"{{"keys":[{}]}}"#, vec![r#"{"kty":"EC"}"#; 101].join(","));
        check(&many, Err("101 keys"));
    }
}
