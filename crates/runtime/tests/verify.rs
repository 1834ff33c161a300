//! Which certificates are identities: one test for each rule of SPIFFE X.509-SVID and of path validation.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "tests"
)]

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use runtime::TrustDomain;
use runtime::identity::{Svid, SvidError};
use runtime::tls::{BundleError, TrustBundle, Usage, verify_peer};
use rustls::pki_types::{CertificateDer, UnixTime};
use zeroize::Zeroizing;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn root(name: &str) -> Issuer {
    CertifiedIssuer::self_signed(ca_params(name), KeyPair::generate().unwrap()).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

const ID: &str = "spiffe://cluster.local/ns/shop/sa/orders";

fn leaf_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(ID)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2100, 1, 1);
    params
}

fn time() -> UnixTime {
    UnixTime::now()
}

fn bundle(roots: &[&Issuer]) -> TrustBundle {
    TrustBundle::new(TrustDomain::default(), roots.iter().map(|r| r.der().clone())).unwrap()
}

fn sign(issuer: &Issuer, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = leaf_params();
    change(&mut params);
    params
        .signed_by(&KeyPair::generate().unwrap(), issuer)
        .unwrap()
        .der()
        .clone()
}

/// What becomes of a leaf with this change; `Err` has a part of the message.
fn check(change: impl FnOnce(&mut CertificateParams), expected: Result<&str, &str>) {
    let root = root("root");
    let leaf = sign(&root, change);
    let seen = verify_peer(&bundle(&[&root]), &leaf, &[], time(), Usage::Server);
    match (seen, expected) {
        (Ok(peer), Ok(id)) => assert_eq!(peer.spiffe_id.to_string(), id),
        (Err(error), Err(part)) => assert!(error.to_string().contains(part), "no {part:?} in: {error}"),
        (seen, expected) => panic!("expected {expected:?}, seen {seen:?}"),
    }
}

#[test]
fn exactly_one_uri_that_is_a_spiffe_id_with_a_path() {
    check(|_| {}, Ok(ID));
    check(|p| p.subject_alt_names = vec![], Err("0 URI SANs"));
    check(
        |p| p.subject_alt_names.push(uri("spiffe://cluster.local/x")),
        Err("2 URI SANs"),
    );
    check(
        |p| p.subject_alt_names.push(uri("https://example.com")),
        Err("2 URI SANs"),
    );
    check(
        |p| p.subject_alt_names = vec![uri("https://example.com")],
        Err("starts with \"spiffe://\""),
    );
    check(
        |p| p.subject_alt_names = vec![uri("spiffe://cluster.local")],
        Err("names no workload"),
    );
    check(
        |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/a/../b")],
        Err("relative segment"),
    );
    check(
        |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/a%2fb")],
        Err("'%'"),
    );
    // Other kinds of names are allowed and mean nothing (X.509-SVID, section 2).
    check(
        |p| {
            p.subject_alt_names
                .push(SanType::DnsName("orders.shop".try_into().unwrap()))
        },
        Ok(ID),
    );
}

#[test]
fn the_trust_domain_is_the_bundles() {
    let other = "spiffe://other.example/ns/shop/sa/orders";
    check(
        |p| p.subject_alt_names = vec![uri(other)],
        Err("not of the trust domain cluster.local"),
    );
    check(
        |p| p.subject_alt_names = vec![uri("spiffe://cluster.local.evil/x")],
        Err("not of the trust domain"),
    );
}

#[test]
fn a_leaf_cannot_sign_and_must_be_able_to_authenticate() {
    check(
        |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Err("certificate"),
    );
    check(|p| p.is_ca = IsCa::NoCa, Ok(ID));
    check(
        |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign),
        Err("keyCertSign"),
    );
    check(|p| p.key_usages.push(KeyUsagePurpose::CrlSign), Err("cRLSign"));
    check(
        |p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
        Err("digitalSignature"),
    );
    check(|p| p.key_usages = vec![], Err("no key usage"));
    check(|p| p.extended_key_usages = vec![], Ok(ID));
    check(
        |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        Err("chain"),
    );
}

#[test]
fn extended_key_usage_goes_by_the_side() {
    let root = root("root");
    let bundle = bundle(&[&root]);
    let only = |usage| sign(&root, |p| p.extended_key_usages = vec![usage]);
    let holds = |leaf, usage| verify_peer(&bundle, &leaf, &[], time(), usage).is_ok();
    assert!(holds(only(ExtendedKeyUsagePurpose::ServerAuth), Usage::Server));
    assert!(!holds(only(ExtendedKeyUsagePurpose::ServerAuth), Usage::Client));
    assert!(holds(only(ExtendedKeyUsagePurpose::ClientAuth), Usage::Client));
    assert!(!holds(only(ExtendedKeyUsagePurpose::CodeSigning), Usage::Client));
}

