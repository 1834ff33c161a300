//! Kubernetes' Secret without its secrets: which keys it has, and the values that are public.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// What stands for a value that is not kept. It is no base64, so nothing can take it for one.
const WITHHELD: &str = "(withheld)";

/// Keys whose values are certificates and revocation lists, which any client is shown (Istio, credentialName).
const PUBLIC: &[&str] = &[
    "tls.crt",
    "ca.crt",
    "cert",
    "cacert",
    "crl",
    "ca.crl",
    "tls.ocsp-staple",
];

/// core/v1 Secret. Values of other keys than those of certificates are dropped while it is read: an empty one stays
/// empty, any other becomes `(withheld)`. Private keys thus never are in an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// Opaque (when empty), kubernetes.io/tls and so on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub r#type: String,
    /// Values in base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "withhold")]
    pub data: BTreeMap<String, String>,
    /// Values as they are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "withhold")]
    pub string_data: BTreeMap<String, String>,
}

impl Secret {
    /// The names of all keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.data
            .keys()
            .chain(self.string_data.keys())
            .map(String::as_str)
    }

    /// Whether `key` is there with a value.
    pub fn has(&self, key: &str) -> bool {
        [&self.string_data, &self.data]
            .iter()
            .any(|data| data.get(key).is_some_and(|value| !value.is_empty()))
    }
}

fn withhold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut data = BTreeMap::<String, String>::deserialize(deserializer)?;
    for (key, value) in &mut data {
        if !value.is_empty() && !PUBLIC.contains(&key.as_str()) {
            WITHHELD.clone_into(value);
        }
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Object, Spec, decode};

    #[test]
    fn private_values_are_in_no_object() {
        let object = decode(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": "Y2VydA==", "tls.key": "a2V5"}, "stringData": {"password": "hush", "empty": ""},
        }));
        let (object, findings) = object.unwrap();
        assert_eq!(findings, []);
        let Spec::Secret(secret) = &object.spec else {
            panic!("not a Secret")
        };
        assert_eq!(secret.data["tls.crt"], "Y2VydA==");
        assert!(
            secret.has("tls.key") && secret.has("password") && !secret.has("empty") && !secret.has("other")
        );
        let wire = object.to_feed();
        let body = String::from_utf8(wire.body.clone()).unwrap();
        assert!(!body.contains("a2V5") && !body.contains("hush"), "{body}");
        assert_eq!(Object::from_feed(wire), Ok(object));
    }

    #[test]
    fn findings_do_not_show_values() {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"pin": 12345},
        });
        let findings = decode(&secret).unwrap_err();
        let words: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            ["Secret default/x: stringData.pin: must be a text, in quotes"]
        );
    }
}
