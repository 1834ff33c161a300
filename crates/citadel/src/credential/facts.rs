//! What may be known of a Secret without its keys: type, names of keys, and what certificates say of themselves. It is an
//! object of the feed, kind `SecretFacts`, for Galley's analysis. Pure.

use proto::feed;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::secret::{self, SecretError};
use super::{Key, Secret};

/// `apiVersion` of the objects.
const API_VERSION: &str = "security.argosy.io/v1alpha1";
/// Their kind.
const KIND: &str = "SecretFacts";
/// The feed's type URL of their kind.
pub(super) const TYPE_URL: &str = "security.argosy.io/v1alpha1/SecretFacts";
/// Keys with certificates. Those of servers come with a key.
const CERTIFICATES: [&str; 4] = ["tls.crt", "cert", "ca.crt", "cacert"];
/// Most names of keys that are told of a Secret.
const MAX_KEYS: usize = 256;
/// Most certificates that are told of one key: a bundle of all public roots has fewer.
const MAX_CERTIFICATES: usize = 256;
/// Most names that are told of a certificate.
const MAX_NAMES: usize = 256;

/// The object's body, in the form of the kind's schema.
#[derive(Serialize)]
struct Body {
    spec: Facts,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts {
    r#type: String,
    keys: Vec<String>,
    certificates: Vec<Certificate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_matches: Option<bool>,
    problems: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    key: &'static str,
    subject: String,
    issuer: String,
    serial: String,
    dns_names: Vec<String>,
    ip_addresses: Vec<String>,
    uris: Vec<String>,
    not_before: i64,
    not_after: i64,
    is_ca: bool,
}

/// The resource's name and the object, which has nothing in it that TLS would not show to any client.
pub(super) fn object(key: &Key, secret: &Secret) -> (String, feed::Object) {
    let body = Body { spec: facts(secret) };
    let object = feed::Object {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        labels: secret.labels.clone(),
        // Texts, numbers and lists of them always are JSON.
        body: serde_json::to_vec(&body).unwrap_or_default(),
        ..feed::Object::default()
    };
    (format!("{}/{}", key.namespace, key.name), object)
}

fn facts(secret: &Secret) -> Facts {
    let mut facts = Facts {
        r#type: secret.r#type.clone(),
        keys: secret.keys.iter().take(MAX_KEYS).cloned().collect(),
        ..Facts::default()
    };
    for key in CERTIFICATES {
        let Some(pem) = secret.value(key) else {
            continue;
        };
        match secret::certificates(key, pem) {
            Ok(found) => facts.add(key, &found),
            Err(SecretError::Value { key, reason }) => facts.problems.push(format!("{key}: {reason}")),
            Err(other) => facts.problems.push(other.to_string()),
        }
    }
    facts.judge(secret);
    facts
}

impl Facts {
    fn add(&mut self, key: &'static str, found: &[CertificateDer<'_>]) {
        for der in found.iter().take(MAX_CERTIFICATES) {
            match X509Certificate::from_der(der) {
                Ok((_, certificate)) => self.certificates.push(describe(key, &certificate)),
                Err(_) => self
                    .problems
                    .push(format!("{key}: holds something that is not a certificate")),
            }
        }
    }

    /// Whether certificate and key belong together, for the pair that a server would take.
    fn judge(&mut self, secret: &Secret) {
        match secret.key_pair() {
            Ok(_) => self.key_matches = Some(true),
            Err(SecretError::WrongPair { .. }) => self.key_matches = Some(false),
            Err(SecretError::NoKey(..)) => {}
            Err(SecretError::Value { key, reason }) => {
                let problem = format!("{key}: {reason}");
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
            }
        }
    }
}

fn describe(key: &'static str, certificate: &X509Certificate<'_>) -> Certificate {
    let validity = certificate.validity();
    let mut described = Certificate {
        key,
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: certificate.raw_serial_as_string().replace(':', ""),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        is_ca: certificate.is_ca(),
        ..Certificate::default()
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    for name in names.take(MAX_NAMES) {
        match name {
            GeneralName::DNSName(name) => described.dns_names.push((*name).to_owned()),
            GeneralName::URI(uri) => described.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => described.ip_addresses.extend(ip(bytes)),
            _ => {}
        }
    }
    described
}

fn ip(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    let six = || <[u8; 16]>::try_from(bytes).map(|bytes| std::net::IpAddr::from(bytes).to_string());
    four.or_else(|_| six()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};
    use serde_json::Value;

    fn secret(values: &[(&str, &str)]) -> Secret {
        let values = values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()));
        Secret::new("kubernetes.io/tls".to_owned(), Default::default(), values)
    }

    fn shown(secret: &Secret) -> Value {
        let key = Key {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
        };
        let (name, object) = object(&key, secret);
        assert_eq!(name, "shop/web");
        let text = String::from_utf8(object.body).unwrap();
        for hidden in ["PRIVATE KEY", "hush"] {
            assert!(!text.contains(hidden), "{text}");
        }
        serde_json::from_str::<Value>(&text).unwrap()["spec"].clone()
    }

    #[test]
    fn certificates_are_described_and_nothing_secret_is() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["web.example".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::IpAddress([192, 0, 2, 1].into()));
        params.not_before = time::macros::datetime!(2026-01-01 0:00 UTC);
        params.not_after = time::macros::datetime!(2027-01-01 0:00 UTC);
        let pem = params.self_signed(&key).unwrap().pem();
        let facts = shown(&secret(&[
            ("tls.crt", &pem),
            ("tls.key", &key.serialize_pem()),
            ("password", "hush"),
            ("empty", ""),
        ]));
        assert_eq!(
            facts["keys"],
            serde_json::json!(["password", "tls.crt", "tls.key"])
        );
        assert_eq!(facts["keyMatches"], true);
        let certificate = &facts["certificates"][0];
        assert_eq!(certificate["key"], "tls.crt");
        assert_eq!(certificate["dnsNames"], serde_json::json!(["web.example"]));
        assert_eq!(certificate["ipAddresses"], serde_json::json!(["192.0.2.1"]));
        assert_eq!(certificate["notBefore"], 1_767_225_600);
        assert_eq!(certificate["notAfter"], 1_798_761_600);
        assert_eq!(facts["problems"], serde_json::json!([]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let (one, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let pem = CertificateParams::new(["a".to_owned()])
            .unwrap()
            .self_signed(&one)
            .unwrap()
            .pem();
        let wrong = shown(&secret(&[("tls.crt", &pem), ("tls.key", &other.serialize_pem())]));
        assert_eq!(wrong["keyMatches"], false);
        let broken = shown(&secret(&[("tls.crt", "hush"), ("tls.key", "hush")]));
        assert_eq!(
            broken["problems"],
            serde_json::json!(["tls.crt: holds no CERTIFICATE block"])
        );
        let alone = shown(&secret(&[("tls.crt", &pem)]));
        assert_eq!(alone["keyMatches"], Value::Null);
    }
}