#[test]
fn time_is_checked_and_the_clocks_are_named() {
    check(|p| p.not_after = rcgen::date_time_ymd(2001, 1, 1), Err("expired"));
    check(
        |p| p.not_before = rcgen::date_time_ymd(2099, 1, 1),
        Err("check the clocks"),
    );
}

fn revoking(issuer: &Issuer, serials: &[u64]) -> String {
    let revoked = |serial: &u64| rcgen::RevokedCertParams {
        serial_number: (*serial).into(),
        revocation_time: rcgen::date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2100, 1, 1),
        crl_number: 1.into(),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().pem().unwrap()
}

#[test]
fn a_revoked_certificate_is_nobodys() {
    let (root, other, namesake) = (root("root"), root("other"), root("root"));
    let leaf = |serial: u64| sign(&root, |p| p.serial_number = Some(serial.into()));
    let bundle = bundle(&[&root, &other]);
    let verify = |crl: &str, serial| {
        let bundle = bundle.clone().with_revocations(crl, true).unwrap();
        let seen = verify_peer(&bundle, &leaf(serial), &[], time(), Usage::Client);
        seen.map(drop).map_err(|error| error.to_string())
    };
    let list = revoking(&root, &[7]);
    assert!(verify(&list, 7).unwrap_err().contains("revoked by its issuer"));
    assert_eq!(verify(&list, 8), Ok(()));
    assert_eq!(verify("", 7), Ok(()));
    // Another authority's list says nothing of it; one that only has the authority's name is no list.
    assert_eq!(verify(&revoking(&other, &[7]), 7), Ok(()));
    assert!(verify(&revoking(&namesake, &[8]), 9).is_err());
    assert!(matches!(
        bundle
            .clone()
            .with_revocations("-----BEGIN X509 CRL-----\nAA==\n-----END X509 CRL-----\n", true),
        Err(BundleError::Revocation(_))
    ));
}

#[test]
fn a_revoked_intermediate_signs_for_nobody() {
    let root = root("root");
    let mut params = ca_params("middle");
    params.serial_number = Some(5.into());
    let middle = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
    let leaf = sign(&middle, |_| {});
    let verify = |leaf_only| {
        let list = revoking(&root, &[5]);
        let bundle = bundle(&[&root]).with_revocations(&list, leaf_only).unwrap();
        verify_peer(&bundle, &leaf, &[middle.der().clone()], time(), Usage::Server)
    };
    assert!(verify(false).unwrap_err().to_string().contains("revoked"));
    assert!(verify(true).is_ok(), "the list was said to speak of leaves alone");
}

#[test]
fn an_alias_of_the_trust_domain_is_the_same_mesh() {
    let root = root("root");
    let old = sign(&root, |p| {
        p.subject_alt_names = vec![uri("spiffe://old.example/ns/shop/sa/orders")]
    });
    let bundle = bundle(&[&root]);
    let verify = |bundle: &TrustBundle| verify_peer(bundle, &old, &[], time(), Usage::Server);
    assert!(verify(&bundle).is_err());
    let bundle = bundle.with_aliases([TrustDomain::parse("old.example").unwrap()]);
    let peer = verify(&bundle).unwrap();
    assert_eq!(
        peer.spiffe_id.to_string(),
        "spiffe://old.example/ns/shop/sa/orders"
    );
}

#[test]
fn chains_lead_to_a_root_of_the_bundle() {
    let (root, other) = (root("root"), root("other"));
    let middle =
        CertifiedIssuer::signed_by(ca_params("middle"), KeyPair::generate().unwrap(), &root).unwrap();
    let leaf = sign(&middle, |_| {});
    let verify = |bundle: &TrustBundle, chain: &[CertificateDer<'static>]| {
        verify_peer(bundle, &leaf, chain, time(), Usage::Client).map_err(|e| e.to_string())
    };
    assert!(verify(&bundle(&[&root]), &[middle.der().clone()]).is_ok());
    assert!(verify(&bundle(&[&other, &root]), &[middle.der().clone()]).is_ok());
    assert!(
        verify(&bundle(&[&root]), &[])
            .unwrap_err()
            .contains("issued by no root")
    );
    assert!(
        verify(&bundle(&[&other]), &[middle.der().clone()])
            .unwrap_err()
            .contains("issued by no root")
    );
    assert!(
        verify(&bundle(&[]), &[middle.der().clone()]).is_err(),
        "without roots nothing is trusted"
    );
    let long = vec![middle.der().clone(); 9];
    assert!(
        verify(&bundle(&[&root]), &long)
            .unwrap_err()
            .contains("more than 8")
    );
}

