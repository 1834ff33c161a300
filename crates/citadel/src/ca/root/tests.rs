//! A root's files, good and bad.

use super::*;
use rcgen::CertificateParams;
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn td() -> TrustDomain {
    TrustDomain::default()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    (dir, ca)
}

#[test]
fn a_root_is_made_once_and_then_used_again() {
    let (_dir, ca) = folder();
    let made = Root::load_or_create(&ca, &td()).unwrap();
    let again = Root::load_or_create(&ca, &td()).unwrap();
    assert!(made.created() && !again.created());
    assert_eq!(made.certificate_pem(), again.certificate_pem());
    let mode = |name: &str| fs::metadata(ca.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(KEY_FILE), mode(".")), (0o600, 0o700));
}

#[test]
fn the_root_is_a_spiffe_signing_certificate() {
    let (_dir, ca) = folder();
    let root = Root::load_or_create(&ca, &td()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&root.certificate).unwrap();
    assert!(parsed.is_ca());
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.key_cert_sign() && !usage.value.digital_signature());
    let san = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(
        san.value.general_names,
        [GeneralName::URI("spiffe://cluster.local")]
    );
}

#[test]
fn first_starts_at_once_make_one_root() {
    let (_dir, ca) = folder();
    let start = || {
        let ca = ca.clone();
        std::thread::spawn(move || Root::load_or_create(&ca, &td()).unwrap())
    };
    let roots: Vec<Root> = (0..8)
        .map(|_| start())
        .collect::<Vec<_>>()
        .into_iter()
        .map(|t| t.join().unwrap())
        .collect();
    assert_eq!(roots.iter().filter(|r| r.created()).count(), 1);
    assert!(
        roots
            .iter()
            .all(|r| r.certificate_pem() == roots[0].certificate_pem())
    );
}

#[test]
fn a_start_that_ended_half_way_is_finished() {
    let (_dir, ca) = folder();
    Root::load_or_create(&ca, &td()).unwrap();
    let key = fs::read(ca.join(KEY_FILE)).unwrap();
    fs::remove_file(ca.join(CERT_FILE)).unwrap();
    assert!(Root::load_or_create(&ca, &td()).unwrap().created());
    assert_eq!(fs::read(ca.join(KEY_FILE)).unwrap(), key);
}

/// What is wrong with the folder, and what the message must have.
fn refused(spoil: impl FnOnce(&Path), expected: &[&str]) {
    let (_dir, ca) = folder();
    Root::load_or_create(&ca, &td()).unwrap();
    spoil(&ca);
    let before: Vec<_> = [KEY_FILE, CERT_FILE]
        .iter()
        .map(|f| fs::read(ca.join(f)).ok())
        .collect();
    let error = Root::load_or_create(&ca, &td()).unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "no {part:?} in: {error}");
    }
    let after: Vec<_> = [KEY_FILE, CERT_FILE]
        .iter()
        .map(|f| fs::read(ca.join(f)).ok())
        .collect();
    assert_eq!(before, after, "files changed");
}

#[test]
fn what_cannot_be_used_is_named_and_left_alone() {
    let other = || {
        let (dir, ca) = folder();
        Root::load_or_create(&ca, &td()).unwrap();
        (dir, ca)
    };
    refused(
        |ca| {
            let (_dir, foreign) = other();
            fs::copy(foreign.join(KEY_FILE), ca.join(KEY_FILE)).unwrap();
        },
        &["root-key.pem is not the key of", "root-cert.pem"],
    );
    refused(
        |ca| fs::remove_file(ca.join(KEY_FILE)).unwrap(),
        &["root-cert.pem is there without root-key.pem"],
    );
    refused(
        |ca| fs::write(ca.join(KEY_FILE), "rubbish").unwrap(),
        &["root-key.pem", "not a private key"],
    );
    refused(
        |ca| fs::write(ca.join(KEY_FILE), "").unwrap(),
        &["root-key.pem", "not a private key"],
    );
    refused(
        |ca| fs::write(ca.join(CERT_FILE), "").unwrap(),
        &["root-cert.pem", "no CERTIFICATE"],
    );
    refused(
        |ca| fs::set_permissions(ca.join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap(),
        &["root-key.pem", "chmod 600"],
    );
    refused(
        |ca| fs::set_permissions(ca, fs::Permissions::from_mode(0o750)).unwrap(),
        &["chmod 700"],
    );
}

#[test]
fn a_leaf_or_another_domains_root_is_no_root() {
    let (_dir, ca) = folder();
    Root::load_or_create(&ca, &td()).unwrap();
    let error = Root::load_or_create(&ca, &TrustDomain::parse("other").unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("spiffe://cluster.local's, the trust domain is other"),
        "{error}"
    );
    let key = KeyPair::from_pem(&fs::read_to_string(ca.join(KEY_FILE)).unwrap()).unwrap();
    let leaf = CertificateParams::default().self_signed(&key).unwrap();
    fs::write(ca.join(CERT_FILE), leaf.pem()).unwrap();
    let error = Root::load_or_create(&ca, &td()).unwrap_err().to_string();
    assert!(error.contains("not a certificate authority's"), "{error}");
}

#[test]
fn an_expired_root_is_named() {
    let (_dir, ca) = folder();
    Root::load_or_create(&ca, &td()).unwrap();
    let key = KeyPair::from_pem(&fs::read_to_string(ca.join(KEY_FILE)).unwrap()).unwrap();
    let old = profile::root(&td(), now() - time::Duration::days(4000))
        .unwrap()
        .self_signed(&key)
        .unwrap();
    fs::write(ca.join(CERT_FILE), old.pem()).unwrap();
    let error = Root::load_or_create(&ca, &td()).unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");
}
