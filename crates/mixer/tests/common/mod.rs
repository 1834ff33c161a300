//! For tests: objects as a state of the feed; identities of a root of their own.
#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up must fail")]

pub(crate) mod attributes;
pub(crate) mod reports;
pub(crate) mod server;

use std::sync::Arc;

use feed::State;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use runtime::tls::TrustBundle;
use runtime::{Identity, Svid, TrustDomain};
use rustls_pki_types::UnixTime;
use zeroize::Zeroizing;

/// The objects of these texts, with which nothing may be wrong.
pub(crate) fn state<'a>(texts: impl IntoIterator<Item = &'a str>) -> Arc<State> {
    let objects = texts.into_iter().flat_map(|text| {
        let parsed = config::parse("test.yaml", text.as_bytes(), "default");
        let errors: Vec<_> = parsed
            .findings
            .iter()
            .filter(|f| f.is_error())
            .map(ToString::to_string)
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        parsed.objects
    });
    Arc::new(State {
        objects: objects.map(|object| (object.key(), Arc::new(object))).collect(),
    })
}

/// A root that signs what it is asked to.
pub(crate) struct Root {
    issuer: Issuer<'static, KeyPair>,
    bundle: Arc<TrustBundle>,
}

impl Root {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        let bundle = TrustBundle::from_pem(TrustDomain::default(), pem.as_bytes()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            bundle: Arc::new(bundle),
        }
    }

    /// The identity of a service account.
    pub(crate) fn identity(&self, namespace: &str, account: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key = Zeroizing::new(key.serialize_der());
        Identity::fixed(
            Svid::new(
                key,
                vec![leaf.der().clone()],
                self.bundle.clone(),
                UnixTime::now(),
            )
            .unwrap(),
        )
    }
}
