//! What Citadel's certificates say: the profiles of roots and leaves, by SPIFFE X.509-SVID and RFC 5280.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use runtime::spiffe::{SYSTEM_NAMESPACE, SpiffeId, TrustDomain};
use time::{Duration, OffsetDateTime};

/// Life of a root that Citadel makes.
const ROOT_LIFE: Duration = Duration::days(3650);
/// A new root is valid from this long ago, for machines whose clocks are behind.
const ROOT_BACKDATE: Duration = Duration::hours(1);

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
    name.push(DnType::CommonName, format!("Argosy root {mark}"));
    params.distinguished_name = name;
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - ROOT_BACKDATE;
    params.not_after = now + ROOT_LIFE;
    params.serial_number = Some(serial);
    Ok(params)
}

/// The services that Kubernetes' API server calls as webhooks: it knows servers by DNS name, not by SPIFFE id. Those of a revision
/// are called `SERVICE-REVISION`.
const WEBHOOKS: [&str; 2] = ["galley", "injector"];

/// DNS names that go with an identity: for those of the mesh's own services that serve webhooks, the name of the
/// Kubernetes Service before them. They follow from the identity; no request can ask for a name.
fn dns_names(id: &SpiffeId) -> Result<Vec<SanType>, rcgen::Error> {
    let service = match id.account() {
        Some((SYSTEM_NAMESPACE, account)) if is_webhook(account) => account,
        _ => return Ok(Vec::new()),
    };
    let name = format!("{service}.{SYSTEM_NAMESPACE}.svc");
    [name.clone(), format!("{name}.cluster.local")]
        .into_iter()
        .map(|name| Ok(SanType::DnsName(name.try_into()?)))
        .collect()
}

/// Whether an account is a webhook's, or that of one of its revisions.
fn is_webhook(account: &str) -> bool {
    let of = |service: &&str| {
        let revision = account.strip_prefix(*service);
        revision.is_some_and(|rest| rest.is_empty() || (rest.len() > 1 && rest.starts_with('-')))
    };
    // A Service's name is one DNS label; an account's may have dots.
    WEBHOOKS.iter().any(of) && !account.contains('.')
}

/// A leaf for `id`: one URI SAN, and DNS names where [`dns_names`] has some. The subject is empty, so the SANs are
/// critical.
pub(super) fn leaf(
    id: &SpiffeId,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    serial: SerialNumber,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    params.subject_alt_names.extend(dns_names(id)?);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_meshs_webhooks_have_dns_names() {
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
        for other in ["injector-", "injectors", "injector-a.b", "pilot"] {
            check(
                &format!("spiffe://cluster.local/ns/argosy-system/sa/{other}"),
                &[],
            );
        }
        check("spiffe://cluster.local/ns/shop/sa/galley", &[]);
        check("spiffe://cluster.local/galley", &[]);
    }
}
