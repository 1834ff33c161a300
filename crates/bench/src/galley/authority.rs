//! A root that signs the certificates of both sides of a measurement.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use runtime::tls::TrustBundle;
use runtime::{Svid, TrustDomain};
use rustls::pki_types::{CertificateDer, UnixTime};
use zeroize::Zeroizing;

/// Files of an identity.
const KEY: &str = "key.der";
const CERTIFICATE: &str = "certificate.der";
const ROOTS: &str = "roots.pem";

/// The root.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    roots: String,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "bench");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let roots = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            roots,
        })
    }

    /// The identity of one of the mesh's services, with DNS names.
    pub(crate) fn svid(&self, service: &str, names: &[&str]) -> anyhow::Result<Svid> {
        let (key, leaf) = self.sign("argosy-system", service, names)?;
        svid(key, leaf, &self.roots)
    }

    /// The identity of a workload's account.
    pub(crate) fn workload(&self, namespace: &str, account: &str) -> anyhow::Result<Svid> {
        let (key, leaf) = self.sign(namespace, account, &[])?;
        svid(key, leaf, &self.roots)
    }

    /// The same, into a folder, for [`load`].
    pub(crate) fn save(&self, service: &str, names: &[&str], folder: &Path) -> anyhow::Result<()> {
        let (key, leaf) = self.sign("argosy-system", service, names)?;
        fs::write(folder.join(KEY), key)?;
        fs::write(folder.join(CERTIFICATE), leaf)?;
        Ok(fs::write(folder.join(ROOTS), &self.roots)?)
    }

    /// Key and certificate.
    fn sign(
        &self,
        namespace: &str,
        account: &str,
        names: &[&str],
    ) -> anyhow::Result<(Vec<u8>, CertificateDer<'static>)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://cluster.local/ns/{namespace}/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        for name in names {
            params
                .subject_alt_names
                .push(SanType::DnsName((*name).try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok((key.serialize_der(), leaf.der().clone()))
    }
}

/// The identity that [`Authority::save`] wrote.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Svid> {
    let read = |name: &str| fs::read(folder.join(name)).with_context(|| format!("no {name}"));
    let roots = String::from_utf8(read(ROOTS)?)?;
    svid(read(KEY)?, CertificateDer::from(read(CERTIFICATE)?), &roots)
}

fn svid(key: Vec<u8>, leaf: CertificateDer<'static>, roots: &str) -> anyhow::Result<Svid> {
    let bundle = TrustBundle::from_pem(TrustDomain::default(), roots.as_bytes())?;
    let bundle = Arc::new(bundle);
    Ok(Svid::new(
        Zeroizing::new(key),
        vec![leaf],
        bundle,
        UnixTime::now(),
    )?)
}
