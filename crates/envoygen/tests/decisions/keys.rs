//! A server of a Gateway with a certificate for each kind of key (`credentialNames`): clients get the one that they can verify.

use envoy_types::pb::envoy::config::bootstrap::v3::Bootstrap;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, TransportSocket, data_source::Specifier, transport_socket::ConfigType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    DownstreamTlsContext, Secret, TlsCertificate, secret,
};
use envoy_types::util::pack_any;
use prost::Message;
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;

use crate::client;
use crate::mesh::block;
use crate::support::{envoy, generator, tables};

/// A gateway with two certificates for one host.
fn gateway(address: &str) -> String {
    format!(
        r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: edge, namespace: edge}}
spec: {{address: {address}, labels: {{app: edge}}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge, namespace: edge}}
spec:
  selector: {{app: edge}}
  servers:
  - port: {{number: 8443, protocol: HTTPS, name: https}}
    bind: {address}
    hosts: [shop.example]
    tls: {{mode: SIMPLE, credentialNames: [shop-rsa, shop-ecdsa]}}
"#
    )
}

/// A key of a kind with a certificate by itself.
fn certificate(key: &KeyPair) -> (CertificateDer<'static>, TlsCertificate) {
    let params = CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    let made = params.self_signed(key).unwrap();
    let text = |text: String| {
        Some(DataSource {
            specifier: Some(Specifier::InlineString(text)),
            ..Default::default()
        })
    };
    let secret = TlsCertificate {
        certificate_chain: text(made.pem()),
        private_key: text(key.serialize_pem()),
        ..Default::default()
    };
    (made.der().clone(), secret)
}

/// Puts secrets into the bootstrap, where an agent would serve them; gives the names that were asked for.
fn serve(bootstrap: &mut Bootstrap, certificates: &[TlsCertificate]) -> Vec<String> {
    let resources = bootstrap.static_resources.as_mut().unwrap();
    resources
        .listeners
        .retain(|listener| listener.name.ends_with("_8443"));
    let chains = resources
        .listeners
        .iter_mut()
        .flat_map(|listener| &mut listener.filter_chains);
    let mut names = Vec::new();
    for socket in chains.filter_map(|chain| chain.transport_socket.as_mut()) {
        names = without_sds(socket);
    }
    let named = names.iter().zip(certificates).map(|(name, certificate)| Secret {
        name: name.clone(),
        r#type: Some(secret::Type::TlsCertificate(certificate.clone())),
    });
    resources.secrets = named.collect();
    names
}

fn without_sds(socket: &mut TransportSocket) -> Vec<String> {
    let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("{socket:?}")
    };
    let mut context = DownstreamTlsContext::decode(any.value.as_slice()).unwrap();
    let common = context.common_tls_context.as_mut().unwrap();
    let mut names = Vec::new();
    for secret in &mut common.tls_certificate_sds_secret_configs {
        secret.sds_config = None;
        names.push(secret.name.clone());
    }
    socket.config_type = Some(ConfigType::TypedConfig(pack_any(context)));
    names
}

#[test]
fn clients_get_the_certificate_that_they_can_verify() {
    let block = block();
    let address = format!("{block}.1");
    let generator = generator(&[&gateway(&address)]);
    let output = tables(
        &generator,
        &format!("router~{address}~edge.edge~edge.svc.cluster.local"),
    );
    let (rsa, rsa_secret) =
        certificate(&KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap());
    let (ecdsa, ecdsa_secret) = certificate(&KeyPair::generate().unwrap());
    let mut names = Vec::new();
    let edit = |bootstrap: &mut Bootstrap| names = serve(bootstrap, &[rsa_secret, ecdsa_secret]);
    let Some(_running) = envoy::run(&output, &format!("{block}.252:8001"), edit) else {
        return;
    };
    assert_eq!(names, ["kubernetes://shop-rsa", "kubernetes://shop-ecdsa"]);
    let shown = |schemes: &[SignatureScheme]| client::certificate(&format!("{address}:8443"), schemes);
    let (pss, p256) = (
        SignatureScheme::RSA_PSS_SHA256,
        SignatureScheme::ECDSA_NISTP256_SHA256,
    );
    assert_eq!(shown(&[pss]), rsa, "a client that knows RSA alone");
    assert_eq!(shown(&[p256]), ecdsa, "a client that knows ECDSA alone");
    assert_eq!(
        shown(&[p256, pss]),
        ecdsa,
        "a client that knows both gets the smaller"
    );
}
