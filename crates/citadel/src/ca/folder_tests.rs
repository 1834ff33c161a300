//! A root's files, good and bad.

use super::*;
use rcgen::CertificateParams;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::KeyPair;
use x509_parser::prelude::GeneralName;

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
    let made = Authority::load_or_create(&ca, &td()).unwrap();
    let again = Authority::load_or_create(&ca, &td()).unwrap();
    assert!(made.created() && !again.created());
    assert_eq!(made.certificate_pem(), again.certificate_pem());
    let mode = |name: &str| fs::metadata(ca.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(KEY_FILE), mode(".")), (0o600, 0o700));
}

#[test]
fn the_root_is_a_spiffe_signing_certificate() {
    let (_dir, ca) = folder();
    let root = Authority::load_or_create(&ca, &td()).unwrap();
    let (_, parsed) = X509Certificate::from_der(root.certificate()).unwrap();
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
        std::thread::spawn(move || Authority::load_or_create(&ca, &td()).unwrap())
    };
    let roots: Vec<Authority> = (0..8)
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
    for point in 0.. {
        let (_dir, ca) = folder();
        files::crash_test::at(Some(point));
        let whole = Authority::load_or_create(&ca, &td()).is_ok();
        files::crash_test::at(None);
        let made: Option<Vec<u8>> = [FIRST_KEY_FILE, KEY_FILE]
            .iter()
            .find_map(|name| fs::read(ca.join(name)).ok());
        Authority::load_or_create(&ca, &td()).unwrap();
        assert!(!ca.join(FIRST_KEY_FILE).exists(), "{point}");
        if let Some(made) = made {
            assert_eq!(fs::read(ca.join(KEY_FILE)).unwrap(), made, "{point}");
        }
        if whole {
            assert!(point >= 6, "three files are put in place: {point}");
            return;
        }
    }
}

#[test]
fn what_is_left_of_an_authority_gets_no_new_root() {
    let check = |remains: &str| {
        let (_dir, ca) = folder();
        Authority::load_or_create(&ca, &td()).unwrap();
        for lost in [KEY_FILE, CERT_FILE] {
            fs::rename(ca.join(lost), ca.join(remains)).unwrap();
        }
        let error = Authority::load_or_create(&ca, &td()).unwrap_err().to_string();
        for part in [
            remains,
            "neither root-key.pem nor root-cert.pem",
            "backup",
            "move the whole folder away",
        ] {
            assert!(error.contains(part), "no {part:?} in: {error}");
        }
        assert!(!ca.join(KEY_FILE).exists() && !ca.join(CERT_FILE).exists());
    };
    let notes = [journal::FOLDER, REVOKED_FILE, RECORD_FILE];
    for remains in [NEXT_KEY_FILE, RETIRING_KEY_FILE].into_iter().chain(notes) {
        check(remains);
    }
    // Notes on an authority that was plugged in, in a folder of their own.
    for remains in notes {
        let (dir, ca) = folder();
        plug_in(&ca);
        let state = dir.path().join("state");
        let folder = own(&ca).with_state(Some(state.clone()));
        folder.load_or_create().unwrap();
        fs::write(state.join(remains), "{}").unwrap();
        fs::remove_dir_all(&ca).unwrap();
        let error = folder.load_or_create().unwrap_err().to_string();
        let state = state.display().to_string();
        for part in [
            remains,
            &state,
            "plugged in",
            "put ca-key.pem, ca-cert.pem",
            "back into",
        ] {
            assert!(error.contains(part), "no {part:?} in: {error}");
        }
        assert!(!ca.join(KEY_FILE).exists() && !ca.join(CERT_FILE).exists());
    }
}

/// What is wrong with the folder, and what the message must have.
fn refused(spoil: impl FnOnce(&Path), expected: &[&str]) {
    let (_dir, ca) = folder();
    Authority::load_or_create(&ca, &td()).unwrap();
    spoil(&ca);
    let before: Vec<_> = [KEY_FILE, CERT_FILE]
        .iter()
        .map(|f| fs::read(ca.join(f)).ok())
        .collect();
    let error = Authority::load_or_create(&ca, &td()).unwrap_err().to_string();
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
        Authority::load_or_create(&ca, &td()).unwrap();
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
        &[
            "root-cert.pem is there without root-key.pem",
            "move the whole folder away",
        ],
    );
    refused(
        |ca| fs::remove_file(ca.join(CERT_FILE)).unwrap(),
        &[
            "root-key.pem is there without root-cert.pem",
            "istio-ca-root-cert",
            "move the whole folder away",
        ],
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
    Authority::load_or_create(&ca, &td()).unwrap();
    let error = Authority::load_or_create(&ca, &TrustDomain::parse("other").unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("spiffe://cluster.local's, the trust domain is other"),
        "{error}"
    );
    let key = KeyPair::from_pem(&fs::read_to_string(ca.join(KEY_FILE)).unwrap()).unwrap();
    let leaf = CertificateParams::default().self_signed(&key).unwrap();
    fs::write(ca.join(CERT_FILE), leaf.pem()).unwrap();
    let error = Authority::load_or_create(&ca, &td()).unwrap_err().to_string();
    assert!(error.contains("not a certificate authority's"), "{error}");
}

