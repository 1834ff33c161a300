//! A Secret with TLS material, by Kubernetes' and Istio's names for its keys.

use std::collections::BTreeMap;
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

/// A Secret's values. They are wiped when it is dropped.
pub(crate) struct Secret {
    data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Secret {
    /// Never a value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.data.keys()).finish()
    }
}

/// A Secret as it is written in YAML. Fields that do not matter here are let through, as `kubectl get -o yaml` prints many.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) kind: String,
    pub(super) metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
}

impl TryFrom<Document> for Secret {
    /// The key whose value is not base64.
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        let mut data = BTreeMap::new();
        for (key, text) in document.data {
            let text = Zeroizing::new(text);
            let compact: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
            let bytes = STANDARD.decode(compact.as_bytes()).map_err(|_| key.clone())?;
            data.insert(key, Zeroizing::new(bytes));
        }
        let plain = document.string_data.into_iter();
        data.extend(plain.map(|(key, text)| (key, Zeroizing::new(text.into_bytes()))));
        Ok(Self { data })
    }
}

impl Secret {
    /// The first of two keys that has a value: that of type `kubernetes.io/tls`, or of a generic Secret.
    fn get(&self, keys: [&'static str; 2]) -> Result<(&'static str, &[u8]), SecretError> {
        let present = |key: &'static str| {
            let value = self.data.get(key)?;
            (!value.is_empty()).then_some((key, value.as_slice()))
        };
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

fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SecretError> {
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
