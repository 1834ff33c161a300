//! The secrets that Envoy asks its agent for, as a table for the discovery server. Pure.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, TlsCertificate, secret::Type,
    },
};
use prost::Message;
use runtime::{Svid, tls::TrustBundle};
use xds::{Table, types::SECRET};
use zeroize::{Zeroize, Zeroizing};

use crate::credentials::{Held, Material};

/// Name of the workload's certificate and key, as in Istio.
pub const CERTIFICATE: &str = "default";
/// Name of the mesh's roots, as in Istio.
pub const ROOTS: &str = "ROOTCA";

/// Both secrets of an identity, and the credentials that Citadel gave.
pub fn table(svid: &Svid, held: &Held) -> Arc<Table> {
    let certificate = key_pair(svid.chain_pem(), &svid.key_pem(), &[]);
    let mut table = Table::builder()
        .add(SECRET, CERTIFICATE, secret(CERTIFICATE, certificate))
        .add(SECRET, ROOTS, secret(ROOTS, mesh_roots(svid.bundle())));
    for (name, material) in held {
        let kind = match material {
            Material::KeyPair {
                chain,
                key,
                ocsp_staple,
            } => key_pair(chain.clone(), key, ocsp_staple),
            Material::Roots { certificates, crl } => validation(certificates.clone(), crl),
        };
        table = table.add(SECRET, name.as_str(), secret(name, kind));
    }
    Arc::new(table.build(None))
}

fn key_pair(chain: String, key: &str, ocsp_staple: &[u8]) -> Type {
    Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(inline(chain.into_bytes())),
        private_key: Some(inline(key.as_bytes().to_vec())),
        ocsp_staple: (!ocsp_staple.is_empty()).then(|| inline(ocsp_staple.to_vec())),
        ..TlsCertificate::default()
    })
}

fn mesh_roots(bundle: &TrustBundle) -> Type {
    let kind = validation(bundle.to_pem(), bundle.crl_pem());
    match kind {
        Type::ValidationContext(context) => Type::ValidationContext(CertificateValidationContext {
            only_verify_leaf_cert_crl: bundle.crl_leaf_only(),
            ..context
        }),
        other => other,
    }
}

fn validation(roots: String, crl: &str) -> Type {
    Type::ValidationContext(CertificateValidationContext {
        trusted_ca: Some(inline(roots.into_bytes())),
        crl: (!crl.is_empty()).then(|| inline(crl.as_bytes().to_vec())),
        ..CertificateValidationContext::default()
    })
}

/// The secret as it goes over the wire. It is wiped when the last table drops it, and the key in it now.
fn secret(name: &str, kind: Type) -> Bytes {
    let mut secret = Secret {
        name: name.to_owned(),
        r#type: Some(kind),
    };
    // Its whole length at once: bytes that are moved leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(secret.encoded_len()));
    secret.encode_raw(&mut *bytes);
    if let Some(Type::TlsCertificate(certificate)) = &mut secret.r#type
        && let Some(key) = &mut certificate.private_key
        && let Some(Specifier::InlineBytes(key)) = &mut key.specifier
    {
        key.zeroize();
    }
    Bytes::from_owner(bytes)
}

fn inline(pem: Vec<u8>) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(pem)),
        ..DataSource::default()
    }
}
