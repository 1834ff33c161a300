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
use proto::trust::credential::Result as Outcome;
use runtime::{Svid, tls::TrustBundle};
use xds::{Table, types::SECRET};

use crate::credentials::Held;

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
    for (name, outcome) in held {
        let kind = match outcome {
            Outcome::KeyPair(pair) => key_pair(pair.chain.clone(), &pair.key, &pair.ocsp_staple),
            Outcome::Roots(roots) => validation(roots.certificates.clone(), &roots.crl),
            Outcome::Missing(_) => continue,
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

fn secret(name: &str, kind: Type) -> Bytes {
    Secret {
        name: name.to_owned(),
        r#type: Some(kind),
    }
    .encode_to_vec()
    .into()
}

fn inline(pem: Vec<u8>) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(pem)),
        ..DataSource::default()
    }
}
