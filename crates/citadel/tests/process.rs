//! The binary `citadel`: its admin server, its signals, and its errors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod support;

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, ExitStatus, Stdio};

use support::process::{Process, command, free};
use support::{Mesh, eventually, spiffe};

fn terminate(citadel: &Process) {
    let pid = citadel.child.id().to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(status.unwrap().success());
}

async fn end(citadel: &mut Process) -> ExitStatus {
    let mut ended = None;
    eventually("ended", || {
        ended = citadel.child.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    ended.unwrap()
}

fn failure(mut command: Command) -> String {
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_tells_how_it_is_and_ends_on_sigterm() {
    let mesh = Mesh::new();
    let mut citadel = Process::start(|listen, admin| command(&mesh, listen, admin));
    citadel.ready().await;
    assert_eq!(
        mesh.identity(citadel.listen, "shop", "orders").await.id(),
        spiffe("shop", "orders")
    );
    assert_eq!(citadel.ask("GET", "/healthz").unwrap(), (200, "ok\n".into()));
    let metrics = citadel.ask("GET", "/metrics").unwrap().1;
    assert!(
        metrics.contains("\ncitadel_server_success_cert_issuance_count 1\n"),
        "{metrics}"
    );
    let expiry = metrics
        .lines()
        .find_map(|l| l.strip_prefix("citadel_server_root_cert_expiry_timestamp "));
    assert!(expiry.unwrap().parse::<i64>().unwrap() > support::now());
    assert_eq!(
        citadel.ask("GET", "/logging").unwrap().1,
        "kube_runtime=error,info\n"
    );
    assert_eq!(
        citadel.ask("PUT", "/logging?level=citadel=debug").unwrap(),
        (200, "citadel=debug\n".into())
    );
    assert_eq!(citadel.ask("PUT", "/logging?level=loud").unwrap().0, 400);
    terminate(&citadel);
    assert!(end(&mut citadel).await.success());
    let mut log = String::new();
    citadel
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    assert!(
        log.contains("certificate issued") && log.contains("spiffe://cluster.local/ns/shop/sa/orders"),
        "{log}"
    );
    assert!(
        !log.contains("BEGIN") && !log.contains(&mesh.token("shop", "orders")[..20]),
        "secrets in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_serving_for_the_delay_of_its_shutdown() {
    let mesh = Mesh::new();
    let delayed = |delay: &'static str| {
        let mesh = &mesh;
        move |listen, admin| {
            let mut command = command(mesh, listen, admin);
            command.args(["--shutdown-delay", delay]);
            command
        }
    };
    let mut citadel = Process::start(delayed("10m"));
    citadel.ready().await;
    terminate(&citadel);
    eventually("unready", || {
        citadel
            .ask("GET", "/readyz")
            .is_some_and(|(status, _)| status == 503)
    })
    .await;
    let issued = mesh.identity(citadel.listen, "shop", "orders").await;
    assert_eq!(issued.id(), spiffe("shop", "orders"));
    // A second signal is not kept waiting.
    terminate(&citadel);
    assert_eq!(end(&mut citadel).await.code(), Some(130));

    let mut citadel = Process::start(delayed("100ms"));
    citadel.ready().await;
    terminate(&citadel);
    assert!(end(&mut citadel).await.success());
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let mesh = Mesh::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (listen, admin, flag) in [
        (address, free(), "--listen"),
        (free(), address, "--admin-address"),
    ] {
        let error = failure(command(&mesh, listen, admin));
        let last = error.lines().last().unwrap();
        assert!(
            last.starts_with("citadel: cannot listen on ") && last.contains(&address.to_string()),
            "{error}"
        );
        assert!(last.contains(flag) && last.contains("in use"), "{error}");
    }
}

#[tokio::test]
async fn bad_input_is_one_line_that_names_it() {
    let mesh = Mesh::new();
    std::fs::write(mesh.path("identity.yaml"), "trustDomian: x\n").unwrap();
    let error = failure(command(&mesh, free(), free()));
    let last = error.lines().last().unwrap();
    assert!(
        last.starts_with("citadel: --identity: ") && last.contains("trustDomian"),
        "{error}"
    );
    let mut bad = command(&mesh, free(), free());
    bad.args(["--leaf-ttl", "48h"]);
    assert!(failure(bad).contains("from 5s to 24h"));
    let mut help = command(&mesh, free(), free());
    let output = help.arg("--help").stdout(Stdio::piped()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for flag in [
        "--listen",
        "--ca-dir",
        "--identity",
        "--leaf-ttl",
        "--admin-address",
        "--log-level",
        "ARGOSY_CA_DIR",
    ] {
        assert!(text.contains(flag), "no {flag} in\n{text}");
    }
}
