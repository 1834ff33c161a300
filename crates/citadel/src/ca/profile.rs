//! What Citadel's certificates say: the profiles of roots and leaves, by SPIFFE X.509-SVID and RFC 5280.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use runtime::spiffe::{SYSTEM_NAMESPACE, SpiffeId, TrustDomain};
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::X509Certificate;

/// Life of a root that Citadel makes.
const ROOT_LIFE: Duration = Duration::days(3650);
/// A new root is valid from this long ago, for machines whose clocks are behind.
pub(super) const ROOT_BACKDATE: Duration = Duration::hours(1);
/// How the names of roots begin that Citadel makes.
const ROOT_NAME: &str = "Argosy root ";

/// A root, valid from a little before `now`.
pub(super) fn root(
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, trust_domain.as_str());
    // Two roots of one mesh, before and after a rotation, must not share a name: paths are searched by it.
    let serial = serial();
    let mark: String = serial
        .to_bytes()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    name.push(DnType::CommonName, format!("{ROOT_NAME}{mark}"));
    params.distinguished_name = name;
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - ROOT_BACKDATE;
    params.not_after = now + ROOT_LIFE;
    params.serial_number = Some(serial);
    Ok(params)
}

/// Whether a certificate is a root that a Citadel has made.
pub(super) fn is_own(certificate: &X509Certificate<'_>) -> bool {
    let mut names = certificate.subject().iter_common_name();
    names.any(|name| name.as_str().is_ok_and(|name| name.starts_with(ROOT_NAME)))
}

/// The services whose callers know servers by DNS name, not by SPIFFE id: Kubernetes' API server calls webhooks, and Istio's agents
/// the certificate service. Those of a revision are called `SERVICE-REVISION`.
const SERVICES: [&str; 3] = ["citadel", "galley", "injector"];

/// DNS names that go with an identity: for those of the mesh's own services that are called by one, the name of the
/// Kubernetes Service before them. They follow from the identity; no request can ask for a name.
fn dns_names(id: &SpiffeId) -> Result<Vec<SanType>, rcgen::Error> {
    let service = match id.account() {
        Some((SYSTEM_NAMESPACE, account)) if is_called_by_name(account) => account,
        _ => return Ok(Vec::new()),
    };
    let name = format!("{service}.{SYSTEM_NAMESPACE}.svc");
    [name.clone(), format!("{name}.cluster.local")]
        .into_iter()
        .map(|name| Ok(SanType::DnsName(name.try_into()?)))
        .collect()
}

/// Whether an account is that of such a service, or of one of its revisions.
fn is_called_by_name(account: &str) -> bool {
    let of = |service: &&str| {
        let revision = account.strip_prefix(*service);
        revision.is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.starts_with('-')))
    };
    // A Service's name is one DNS label; an account's may have dots.
    SERVICES.iter().any(of) && !account.contains('.')
}

/// A leaf for `id`: one URI SAN, and DNS names: those of [`dns_names`], and `names`. The subject is empty, so the SANs are
/// critical.
pub(super) fn leaf(
    id: &SpiffeId,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    serial: SerialNumber,
    names: &[String],
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    params.subject_alt_names.extend(dns_names(id)?);
    for name in names {
        let name = SanType::DnsName(name.as_str().try_into()?);
        if !params.subject_alt_names.contains(&name) {
            params.subject_alt_names.push(name);
        }
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params.not_before = not_before;
    params.not_after = not_after;
    params.serial_number = Some(serial);
    Ok(params)
}

/// 127 random bits: unpredictable, positive, and within RFC 5280's 20 octets.
pub(super) fn serial() -> SerialNumber {
    let number = rand::random::<u128>() >> 1 | 1 << 120;
    SerialNumber::from(number.to_be_bytes().to_vec())
}

/// How a leaf's serial number begins that says when its holder was last recognised by more than a certificate.
const MARK: [u8; 3] = *b"Arg";

/// A leaf's serial number: 20 octets, of which [`MARK`], four of the time (seconds since 1970), and 104 random bits. So every
/// Citadel of the authority knows that time by the certificate alone, and nobody without the key can change it.
pub(super) fn leaf_serial(proven: i64) -> SerialNumber {
    let seconds = u32::try_from(proven.max(0)).unwrap_or(u32::MAX);
    let random: [u8; 13] = rand::random();
    let number = [&MARK[..], &seconds.to_be_bytes(), &random].concat();
    SerialNumber::from(number)
}

/// The time in the serial number of a leaf; `None` for certificates of other authorities, and of Citadels before there was one.
pub(super) fn proven(serial: &[u8]) -> Option<i64> {
    let (seconds, random) = serial.strip_prefix(&MARK)?.split_first_chunk::<4>()?;
    (random.len() == 13).then(|| u32::from_be_bytes(*seconds).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_meshs_services_have_dns_names() {
        let check = |id: &str, expected: &[&str]| {
            let names = dns_names(&SpiffeId::parse(id).unwrap()).unwrap();
            let names: Vec<&str> = names
                .iter()
                .map(|name| match name {
                    SanType::DnsName(name) => name.as_str(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(names, expected, "{id}");
        };
        check(
            "spiffe://cluster.local/ns/argosy-system/sa/galley",
            &[
                "galley.argosy-system.svc",
                "galley.argosy-system.svc.cluster.local",
            ],
        );
        check(
            "spiffe://cluster.local/ns/argosy-system/sa/injector-canary",
            &[
                "injector-canary.argosy-system.svc",
                "injector-canary.argosy-system.svc.cluster.local",
            ],
        );
        check(
            "spiffe://cluster.local/ns/argosy-system/sa/citadel",
            &[
                "citadel.argosy-system.svc",
                "citadel.argosy-system.svc.cluster.local",
            ],
        );
        for other in ["injector-", "injectors", "injector-a.b", "pilot"] {
            check(
                &format!("spiffe://cluster.local/ns/argosy-system/sa/{other}"),
                &[],
            );
        }
        check("spiffe://cluster.local/ns/shop/sa/galley", &[]);
        check("spiffe://cluster.local/galley", &[]);
    }

    #[test]
    fn a_serial_number_says_when_its_holder_was_recognised() {
        let serial = leaf_serial(1_700_000_000).to_bytes();
        assert_eq!(serial.len(), 20);
        assert_eq!(proven(&serial), Some(1_700_000_000));
        assert_eq!(proven(&leaf_serial(-1).to_bytes()), Some(0));
        for other in [&serial[..19], &serial[1..], &[1; 20], &[], &b"Arg"[..]] {
            assert_eq!(proven(other), None, "{other:?}");
        }
    }
}
