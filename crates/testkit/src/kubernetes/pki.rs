//! The certificates of one test's API server.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// Names that the server's certificate bears beside its address.
const SERVER_NAMES: [&str; 3] = ["localhost", "kubernetes.default", "kubernetes.default.svc"];

/// A certificate authority.
pub(super) struct Pki {
    /// Its certificate, PEM.
    pub(super) ca: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
pub(super) struct Pair {
    pub(super) cert: String,
    pub(super) key: String,
}

impl Pki {
    pub(super) fn new() -> anyhow::Result<Self> {
        let mut params = params("argosy-test-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let ca = params.self_signed(&key)?.pem();
        Ok(Self {
            ca,
            issuer: Issuer::new(params, key),
        })
    }

    /// For a server on that address.
    pub(super) fn server(&self, ip: Ipv4Addr) -> anyhow::Result<Pair> {
        let mut params = params("kube-apiserver", None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names.push(SanType::IpAddress(ip.into()));
        for name in SERVER_NAMES {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        self.sign(&params)
    }

    /// For a user and the group that it is in.
    pub(super) fn client(&self, user: &str, group: Option<&str>) -> anyhow::Result<Pair> {
        let mut params = params(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair {
            cert,
            key: key.serialize_pem(),
        })
    }
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key`.
    pub(super) fn write(&self, dir: &Path, name: &str) -> anyhow::Result<()> {
        write(&dir.join(format!("{name}.crt")), &self.cert)?;
        write(&dir.join(format!("{name}.key")), &self.key)
    }
}

/// Writes a file whole: others may be reading the one before.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let whole = || {
        let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.persist(path)?;
        Ok::<_, std::io::Error>(())
    };
    whole().with_context(|| format!("cannot write {}", path.display()))
}

fn params(common_name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::hours(1);
    params.not_after = now + Duration::days(1);
    params
}
