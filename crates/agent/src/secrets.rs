//! The two secrets that Envoy asks its agent for, as a table for the discovery server. Pure.

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, TlsCertificate, secret::Type,
    },
};
use prost::Message;
use runtime::Svid;
use xds::{Table, types::SECRET};

/// Name of the workload's certificate and key, as in Istio.
pub const CERTIFICATE: &str = "default";
/// Name of the mesh's roots, as in Istio.
pub const ROOTS: &str = "ROOTCA";

/// Both secrets of an identity.
pub fn table(svid: &Svid) -> Arc<Table> {
    let certificate = Type::TlsCertificate(TlsCertificate {
        certificate_chain: Some(inline(svid.chain_pem().into_bytes())),
        private_key: Some(inline(svid.key_pem().as_bytes().to_vec())),
        ..TlsCertificate::default()
    });
    let roots = Type::ValidationContext(CertificateValidationContext {
        trusted_ca: Some(inline(svid.roots_pem().into_bytes())),
        ..CertificateValidationContext::default()
    });
    let table = Table::builder()
        .add(SECRET, CERTIFICATE, secret(CERTIFICATE, certificate))
        .add(SECRET, ROOTS, secret(ROOTS, roots));
    Arc::new(table.build(None))
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
