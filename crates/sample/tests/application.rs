//! The application as a process: two instances, one calling the other.

#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers may fail loudly, as the test itself"
)]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::{Client, query};
use testkit::net::Block;
use testkit::{Process, Spec};

const BOUND: Duration = Duration::from_secs(60);

struct Pair {
    block: Block,
    client: Client,
    _processes: [Process; 2],
    _logs: tempfile::TempDir,
}

/// `frontend` on .1, dialling `catalog` on .2, as if that were its sidecar.
async fn pair() -> Pair {
    let block = Block::take().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let catalog = instance(&block, logs.path(), "catalog", 2).await;
    let frontend = instance(&block, logs.path(), "frontend", 1).await;
    Pair {
        block,
        client: Client::default(),
        _processes: [frontend, catalog],
        _logs: logs,
    }
}

async fn instance(block: &Block, logs: &Path, name: &str, last: u8) -> Process {
    let mut process = Spec::new(name, env!("CARGO_BIN_EXE_sample"), logs)
        .flag("--name", name)
        .flag("--version", "v7")
        .flag("--http", block.addr(last, 18080))
        .flag("--grpc", block.addr(last, 19090))
        .flag("--dial", format!("http://{}", block.addr(2, 18080)))
        .flag("--dial-grpc", format!("http://{}", block.addr(2, 19090)))
        .start()
        .unwrap();
    let (client, url) = (
        Client::default(),
        format!("http://{}/healthz", block.addr(last, 18080)),
    );
    let look = || {
        let request = client.get(&url).send();
        async { request.await?.expect_status(200).map(drop) }
    };
    process.until("ready", BOUND, look).await.unwrap();
    process
}

impl Pair {
    async fn call(&self, pairs: &[(&str, &str)]) -> Value {
        let url = format!("http://{}/call?{}", self.block.addr(1, 18080), query(pairs));
        self.client
            .get(url)
            .send()
            .await
            .unwrap()
            .expect_status(200)
            .unwrap()
            .json()
            .unwrap()
    }

    async fn ask(&self, path: &str) -> (u16, Value) {
        let answer = self
            .client
            .get(format!("http://{}{path}", self.block.addr(2, 18080)))
            .send()
            .await
            .unwrap();
        (answer.status, answer.json().unwrap_or(Value::Null))
    }
}

#[tokio::test]
async fn a_call_tells_what_the_other_side_saw() {
    let pair = pair().await;
    let seen = pair
        .call(&[
            ("host", "catalog"),
            ("path", "/page?x=1"),
            ("header", "x-user:ann"),
            ("count", "3"),
        ])
        .await;
    assert_eq!(seen["statuses"], json!({"200": 3}));
    assert_eq!(seen["versions"], json!({"v7": 3}));
    let body = &seen["results"][0]["body"];
    assert_eq!(
        (&body["service"], &body["path"], &body["query"]),
        (&json!("catalog"), &json!("/page"), &json!("x=1"))
    );
    assert_eq!(
        (&body["headers"]["x-user"], &body["headers"]["host"]),
        (&json!("ann"), &json!("catalog"))
    );
    assert_eq!(pair.ask("/seen").await.1["paths"], json!({"/page": 3}));
}

#[tokio::test]
async fn failures_are_counted_for_each_id() {
    let pair = pair().await;
    let mut statuses = Vec::new();
    for id in ["a", "a", "b", "a"] {
        statuses.push(pair.ask(&format!("/?fail=2&id={id}")).await.0);
    }
    assert_eq!(statuses, [503, 503, 503, 200]);
    assert_eq!(pair.ask("/?status=418").await.0, 418);
    assert_eq!(pair.ask("/?delay=forever").await.0, 400);
}

#[tokio::test]
async fn grpc_is_called_and_fails_on_its_own_terms() {
    let pair = pair().await;
    let seen = pair
        .call(&[("host", "catalog:7090"), ("grpc", "true"), ("path", "/hello")])
        .await;
    assert_eq!(seen["statuses"], json!({"0": 1}), "{seen}");
    assert_eq!(seen["results"][0]["body"]["message"], json!("/hello"));
    assert_eq!(pair.ask("/seen").await.1["total"], json!(1));
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_an_error_of_the_call() {
    let pair = pair().await;
    let started = std::time::Instant::now();
    let seen = pair
        .call(&[("host", "catalog"), ("path", "/?delay=50s"), ("timeout", "100ms")])
        .await;
    assert_eq!(seen["statuses"], json!({"error": 1}));
    assert!(
        started.elapsed() < Duration::from_secs(45),
        "waited for the answer"
    );
}

#[tokio::test]
async fn a_port_in_use_ends_the_process_with_a_message() {
    let block = Block::take().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let address = block.addr(1, 18080);
    let _taken = std::net::TcpListener::bind(address).unwrap();
    let spec = Spec::new("sample", env!("CARGO_BIN_EXE_sample"), logs.path()).flag("--http", address);
    let mut process = spec.start().unwrap();
    assert!(!process.ended(BOUND).await.unwrap().success());
    assert!(
        process.output().contains(&address.to_string()),
        "{}",
        process.output()
    );
}
