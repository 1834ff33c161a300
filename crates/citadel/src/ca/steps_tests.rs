//! Every step, interrupted at every point, and what is left then.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rcgen::{KeyPair, PublicKeyData};
use runtime::spiffe::{SpiffeId, TrustDomain};
use runtime::tls::{Usage, verify_peer};
use rustls_pki_types::UnixTime;

use super::super::files::crash_test;
use super::super::revocation::{Entry, Serial};
use super::super::rotation::{Policy, Stage, Step, next, stage};
use super::*;

struct Ground {
    _dir: tempfile::TempDir,
    ca: PathBuf,
    folder: Folder,
}

fn ground() -> Ground {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca");
    let folder = Folder::new(ca.clone(), TrustDomain::default());
    folder.load_or_create().unwrap();
    Ground {
        _dir: dir,
        ca,
        folder,
    }
}

fn id() -> SpiffeId {
    SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/orders").unwrap()
}

/// Takes the step that is due in the far future: each wait is over.
fn step(folder: &Folder) -> Result<Option<Step>, AuthorityError> {
    let policy = Policy {
        leaf_ttl: std::time::Duration::from_secs(10),
        max_age: None,
    };
    let late = now().unix_timestamp() + 1_000_000;
    let step = next(&folder.record()?, folder.next_key(), 0, &policy, late);
    match step {
        Step::Wait(_) => return Ok(None),
        Step::Prepare => folder.prepare(false)?,
        Step::Note => folder.note()?,
        Step::Activate => folder.activate()?,
        Step::Retire => folder.retire()?,
    }
    Ok(Some(step))
}

/// What holds at any time: the folder can be used, what it signs is trusted, and so is what it signed last.
fn sound(folder: &Folder, before: &Authority) -> Authority {
    let authority = folder.load_or_create().unwrap();
    assert!(!authority.created(), "a root was lost");
    let leaf = |signer: &Authority| {
        signer
            .issue(
                &KeyPair::generate().unwrap(),
                &id(),
                std::time::Duration::from_secs(60),
                now(),
            )
            .unwrap()
            .der
    };
    for (signer, bundle) in [
        (&authority, authority.bundle()),
        (&authority, before.bundle()),
        (before, authority.bundle()),
    ] {
        // Roots change by one step at a time, so neighbours trust each other.
        verify_peer(bundle, &leaf(signer), &[], UnixTime::now(), Usage::Client).unwrap();
    }
    authority
}

/// Runs a rotation whose first `interrupted` step ends at point `at`; whether it did.
fn interrupted(index: usize, at: usize) -> bool {
    let ground = ground();
    let folder = &ground.folder;
    folder.prepare(false).unwrap();
    let mut last = folder.load_or_create().unwrap();
    let mut ended = false;
    for number in 0.. {
        crash_test::at((number == index && !ended).then_some(at));
        let result = step(folder);
        crash_test::at(None);
        ended |= result.is_err();
        last = sound(folder, &last);
        if matches!(result, Ok(None)) {
            break;
        }
        assert!(number < 10, "it never ends");
    }
    assert_eq!(last.bundle().roots().len(), 1);
    assert_eq!(stage(&folder.record().unwrap(), folder.next_key()), Stage::Stable);
    let mut left: Vec<String> = fs::read_dir(&ground.ca)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [".lock", "root-cert.pem", "root-key.pem", "rotation.json"],
        "step {index} at {at}"
    );
    ended
}

#[test]
fn a_rotation_survives_a_crash_at_every_point_of_every_step() {
    let mut points = 0;
    for index in 0..2 {
        for at in 0.. {
            if !interrupted(index, at) {
                break;
            }
            points += 1;
        }
    }
    assert!(
        points >= 11,
        "activation and retirement write more often than {points} times"
    );
}

#[test]
fn preparing_survives_a_crash_at_every_point() {
    for at in 0.. {
        let ground = ground();
        let before = ground.folder.load_or_create().unwrap();
        crash_test::at(Some(at));
        let prepared = ground.folder.prepare(false);
        crash_test::at(None);
        sound(&ground.folder, &before);
        if prepared.is_ok() {
            assert!(at >= 6, "a key, roots and a record are written");
            return;
        }
        // What was begun is gone on with, with the same key.
        while step(&ground.folder).unwrap().is_some() {}
        let after = ground.folder.load_or_create().unwrap();
        assert_eq!(after.bundle().roots().len(), 1);
    }
}

#[test]
fn a_first_start_survives_a_crash_at_every_point() {
    for at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("ca"), TrustDomain::default());
        crash_test::at(Some(at));
        let made = folder.load_or_create();
        crash_test::at(None);
        let again = folder.load_or_create().unwrap();
        if let Ok(made) = made {
            assert_eq!(made.certificate(), again.certificate());
            return;
        }
    }
}

