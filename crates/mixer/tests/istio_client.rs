//! Mixer's API called with the messages that Istio 1.4's own Go types make, words by Istio's own dictionary.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and this one starts a client"
)]

#[path = "common/mod.rs"]
mod common;

use std::io::Write as _;
use std::process::{Command, Stdio};

use common::server::{FRONTEND, Server};
use serde_json::{Value, json};
use testkit::Rundir;
use testkit::mixer_client::MixerClient;

/// A client that may not be there: Go builds it. In CI it must be.
fn client() -> Option<MixerClient> {
    match MixerClient::find() {
        Ok(client) => Some(client),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why:#}");
            eprintln!("skipped: {why:#}");
            None
        }
    }
}

/// A request of `user` from the frontend to catalog-v1, as its proxy tells of it.
fn request(path: &str, user: &str) -> Value {
    json!({
        "strings": {
            "context.reporter.kind": "inbound", "context.protocol": "http", "source.principal": FRONTEND,
            "request.host": "catalog:7080", "request.method": "GET", "request.path": path,
        },
        "ints": {"destination.port": 8080},
        "ips": {"source.ip": "127.1.0.10", "destination.ip": "127.1.0.21"},
        "maps": {"request.headers": {"x-user": user}},
    })
}

/// Calls as the catalog's proxy; what was printed.
async fn call(client: &MixerClient, server: &Server, flags: &[&str], sets: &[Value]) -> String {
    let folder = Rundir::new("mixer-client").unwrap();
    let svid = server.root.identity("shop", "catalog").current();
    let files = [
        ("chain", svid.chain_pem()),
        ("key", svid.key_pem().to_string()),
        ("roots", svid.roots_pem()),
    ];
    let mut command = Command::new(&client.binary);
    command
        .args(["-address", &server.address])
        .arg("-dictionary")
        .arg(&client.dictionary)
        .args(flags);
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        command.arg(format!("-{name}")).arg(path);
    }
    let input: String = sets.iter().map(|set| format!("{set}\n")).collect();
    let run = move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn istios_own_types_are_answered() {
    let Some(client) = client() else { return };
    let server = Server::with_sample().await;
    let ask = async |path: &str, user: &str, flags: &[&str]| -> Value {
        let printed = call(&client, &server, flags, &[request(path, user)]).await;
        serde_json::from_str(&printed).unwrap()
    };

    let refused = ask("/items", "mallory", &[]).await;
    let status = &refused["precondition"]["status"];
    assert_eq!(status["code"], 7, "{refused}");
    assert_eq!(
        status["message"],
        "doorman.istio-system:mallory is not welcome here"
    );
    let passed = ask("/items", "jason", &[]).await;
    let precondition = &passed["precondition"];
    assert_eq!(precondition["validUseCount"], 10_000, "{passed}");
    assert!(
        precondition["referencedAttributes"]["attributeMatches"]
            .as_array()
            .unwrap()
            .len()
            > 5
    );

    // The same call again, by its deduplication id, is not charged again.
    for _ in 0..7 {
        let answer = ask("/limited", "jason", &["-quota", "catalogquota"]).await;
        assert_eq!(answer["quotas"]["catalogquota"]["grantedAmount"], "1", "{answer}");
    }

    // The second set says only what differs from the first.
    let mut first = request("/items", "jason");
    first["ints"]["response.code"] = 200.into();
    let second = json!({"ints": {"response.code": 503}});
    call(&client, &server, &["-report"], &[first, second]).await;
    let page = server.page("response_code=\"503\"").await;
    let counted = page
        .lines()
        .filter(|line| line.contains("source_workload=\"frontend-v1\""));
    assert_eq!(
        counted
            .filter(|line| line.starts_with("istio_requests_total"))
            .count(),
        2,
        "{page}"
    );
}