#[test]
fn roots_of_the_same_name_are_told_apart() {
    let (old, new, foreign) = (root("root"), root("root"), root("root"));
    let both = bundle(&[&old, &new]);
    for issuer in [&old, &new] {
        assert!(verify_peer(&both, &sign(issuer, |_| {}), &[], time(), Usage::Server).is_ok());
    }
    let error = verify_peer(&both, &sign(&foreign, |_| {}), &[], time(), Usage::Server).unwrap_err();
    assert!(error.to_string().contains("not its key"), "{error}");
}

#[test]
fn a_leaf_cannot_issue() {
    let root = root("root");
    let mut params = leaf_params();
    params.distinguished_name.push(DnType::CommonName, "leaf");
    let leaf = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
    let forged = sign(&leaf, |_| {});
    assert!(
        verify_peer(
            &bundle(&[&root]),
            &forged,
            &[leaf.der().clone()],
            time(),
            Usage::Client
        )
        .is_err()
    );
}

#[test]
fn rubbish_is_refused() {
    let root = root("root");
    let leaf = sign(&root, |_| {});
    for length in 0..leaf.len() {
        let cut = CertificateDer::from(leaf.iter().copied().take(length).collect::<Vec<u8>>());
        assert!(
            verify_peer(&bundle(&[&root]), &cut, &[], time(), Usage::Client).is_err(),
            "{length}"
        );
    }
    for at in 0..leaf.len() {
        let mut bytes = leaf.to_vec();
        *bytes.get_mut(at).unwrap() ^= 0x41;
        let changed = CertificateDer::from(bytes);
        assert!(
            verify_peer(&bundle(&[&root]), &changed, &[], time(), Usage::Client).is_err(),
            "{at}"
        );
    }
}

#[test]
fn bundles_hold_authorities_only() {
    let root = root("root");
    let leaf = sign(&root, |_| {});
    let new =
        |certificates: Vec<CertificateDer<'static>>| TrustBundle::new(TrustDomain::default(), certificates);
    assert!(matches!(
        new(vec![root.der().clone(), leaf]),
        Err(BundleError::NotCa { index: 2, .. })
    ));
    assert!(matches!(
        new(vec![vec![1, 2, 3].into()]),
        Err(BundleError::Certificate { index: 1, .. })
    ));
    assert_eq!(
        new(vec![root.der().clone(), root.der().clone()])
            .unwrap()
            .roots()
            .len(),
        1
    );
    let many = (0..65)
        .map(|n| self::root(&n.to_string()).der().clone())
        .collect();
    assert!(matches!(new(many), Err(BundleError::TooMany)));
    let from_pem = |text: &str| TrustBundle::from_pem(TrustDomain::default(), text.as_bytes());
    assert!(matches!(from_pem(""), Err(BundleError::Empty)));
    assert!(matches!(
        from_pem("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"),
        Err(BundleError::Pem(_))
    ));
    assert_eq!(from_pem(&root.pem()).unwrap().roots(), [root.der().clone()]);
}

#[test]
fn a_key_must_be_its_certificates() {
    let root = root("root");
    let key = KeyPair::generate().unwrap();
    let leaf = leaf_params().signed_by(&key, &root).unwrap();
    let bundle = Arc::new(bundle(&[&root]));
    let svid = |key: &KeyPair| {
        Svid::new(
            Zeroizing::new(key.serialize_der()),
            vec![leaf.der().clone()],
            bundle.clone(),
            time(),
        )
    };
    let good = svid(&key).unwrap();
    assert_eq!(good.id().to_string(), ID);
    assert!(KeyPair::from_pem(&good.key_pem()).is_ok());
    assert!(!format!("{good:?}").contains("key"), "the key is never shown");
    assert!(matches!(
        svid(&KeyPair::generate().unwrap()),
        Err(SvidError::Key(_))
    ));
    assert!(matches!(
        Svid::new(Zeroizing::new(vec![]), vec![], bundle.clone(), time()),
        Err(SvidError::Empty)
    ));
}