#[test]
fn half_written_files_are_cleared_away() {
    let ground = ground();
    let left = ground.ca.join(".new-abcdef");
    fs::write(&left, "half a key").unwrap();
    ground.folder.prepare(false).unwrap();
    assert!(!left.exists());
}

fn revoke(folder: &Folder, serial: &str) -> Result<(), AuthorityError> {
    let entry = Entry {
        revoked: now().unix_timestamp(),
        until: now().unix_timestamp() + 1000,
        identity: None,
    };
    let entries = BTreeMap::from([(Serial::parse(serial).unwrap(), entry)]);
    folder.revoke(|revoked| {
        revoked.add(entries, now().unix_timestamp()).unwrap();
        folder.try_lists(revoked)
    })
}

#[test]
fn revocations_hold_through_a_rotation_for_certificates_of_either_root() {
    let ground = ground();
    let folder = &ground.folder;
    let issue = || {
        let authority = folder.load_or_create().unwrap();
        authority
            .issue(
                &KeyPair::generate().unwrap(),
                &id(),
                std::time::Duration::from_secs(60),
                now(),
            )
            .unwrap()
    };
    let check = |leaf: &super::super::Leaf, expected: Result<(), &str>| {
        let authority = folder.load_or_create().unwrap();
        let seen = verify_peer(authority.bundle(), &leaf.der, &[], UnixTime::now(), Usage::Server);
        match (seen, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (seen, expected) => panic!("{seen:?}, expected {expected:?}"),
        }
    };
    let (old, old_good) = (issue(), issue());
    check(&old, Ok(()));
    revoke(folder, &old.serial).unwrap();
    folder.prepare(false).unwrap();
    check(&old, Err("revoked"));
    check(&old_good, Ok(()));
    step(folder).unwrap();
    let new = issue();
    check(&old, Err("revoked"));
    check(&old_good, Ok(()));
    check(&new, Ok(()));
    // The old root's key is still there to revoke what it signed.
    revoke(folder, &old_good.serial).unwrap();
    revoke(folder, &new.serial).unwrap();
    check(&old_good, Err("revoked"));
    check(&new, Err("revoked"));
    let lists = folder.load_or_create().unwrap().lists().clone();
    assert_eq!(lists.pem.matches("BEGIN X509 CRL").count(), 2, "one of each root");
    assert!(!lists.leaf_only);
    step(folder).unwrap();
    check(&old_good, Err("issued by no root"));
    check(&new, Err("revoked"));
    check(&issue(), Ok(()));
}

#[test]
fn revocations_survive_a_crash_at_every_point() {
    for at in 0.. {
        let ground = ground();
        revoke(&ground.folder, "aa").unwrap();
        crash_test::at(Some(at));
        let result = revoke(&ground.folder, "bb");
        crash_test::at(None);
        let kept = ground.folder.load_or_create().unwrap().revoked().entries.len();
        match result {
            Ok(()) => return assert_eq!(kept, 2),
            Err(_) => assert!(kept == 1 || kept == 2, "{kept}"),
        }
    }
}

#[test]
fn a_broken_record_of_revocations_is_never_taken_for_an_empty_one() {
    let ground = ground();
    fs::write(ground.ca.join(REVOKED_FILE), "{\"number\": 1, \"entr").unwrap();
    let error = ground.folder.load_or_create().unwrap_err().to_string();
    assert!(
        error.contains("revoked.json") && error.contains("put a good copy back"),
        "{error}"
    );
}

#[test]
fn a_tainted_root_leaves_and_everything_is_issued_again() {
    let ground = ground();
    let folder = &ground.folder;
    let other = self::ground();
    let foreign = other.folder.load_or_create().unwrap();
    let mut roots = folder.roots().unwrap().unwrap();
    roots.push(foreign.certificate().clone());
    folder.write_roots(&roots).unwrap();
    folder.taint(&fingerprint(foreign.certificate())).unwrap();
    let record = folder.record().unwrap();
    assert!(record.reissue_before >= now().unix_timestamp() - 5 && record.emergency);
    assert_eq!(step(folder).unwrap(), Some(Step::Retire));
    let after = folder.load_or_create().unwrap();
    assert_eq!(after.bundle().roots(), [roots[0].clone()]);
    assert_eq!(
        folder.record().unwrap().reissue_before,
        record.reissue_before,
        "late comers renew too"
    );
}

#[test]
fn it_is_known_whether_a_root_can_go() {
    let ground = ground();
    let authority = ground.folder.load_or_create().unwrap();
    assert!(!authority.stands_without(&fingerprint(authority.certificate())));
    assert!(authority.stands_without("00"));
    assert_eq!(
        of_key(
            authority.bundle().roots(),
            &ground.folder.key(KEY_FILE).unwrap().unwrap()
        )
        .unwrap(),
        authority.certificate()
    );
    assert!(
        !ground
            .folder
            .key(KEY_FILE)
            .unwrap()
            .unwrap()
            .der_bytes()
            .is_empty()
    );
}
