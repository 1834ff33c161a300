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

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use support::{Mesh, eventually, spiffe};

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that nobody listens on now; another process may still take one, which is rare and makes the test fail loudly.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn command(mesh: &Mesh, listen: SocketAddr, admin: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_citadel"));
    command
        .arg("--ca-dir")
        .arg(mesh.path("ca"))
        .arg("--identity")
        .arg(mesh.path("identity.yaml"));
    command.args([
        "--listen",
        &listen.to_string(),
        "--admin-address",
        &admin.to_string(),
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Status and body of a request to the admin server; `None` while nobody answers.
fn ask(admin: SocketAddr, method: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(admin).ok()?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn failure(mut command: Command) -> String {
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_tells_how_it_is_and_ends_on_sigterm() {
    let mesh = Mesh::new();
    let (listen, admin) = (free(), free());
    let mut citadel = Process(command(&mesh, listen, admin).spawn().unwrap());
    eventually("ready", || {
        ask(admin, "GET", "/readyz").is_some_and(|(status, _)| status == 200)
    })
    .await;
    assert_eq!(
        mesh.identity(listen, "shop", "orders").await.id(),
        spiffe("shop", "orders")
    );
    assert_eq!(ask(admin, "GET", "/healthz").unwrap(), (200, "ok\n".into()));
    let metrics = ask(admin, "GET", "/metrics").unwrap().1;
    assert!(
        metrics.contains("\ncitadel_server_success_cert_issuance_count 1\n"),
        "{metrics}"
    );
    let expiry = metrics
        .lines()
        .find_map(|l| l.strip_prefix("citadel_server_root_cert_expiry_timestamp "));
    assert!(expiry.unwrap().parse::<i64>().unwrap() > support::now());
    assert_eq!(ask(admin, "GET", "/logging").unwrap().1, "info\n");
    assert_eq!(
        ask(admin, "PUT", "/logging?level=citadel=debug").unwrap(),
        (200, "citadel=debug\n".into())
    );
    assert_eq!(ask(admin, "PUT", "/logging?level=loud").unwrap().0, 400);
    let pid = citadel.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    let mut ended = None;
    eventually("ended", || {
        ended = citadel.0.try_wait().unwrap();
        ended.is_some()
    })
    .await;
    assert!(ended.unwrap().success());
    let mut log = String::new();
    citadel.0.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(
        log.contains("certificate issued") && log.contains("spiffe://cluster.local/ns/shop/sa/orders"),
        "{log}"
    );
    assert!(
        !log.contains("BEGIN") && !log.contains(&mesh.token("shop", "orders")[..20]),
        "secrets in the log"
    );
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
