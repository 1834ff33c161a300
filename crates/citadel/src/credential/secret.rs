//! A Secret with TLS material, by Kubernetes' and Istio's names for its keys.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runtime::tls::bundle::certificates_to_pem;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::ca;

/// A Secret that has not what is wanted of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// Keys that are not there.
    #[error("has neither {0} nor {1}, or it is empty")]
    NoKey(&'static str, &'static str),
    /// A value that is not what its key says.
    #[error("{key}: {reason}")]
    Value {
        /// The key in the Secret.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key do not belong together.
    #[error("{key} is not the key of the first certificate in {certificate}")]
    WrongPair {
        /// The key with the certificate.
        certificate: &'static str,
        /// The key with the private key.
        key: &'static str,
    },
}

/// What Envoy gets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Material {
    /// Certificate and key.
    KeyPair {
        /// PEM.
        chain: String,
        /// PEM.
        key: Zeroizing<String>,
        /// DER; empty for none.
        ocsp_staple: Vec<u8>,
    },
    /// Roots.
    Roots {
        /// PEM.
        certificates: String,
        /// PEM; empty for none.
        crl: String,
    },
}

impl fmt::Debug for Material {
    /// Never a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyPair { .. } => "KeyPair",
            Self::Roots { .. } => "Roots",
        })
    }
}

/// Keys whose values are kept, by Kubernetes' and Istio's names. Of all others only the names are.
const KEPT: [&str; 10] = [
    "tls.crt",
    "tls.key",
    "cert",
    "key",
    "ca.crt",
    "cacert",
    "ca.crl",
    "crl",
    "tls.ocsp-staple",
    "ocsp-staple",
];

/// A Secret: what credentials are made of, and the names of what else it has. Values are wiped when it is dropped.
pub(crate) struct Secret {
    pub(super) r#type: String,
    pub(super) labels: BTreeMap<String, String>,
    /// The names of all keys that have a value.
    pub(super) keys: BTreeSet<String>,
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Secret {
    /// Never a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(&self.keys).finish()
    }
}

/// A Secret as it is written in YAML. Fields that do not matter here are let through, as `kubectl get -o yaml` prints many.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl TryFrom<Document> for Secret {
    /// The key whose value is not base64.
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for (key, text) in document.data {
            let text = Zeroizing::new(text);
            let compact: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
            let bytes = STANDARD.decode(compact.as_bytes()).map_err(|_| key.clone())?;
            values.insert(key, bytes);
        }
        let plain = document.string_data.into_iter();
        values.extend(plain.map(|(key, text)| (key, text.into_bytes())));
        Ok(Self::new(document.r#type, document.metadata.labels, values))
    }
}

impl Secret {
    /// A Secret of these values. Those that make no credentials are wiped here.
    pub(crate) fn new(
        r#type: String,
        labels: BTreeMap<String, String>,
        values: impl IntoIterator<Item = (String, Vec<u8>)>,
    ) -> Self {
        let (mut keys, mut data) = (BTreeSet::new(), BTreeMap::new());
        for (key, value) in values {
            let value = Zeroizing::new(value);
            if value.is_empty() {
                continue;
            }
            if KEPT.contains(&key.as_str()) {
                data.insert(key.clone(), value);
            }
            keys.insert(key);
        }
        Self {
            r#type,
            labels,
            keys,
            data,
        }
    }

    /// The value of one key, where it is kept.
    pub(super) fn value(&self, key: &str) -> Option<&[u8]> {
        self.data.get(key).map(|value| value.as_slice())
    }

    /// The first of two keys that has a value: that of type `kubernetes.io/tls`, or of a generic Secret.
    fn get(&self, keys: [&'static str; 2]) -> Result<(&'static str, &[u8]), SecretError> {
        let present = |key: &'static str| Some((key, self.value(key)?));
        keys.into_iter()
            .find_map(present)
            .ok_or(SecretError::NoKey(keys[0], keys[1]))
    }

    pub(super) fn key_pair(&self) -> Result<Material, SecretError> {
        let (certificate_name, certificate) = self.get(["tls.crt", "cert"])?;
        let (key_name, key) = self.get(["tls.key", "key"])?;
        let chain = certificates(certificate_name, certificate)?;
        let wrong = |key: &'static str| move |reason: String| SecretError::Value { key, reason };
        if !ca::is_key_of(key, chain.first()).map_err(wrong(key_name))? {
            return Err(SecretError::WrongPair {
                certificate: certificate_name,
                key: key_name,
            });
        }
        let key = String::from_utf8(key.to_vec()).map_err(|_| wrong(key_name)("not PEM".into()))?;
        Ok(Material::KeyPair {
            chain: certificates_to_pem(&chain),
            key: Zeroizing::new(key),
            ocsp_staple: self
                .get(["tls.ocsp-staple", "ocsp-staple"])
                .map_or_else(|_| Vec::new(), |(_, der)| der.to_vec()),
        })
    }

    pub(super) fn roots(&self) -> Result<Material, SecretError> {
        let (name, roots) = self.get(["ca.crt", "cacert"])?;
        let crl = match self.get(["ca.crl", "crl"]) {
            Ok((name, crl)) => revocations(name, crl)?,
            Err(_) => String::new(),
        };
        Ok(Material::Roots {
            certificates: certificates_to_pem(&certificates(name, roots)?),
            crl,
        })
    }
}

pub(super) fn certificates(
    key: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, SecretError> {
    let wrong = |reason: String| SecretError::Value { key, reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found.map_err(|error| wrong(format!("not valid PEM: {error}")))? {
        found if found.is_empty() => Err(wrong("holds no CERTIFICATE block".into())),
        found => Ok(found),
    }
}

fn revocations(key: &'static str, pem: &[u8]) -> Result<String, SecretError> {
    let wrong = |reason: String| SecretError::Value { key, reason };
    for list in CertificateRevocationListDer::pem_slice_iter(pem) {
        list.map_err(|error| wrong(format!("not valid PEM: {error}")))?;
    }
    String::from_utf8(pem.to_vec()).map_err(|_| wrong("not PEM".into()))
}
