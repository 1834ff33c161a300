//! What Citadel's certificates say: the profiles of roots and leaves, by SPIFFE X.509-SVID and RFC 5280.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use runtime::spiffe::{SpiffeId, TrustDomain};
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

/// A leaf for `id`; the subject is empty, so the one URI SAN is critical.
pub(super) fn leaf(
    id: &SpiffeId,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    serial: SerialNumber,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
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
