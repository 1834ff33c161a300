//! Adapters that decide: denier, list, opa, rbac and the quotas.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code as Limit;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common;
use crate::common::reports::check;
use crate::common::server::{SAMPLE, Server};
use crate::support::{BOUND, mixer, mixer_with, sample};

#[tokio::test]
async fn denier_refuses() {
    let server = mixer(&sample("denier")).await;
    assert_eq!(
        server
            .check("catalog", check("anna"))
            .await
            .unwrap()
            .status
            .unwrap()
            .code,
        0
    );
    let refused = server
        .check("catalog", check("mallory"))
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (7, "deny-all.istio-system:the shop is closed")
    );
}

/// A list that a web server offers.
struct Offered {
    url: String,
    answer: Arc<Mutex<String>>,
}

impl Offered {
    async fn start(list: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/visitors", listener.local_addr().unwrap());
        let offered = Self {
            url,
            answer: Arc::default(),
        };
        offered.offer(list);
        let answer = offered.answer.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let answer = answer.lock().clone();
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        offered
    }

    fn answer(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock());
    }

    fn offer(&self, list: &str) {
        let length = list.len();
        self.answer(&format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{list}"
        ));
    }
}

async fn code(server: &Server, user: &str) -> i32 {
    server
        .check("catalog", check(user))
        .await
        .unwrap()
        .status
        .unwrap()
        .code
}

/// Waits until a user is answered so.
async fn answered(server: &Server, user: &str, expected: i32) {
    let look = || async {
        match code(server, user).await {
            code if code == expected => Ok(()),
            other => Err(other.to_string()),
        }
    };
    testkit::wait::until("the answer", BOUND, look).await.unwrap();
}

#[tokio::test]
async fn list_is_fetched_again_and_the_last_good_one_kept() {
    let offered = Offered::start("# who may\nJason\n").await;
    let server = mixer(&sample("list").replace("http://lists.internal:8080/visitors", &offered.url)).await;
    // The handler's own entry, the fetched one, and one that is neither.
    assert_eq!(
        (code(&server, "anna").await, code(&server, "jason").await),
        (0, 0)
    );
    assert_eq!(code(&server, "mallory").await, 5);
    offered.offer("mallory\n");
    answered(&server, "mallory", 0).await;
    assert_eq!(code(&server, "jason").await, 5);
    // Neither a failure nor a redirect takes the list away or leads elsewhere.
    let elsewhere = Offered::start("jason\n").await;
    offered.answer(&format!(
        "HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        elsewhere.url
    ));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(
        (code(&server, "mallory").await, code(&server, "jason").await),
        (0, 5)
    );
}

#[tokio::test]
async fn a_list_that_was_never_fetched_refuses() {
    let nobody = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{nobody}/");
    let server = mixer(&sample("list").replace("http://lists.internal:8080/visitors", &url)).await;
    let refused = server
        .check("catalog", check("anna"))
        .await
        .unwrap()
        .status
        .unwrap();
    assert_eq!(refused.code, 14);
    assert!(
        refused
            .message
            .starts_with("visitors.istio-system:cannot be asked: "),
        "{refused:?}"
    );
}

#[tokio::test]
async fn opa_decides_and_policies_are_replaced_while_it_runs() {
    let yaml = sample("opa");
    let server = mixer(&yaml).await;
    assert_eq!(
        (code(&server, "jason").await, code(&server, "anna").await),
        (0, 7)
    );
    let state = |yaml: &str| common::state([yaml, SAMPLE[1], SAMPLE[2]]);
    server
        .mixer
        .configure(state(&yaml.replace("== \"jason\"", "== \"anna\"")));
    assert_eq!(
        (code(&server, "jason").await, code(&server, "anna").await),
        (7, 0)
    );
    // Policies that do not compile are told; the former ones stay.
    server
        .mixer
        .configure(state(&yaml.replace("allow = true {", "allow = true {{")));
    let findings = server.mixer.findings();
    assert!(
        findings[0]
            .message
            .contains("policies.istio-system cannot run: policy[0]"),
        "{findings:?}"
    );
    let shown = findings[0].to_string();
    assert!(
        shown.contains("handler istio-system/policies: spec.params: "),
        "{shown}"
    );
    assert_eq!(
        (code(&server, "jason").await, code(&server, "anna").await),
        (7, 0)
    );
}

#[tokio::test]
async fn rbac_decides() {
    let server = mixer(&sample("rbac")).await;
    assert_eq!(
        (code(&server, "jason").await, code(&server, "anna").await),
        (0, 7)
    );
}

#[tokio::test]
async fn memquota_counts_by_dimension_and_override() {
    let server = mixer(&sample("memquota")).await;
    let mut granted = HashMap::new();
    for user in ["jason", "anna"] {
        for _ in 0..10 {
            let refused = code_of_quota(&server, user).await;
            *granted.entry(user).or_insert(0) += i32::from(!refused);
        }
    }
    assert_eq!((granted["jason"], granted["anna"]), (1, 5));
}

/// Whether a request's quota is used up.
async fn code_of_quota(server: &Server, user: &str) -> bool {
    let mut request = common::server::descriptor(user);
    request.descriptors[0].entries[0].value = "limit.istio-system".to_owned();
    let mut client = RateLimitServiceClient::new(server.proxy("catalog"));
    let answer = client.should_rate_limit(request).await.unwrap().into_inner();
    answer.overall_code() == Limit::OverLimit
}

#[tokio::test]
async fn redisquota_counts_in_redis() {
    let redis = testkit::redis::Redis::start().await.unwrap();
    let yaml = sample("redisquota").replace("redis.argosy-system:6379", &redis.address().to_string());
    let args = mixer::Args {
        redis_deadline: Duration::from_secs(20),
        ..mixer::Args::default()
    };
    let server = mixer_with(&yaml.replace("validDuration: 1s", "validDuration: 60s"), args).await;
    assert!(!code_of_quota(&server, "jason").await);
    assert!(code_of_quota(&server, "jason").await);
    assert!(!code_of_quota(&server, "anna").await);
}