#[test]
fn an_expired_root_is_named() {
    let (_dir, ca) = folder();
    Authority::load_or_create(&ca, &td()).unwrap();
    let key = KeyPair::from_pem(&fs::read_to_string(ca.join(KEY_FILE)).unwrap()).unwrap();
    let old = profile::root(&td(), now() - time::Duration::days(4000))
        .unwrap()
        .self_signed(&key)
        .unwrap();
    fs::write(ca.join(CERT_FILE), old.pem()).unwrap();
    let error = Authority::load_or_create(&ca, &td()).unwrap_err().to_string();
    assert!(error.contains("expired"), "{error}");
}

fn own(ca: &Path) -> Folder {
    Folder::new(ca.to_owned(), td())
}

fn roots(ca: &Path) -> usize {
    own(ca).load_or_create().unwrap().bundle().roots().len()
}

#[test]
fn a_rotation_trusts_before_it_signs_and_signs_before_it_retires() {
    let (_dir, ca) = folder();
    let first = Authority::load_or_create(&ca, &td()).unwrap();
    let folder = own(&ca);
    folder.prepare(false).unwrap();
    let prepared = folder.load_or_create().unwrap();
    assert_eq!(
        prepared.certificate(),
        first.certificate(),
        "the old root still signs"
    );
    assert_eq!(prepared.bundle().roots().len(), 2);
    folder.activate().unwrap();
    let active = folder.load_or_create().unwrap();
    assert_ne!(active.certificate(), first.certificate());
    assert_eq!(
        active.bundle().roots().first(),
        Some(active.certificate()),
        "its own root first"
    );
    assert!(active.bundle().roots().contains(first.certificate()));
    assert!(!folder.next_key());
    folder.retire().unwrap();
    let last = folder.load_or_create().unwrap();
    assert_eq!(last.certificate(), active.certificate());
    assert_eq!(last.bundle().roots(), [active.certificate().clone()]);
    assert_eq!(folder.record().unwrap(), Record::default());
}

#[test]
fn a_root_that_was_put_there_by_hand_survives_a_rotation() {
    let ((_dir, ca), (_other, foreign)) = (folder(), folder());
    Authority::load_or_create(&ca, &td()).unwrap();
    let other = Authority::load_or_create(&foreign, &td()).unwrap();
    let file = ca.join(CERT_FILE);
    let both = fs::read_to_string(&file).unwrap() + &other.certificate_pem();
    fs::write(&file, both).unwrap();
    let folder = own(&ca);
    folder.prepare(false).unwrap();
    folder.activate().unwrap();
    folder.retire().unwrap();
    let last = folder.load_or_create().unwrap();
    assert_eq!(last.bundle().roots().len(), 2);
    assert!(last.bundle().roots().contains(other.certificate()));
}

/// The files after a step, and after each part of it that a crash can leave.
#[test]
fn a_crash_between_the_writes_of_a_step_is_made_good() {
    let (_dir, ca) = folder();
    Authority::load_or_create(&ca, &td()).unwrap();
    let folder = own(&ca);
    // Only the next key was written.
    folder.prepare(false).unwrap();
    let next = fs::read(ca.join(NEXT_KEY_FILE)).unwrap();
    fs::remove_file(ca.join(RECORD_FILE)).unwrap();
    let old = fs::read(ca.join(KEY_FILE)).unwrap();
    let first = Folder::certificates(&folder, CERT_FILE).unwrap().unwrap()[0].clone();
    folder.write_roots(std::slice::from_ref(&first)).unwrap();
    assert_eq!(roots(&ca), 1);
    folder.note().unwrap();
    assert_eq!(
        (roots(&ca), fs::read(ca.join(NEXT_KEY_FILE)).unwrap()),
        (2, next.clone())
    );
    // Activation was noted and the key not moved.
    folder.activate().unwrap();
    let noted = folder.record().unwrap();
    fs::rename(ca.join(KEY_FILE), ca.join(NEXT_KEY_FILE)).unwrap();
    files::write_atomic(&ca.join(KEY_FILE), &old, 0o600).unwrap();
    assert_eq!(folder.load_or_create().unwrap().certificate(), &first);
    folder.activate().unwrap();
    assert_eq!(
        folder.record().unwrap().retiring,
        noted.retiring,
        "the same root, once"
    );
    assert_eq!(fs::read(ca.join(KEY_FILE)).unwrap(), next);
    // The old root was dropped and the record not.
    folder.retire().unwrap();
    folder.write_record(&noted).unwrap();
    folder.retire().unwrap();
    assert_eq!(roots(&ca), 1);
}

