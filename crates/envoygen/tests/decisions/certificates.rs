//! Certificates of identities, and tokens.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, string::Ia5String,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: Vec<u8>,
    pub(crate) chain_pem: String,
    pub(crate) key_pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    pub(crate) fn leaf(&self, id: &str) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(id).unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let made = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            chain: vec![made.der().clone()],
            key: key.serialize_der(),
            chain_pem: made.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

impl Leaf {
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }
}

/// What signs tokens.
pub(crate) struct Signer {
    key: EncodingKey,
    /// The public key as a key set, beside one that is broken: Envoy refuses a whole set for it.
    pub(crate) jwks: String,
}

impl Signer {
    pub(crate) fn new() -> Arc<Self> {
        use base64::Engine;
        let key = KeyPair::generate().unwrap();
        let point = key.public_key_raw();
        let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (encode(&point[1..33]), encode(&point[33..65]));
        Arc::new(Self {
            key: EncodingKey::from_ec_der(&key.serialize_der()),
            jwks: format!(
                r#"{{"keys":[{{"kty":"RSA","n":"%","e":"AQAB"}},{{"kty":"EC","crv":"P-256","alg":"ES256","x":"{x}","y":"{y}"}}]}}"#
            ),
        })
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &self.key).unwrap()
    }
}
