//! Identities and a running Galley for tests.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses a part; tests may fail loudly"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use runtime::logging::LogHandle;
use runtime::tls::{self, Expected, TrustBundle};
use runtime::{Context, Identity, SpiffeId, Svid, TrustDomain, grpc};
use rustls::pki_types::UnixTime;
use tonic::transport::Channel;
use zeroize::Zeroizing;

/// How long a condition may take to come about on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// A root that signs what it is asked to.
pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    bundle: Arc<TrustBundle>,
}

impl Root {
    pub fn new() -> Self {
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

    /// The identity of a service account, with DNS names.
    pub fn identity(&self, namespace: &str, account: &str, names: &[&str]) -> Identity {
        Identity::fixed(self.svid(namespace, account, names))
    }

    pub fn svid(&self, namespace: &str, account: &str, names: &[&str]) -> Svid {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let names = names
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names.extend(names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let key = Zeroizing::new(key.serialize_der());
        let chain = vec![leaf.der().clone()];
        Svid::new(key, chain, self.bundle.clone(), UnixTime::now()).unwrap()
    }

    /// A channel to Galley under one of the mesh's own identities.
    pub fn channel(&self, address: SocketAddr, namespace: &str, account: &str) -> Channel {
        let identity = self.identity(namespace, account, &[]);
        let galley = SpiffeId::system(&TrustDomain::default(), "galley").unwrap();
        let connector = tls::connector(&identity, Expected::from(galley)).unwrap();
        grpc::channel(&address.to_string(), Some(connector)).unwrap()
    }
}

/// A context of a process with one service.
pub fn context(service: &'static str) -> Context {
    Context::new(service, LogHandle::detached(), Duration::from_secs(1))
}

/// A port that was free a moment ago.
pub fn address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Tries until there is something, or fails with what `state` shows.
pub async fn eventually<T, F: Future<Output = Result<T, String>>>(mut attempt: impl FnMut() -> F) -> T {
    let end = tokio::time::Instant::now() + LONG;
    loop {
        match attempt().await {
            Ok(found) => return found,
            Err(state) if tokio::time::Instant::now() > end => panic!("{state}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
