//! Disks that are full, files that are broken, clocks that are wrong: a clear state each time, and nothing lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod support;

use std::fs;
use std::io::Read;
use std::process::Command;
use std::time::Duration;

use citadel::ca::Authority;
use rcgen::KeyPair;
use runtime::TrustDomain;
use runtime::tls::{Usage, verify_peer};
use rustls_pki_types::UnixTime;
use support::process::{self, Process};
use support::{Mesh, eventually, spiffe};

/// Starts Citadel under a shell that has it ignore the signal that goes with the limit: a write beyond it fails as on a
/// full disk.
fn start(mesh: &Mesh, before: &str) -> Process {
    Process::start(|listen, admin| {
        let mut command = Command::new("bash");
        command
            .arg("-c")
            .arg(format!("trap '' XFSZ; {before} exec \"$0\" \"$@\""));
        command.arg(env!("CARGO_BIN_EXE_citadel"));
        process::flags(&mut command, mesh, listen, admin);
        command
    })
}

fn has(citadel: &Process, line: &str) -> bool {
    let page = citadel.ask("GET", "/metrics");
    page.is_some_and(|(_, text)| text.contains(&format!("\n{line}\n")))
}

/// Lets a Citadel write files of so many bytes.
fn limit(citadel: &Process, bytes: &str) {
    let pid = citadel.child.id().to_string();
    let run = Command::new("prlimit")
        .args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")])
        .status();
    assert!(run.unwrap().success());
}

#[tokio::test]
async fn a_first_start_on_a_full_disk_leaves_nothing_half_made() {
    let mesh = Mesh::new();
    let mut citadel = start(&mesh, "ulimit -S -f 0;");
    let mut log = String::new();
    citadel
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    assert!(!citadel.child.wait().unwrap().success());
    let last = log.lines().last().unwrap();
    assert!(
        last.contains("cannot write") && last.contains("root-key.pem"),
        "{log}"
    );
    assert!(!mesh.path("ca/root-key.pem").exists() && !mesh.path("ca/root-cert.pem").exists());
    start(&mesh, "").ready().await;
    assert!(mesh.path("ca/root-key.pem").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_stops_changes_and_nothing_else() {
    let mesh = Mesh::new();
    let citadel = start(&mesh, "");
    citadel.ready().await;
    mesh.identity(citadel.listen, "shop", "stock").await;
    let files =
        || ["root-key.pem", "root-cert.pem"].map(|name| fs::read(mesh.path("ca").join(name)).unwrap());
    let before = files();
    limit(&citadel, "0");
    let (status, reason) = citadel.ask("PUT", "/ca/rotate").unwrap();
    assert_eq!(status, 500);
    assert!(
        reason.contains("cannot write") && reason.contains("ca/next-key.pem"),
        "{reason}"
    );
    let (_, state) = citadel.ask("GET", "/ca/status").unwrap();
    assert!(state.contains("\"stage\":\"stable\""), "{state}");
    assert_eq!(files(), before);
    // Certificates go on; what cannot be noted now is noted later.
    mesh.identity(citadel.listen, "shop", "orders").await;
    eventually("the journal's trouble told", || {
        has(&citadel, "citadel_journal_stale 1")
    })
    .await;
    limit(&citadel, "unlimited");
    eventually("the journal written", || has(&citadel, "citadel_journal_stale 0")).await;
    drop(citadel);
    let citadel = start(&mesh, "");
    citadel.ready().await;
    for account in ["orders", "stock"] {
        let path = format!("/ca/revoke?identity={}", spiffe("shop", account));
        let (status, state) = citadel.ask("PUT", &path).unwrap();
        assert_eq!(status, 200, "{state}");
    }
    assert_eq!(citadel.ask("PUT", "/ca/rotate").unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_files_are_told_of_and_what_was_loaded_stays_in_force() {
    let mesh = Mesh::new();
    let citadel = start(&mesh, "");
    citadel.ready().await;
    let key = mesh.path("ca/root-key.pem");
    let good = fs::read(&key).unwrap();
    let torn = &good[..good.len() / 2];
    let spoil: [&dyn Fn(); 3] = [
        &|| fs::write(&key, torn).unwrap(),
        &|| fs::write(&key, "").unwrap(),
        // Nobody, root included, can read a folder as a file.
        &|| {
            fs::remove_file(&key).unwrap();
            fs::create_dir(&key).unwrap();
        },
    ];
    for spoil in spoil {
        spoil();
        eventually("told of", || has(&citadel, "citadel_authority_stale 1")).await;
        mesh.identity(citadel.listen, "shop", "orders").await;
        if key.is_dir() {
            fs::remove_dir(&key).unwrap();
        }
        citadel::ca::files::write_atomic(&key, &good, 0o600).unwrap();
        eventually("well again", || has(&citadel, "citadel_authority_stale 0")).await;
    }
    mesh.identity(citadel.listen, "shop", "orders").await;
    drop(citadel);
    fs::write(&key, torn).unwrap();
    let mut citadel = start(&mesh, "");
    let mut log = String::new();
    citadel
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    assert!(
        log.lines()
            .last()
            .unwrap()
            .contains("root-key.pem: not a private key"),
        "{log}"
    );
    assert_eq!(
        fs::read(&key).unwrap(),
        torn,
        "it is left for its owner to look at"
    );
}

#[test]
fn clocks_that_are_wrong_by_two_minutes_do_not_matter_and_by_ten_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(&dir.path().join("ca"), &TrustDomain::default()).unwrap();
    let now = time::OffsetDateTime::now_utc();
    // Citadel's clock is off by `ours`, the verifier's by `theirs`, in seconds.
    let check = |ours: i64, theirs: i64, expected: Result<(), &str>| {
        let id = spiffe("shop", "orders");
        let (hour, key) = (Duration::from_secs(3600), KeyPair::generate().unwrap());
        let leaf = authority
            .issue(&key, &id, hour, now + time::Duration::seconds(ours))
            .unwrap();
        let at = u64::try_from(now.unix_timestamp() + theirs).unwrap();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let seen = verify_peer(authority.bundle(), &leaf.der, &[], at, Usage::Client);
        match (seen, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{ours} {theirs}: {error}"),
            (seen, expected) => panic!("{ours} {theirs}: {seen:?}, expected {expected:?}"),
        }
    };
    for (ours, theirs) in [
        (0, 0),
        (0, -120),
        (120, 0),
        (-120, 0),
        (0, 120),
        (0, 600),
        (-600, 0),
    ] {
        check(ours, theirs, Ok(()));
    }
    check(0, -600, Err("valid only in 480 s; check the clocks"));
    check(600, 0, Err("valid only in 480 s; check the clocks"));
    check(
        0,
        3600 + 600,
        Err("expired 600 s ago; if that is not so, check the clocks"),
    );
}