/// A plugged-in authority: a root, an intermediate that it signed, and the intermediate's key.
fn plug_in(ca: &Path) -> CertificateDer<'static> {
    plug_in_with(ca, |_| {})
}

fn plug_in_with(ca: &Path, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let now = now();
    let root_key = KeyPair::generate().unwrap();
    let root_params = profile::root(&td(), now).unwrap();
    let root = root_params.self_signed(&root_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::new(root_params, root_key);
    let mut middle = profile::root(&td(), now).unwrap();
    change(&mut middle);
    let middle = middle.signed_by(&key, &issuer).unwrap();
    files::private_dir(ca).unwrap();
    files::write_atomic(&ca.join(PLUGGED_KEY_FILE), key.serialize_pem().as_bytes(), 0o600).unwrap();
    fs::write(ca.join(PLUGGED_CERT_FILE), middle.pem()).unwrap();
    fs::write(ca.join(PLUGGED_CHAIN_FILE), middle.pem() + &root.pem()).unwrap();
    fs::write(ca.join(CERT_FILE), root.pem()).unwrap();
    middle.der().clone()
}

#[test]
fn an_intermediate_whose_name_constraints_exclude_workloads_is_refused_with_the_reason() {
    let check = |permitted: &[&str], refused: bool| {
        let (_dir, ca) = folder();
        plug_in_with(&ca, |params| {
            params.name_constraints = Some(rcgen::NameConstraints {
                permitted_subtrees: permitted
                    .iter()
                    .map(|name| rcgen::GeneralSubtree::DnsName((*name).to_owned()))
                    .collect(),
                excluded_subtrees: vec![rcgen::GeneralSubtree::DnsName("corp.example".to_owned())],
            });
        });
        let seen = own(&ca).load_or_create().map_err(|error| error.to_string());
        match (&seen, refused) {
            (Ok(_), false) => {}
            (Err(error), true) => assert!(
                error.contains("ca-cert.pem") && error.contains("name constraints"),
                "{error}"
            ),
            _ => panic!("{permitted:?}: {seen:?}"),
        }
    };
    check(&["corp.example"], true);
    // What lets the services' own names pass is supported.
    check(&[], false);
    check(&["svc", "svc.cluster.local"], false);
}

#[test]
fn a_plugged_in_intermediate_signs_and_travels_with_its_leaves() {
    let (_dir, ca) = folder();
    let middle = plug_in(&ca);
    let authority = own(&ca).load_or_create().unwrap();
    assert_eq!(authority.chain(), [middle]);
    assert_eq!(authority.bundle().roots().len(), 1);
    assert!(own(&ca).plugged() && !ca.join(KEY_FILE).exists());
    // A wrong pair, and a root that did not sign.
    let other = tempfile::tempdir().unwrap();
    let foreign = other.path().join("ca");
    plug_in(&foreign);
    let error = |name: &str| {
        let kept = fs::read(ca.join(name)).unwrap();
        fs::copy(foreign.join(name), ca.join(name)).unwrap();
        let error = own(&ca).load_or_create().unwrap_err().to_string();
        fs::write(ca.join(name), kept).unwrap();
        error
    };
    assert!(error(PLUGGED_KEY_FILE).contains("is not the key of"));
    assert!(error(CERT_FILE).contains("would not verify"));
    fs::remove_file(ca.join(PLUGGED_CERT_FILE)).unwrap();
    let missing = own(&ca).load_or_create().unwrap_err().to_string();
    assert!(missing.contains("ca-cert.pem is missing"), "{missing}");
}

#[test]
fn the_folders_number_changes_with_each_of_its_files() {
    let (_dir, ca) = folder();
    plug_in(&ca);
    let mut numbers = vec![own(&ca).seen()];
    for name in [
        PLUGGED_KEY_FILE,
        PLUGGED_CERT_FILE,
        PLUGGED_CHAIN_FILE,
        CERT_FILE,
        RECORD_FILE,
    ] {
        fs::write(ca.join(name), name).unwrap();
        numbers.push(own(&ca).seen());
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 6);
}

/// Runs openssl in a folder; `None` where there is none (not in CI).
fn openssl(dir: &Path, args: &[&str]) -> Option<()> {
    let output = std::process::Command::new("openssl")
        .args(args)
        .current_dir(dir)
        .output();
    match output {
        Ok(output) => assert!(output.status.success(), "{args:?}: {output:?}"),
        Err(error) if std::env::var_os("CI").is_some() => panic!("openssl: {error}"),
        Err(_) => return None,
    }
    Some(())
}

/// A root and its key as openssl makes them, plugged in; `None` where there is no openssl (not in CI).
fn openssl_root(ca: &Path, key: &[&str]) -> Option<()> {
    let run = |args: &[&str]| openssl(ca, args);
    files::private_dir(ca).unwrap();
    let config = "[req]\ndistinguished_name=dn\nx509_extensions=v3\n[dn]\n[v3]\nbasicConstraints=critical,CA:TRUE\n\
                  keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n";
    fs::write(ca.join("req.cnf"), config).unwrap();
    run(key)?;
    let request = [
        "req",
        "-x509",
        "-new",
        "-config",
        "req.cnf",
        "-key",
        PLUGGED_KEY_FILE,
        "-subj",
        "/O=ours/CN=root",
    ];
    run(&[&request[..], &["-days", "10", "-out", PLUGGED_CERT_FILE]].concat())?;
    fs::copy(ca.join(PLUGGED_CERT_FILE), ca.join(CERT_FILE)).unwrap();
    fs::set_permissions(ca.join(PLUGGED_KEY_FILE), fs::Permissions::from_mode(0o600)).unwrap();
    Some(())
}

#[test]
fn keys_of_every_kind_that_openssl_writes_sign_leaves_and_lists() {
    let out = ["-out", PLUGGED_KEY_FILE];
    for (label, key) in [
        (
            "EC PRIVATE KEY",
            vec!["ecparam", "-name", "prime256v1", "-genkey", "-noout"],
        ),
        (
            "EC PRIVATE KEY",
            vec!["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
        ),
        (
            "EC PRIVATE KEY",
            vec!["ecparam", "-name", "secp521r1", "-genkey", "-noout"],
        ),
        (
            "-----BEGIN PRIVATE KEY",
            vec![
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-384",
            ],
        ),
        (
            "-----BEGIN PRIVATE KEY",
            vec!["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        ),
        ("RSA PRIVATE KEY", vec!["genrsa", "-traditional"]),
    ] {
        let (_dir, ca) = folder();
        let (first, rest) = key.split_at(1);
        if openssl_root(&ca, &[first, &out[..], rest].concat()).is_none() {
            return;
        }
        let text = fs::read_to_string(ca.join(PLUGGED_KEY_FILE)).unwrap();
        assert!(text.contains(label), "{key:?}");
        let mut revoked = Revoked::default();
        let entry = super::super::Entry {
            revoked: 1,
            until: now().unix_timestamp() + 1000,
            identity: None,
        };
        revoked
            .add(
                [(super::super::Serial::parse("aa").unwrap(), entry)].into(),
                now().unix_timestamp(),
            )
            .unwrap();
        own(&ca)
            .revoke(|kept| {
                *kept = revoked;
                Ok::<_, AuthorityError>(())
            })
            .unwrap();
        let authority = own(&ca).load_or_create();
        let authority = authority.unwrap_or_else(|error| panic!("{key:?}: {error}"));
        // openssl, whose rules are Envoy's, takes the list for this root's.
        let id = runtime::SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/orders").unwrap();
        let minute = std::time::Duration::from_secs(60);
        let leaf = authority
            .issue(&KeyPair::generate().unwrap(), &id, minute, now())
            .unwrap();
        fs::write(ca.join("leaf.pem"), certificates_to_pem(&[leaf.der])).unwrap();
        fs::write(ca.join("list.pem"), &authority.lists().pem).unwrap();
        let verify = [
            "verify",
            "-crl_check_all",
            "-CAfile",
            CERT_FILE,
            "-CRLfile",
            "list.pem",
            "leaf.pem",
        ];
        openssl(&ca, &verify).unwrap();
        assert!(!authority.created() && authority.chain().is_empty(), "{key:?}");
    }
}
