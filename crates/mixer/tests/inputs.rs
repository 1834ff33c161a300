//! The Mixer configurations of the corpus `inputs` run: each file of bookinfo's by itself, and those of Mixer's own tests together,
//! asked as Istio 1.4's proxies asked.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and the cases are files"
)]

#[path = "common/mod.rs"]
mod common;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use common::attributes::Attributes;
use common::server::Server;
use common::state;
use proto::mixer::check_request::QuotaParams;
use proto::mixer::mixer_client::MixerClient;
use proto::mixer::{CheckRequest, ReportRequest};
use testkit::redis::Redis;

/// Who is in the mesh: account, namespace, address and labels.
const WORKLOADS: &str = "
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: gateway, namespace: istio-system}, spec: {address: 127.1.9.1, serviceAccount: ingress, labels: {istio: ingressgateway, app: istio-ingressgateway}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: productpage-v1, namespace: default}, spec: {address: 127.1.9.2, serviceAccount: bookinfo-productpage, labels: {app: productpage, version: v1}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: reviews-v2, namespace: default}, spec: {address: 127.1.9.3, serviceAccount: bookinfo-reviews, labels: {app: reviews, version: v2}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: reviews-v3, namespace: default}, spec: {address: 127.1.9.4, serviceAccount: bookinfo-reviews, labels: {app: reviews, version: v3}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: ratings-v1, namespace: default}, spec: {address: 127.1.9.5, serviceAccount: bookinfo-ratings, labels: {app: ratings, version: v1}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: details-v1, namespace: default}, spec: {address: 127.1.9.6, serviceAccount: bookinfo-details, labels: {app: details, version: v1}}}
";

/// Namespace, account and address.
type Workload = (&'static str, &'static str, Ipv4Addr);

const GATEWAY: Workload = ("istio-system", "ingress", Ipv4Addr::new(127, 1, 9, 1));
const PRODUCTPAGE: Workload = ("default", "bookinfo-productpage", Ipv4Addr::new(127, 1, 9, 2));
const REVIEWS_V2: Workload = ("default", "bookinfo-reviews", Ipv4Addr::new(127, 1, 9, 3));
const REVIEWS_V3: Workload = ("default", "bookinfo-reviews", Ipv4Addr::new(127, 1, 9, 4));
const RATINGS: Workload = ("default", "bookinfo-ratings", Ipv4Addr::new(127, 1, 9, 5));
const DETAILS: Workload = ("default", "bookinfo-details", Ipv4Addr::new(127, 1, 9, 6));

/// A folder of the corpus; none where there is no corpus, but in CI there must be one.
fn folder(name: &str) -> Option<PathBuf> {
    match std::env::var("ARGOSY_SHARED") {
        Ok(shared) => Some(PathBuf::from(shared).join("corpora/inputs").join(name)),
        Err(_) => {
            let needed = "set ARGOSY_SHARED to the folder that holds corpora/inputs";
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must have the corpora: {needed}"
            );
            eprintln!("skipped: {needed}");
            None
        }
    }
}

/// A Mixer with these objects beside the workloads, and what is wrong with them.
async fn mixer(text: &str) -> (Server, Vec<String>) {
    let server = Server::start_with(mixer::Args {
        redis_deadline: Duration::from_secs(20),
        ..mixer::Args::default()
    })
    .await;
    server.mixer.configure(state([text, WORKLOADS]));
    let findings = server.mixer.findings();
    let errors = findings.iter().filter(|finding| finding.is_error());
    let errors = errors.map(ToString::to_string).collect();
    (server, errors)
}

/// A request as the proxy of who is called tells of it; `header` is of it.
fn request(from: Workload, to: Workload, header: (&str, &str)) -> Attributes {
    Attributes::default()
        .ip("source.ip", from.2)
        .ip("destination.ip", to.2)
        .int("destination.port", 9080)
        .text(
            "source.principal",
            &format!("spiffe://cluster.local/ns/{}/sa/{}", from.0, from.1),
        )
        .text("context.reporter.kind", "inbound")
        .text("context.protocol", "http")
        .text("request.method", "GET")
        .text("request.path", "/")
        .map("request.headers", header.0, header.1)
}

/// The code of a check, and what is granted of a unit of the quota, if one is asked for.
async fn ask(server: &Server, to: Workload, request: Attributes, quota: Option<&str>) -> (i32, i64) {
    let one = QuotaParams {
        amount: 1,
        best_effort: false,
    };
    let request = CheckRequest {
        attributes: Some(request.0),
        quotas: quota.map(|quota| (quota.to_owned(), one)).into_iter().collect(),
        ..CheckRequest::default()
    };
    let mut client = MixerClient::new(server.connect(&server.root.identity(to.0, to.1)));
    let answer = client.check(request).await.unwrap().into_inner();
    let granted = answer.quotas.values().map(|result| result.granted_amount).sum();
    (answer.precondition.unwrap().status.unwrap().code, granted)
}

async fn code(server: &Server, from: Workload, to: Workload, user: &str) -> i32 {
    ask(server, to, request(from, to, ("x-user", user)), None).await.0
}

/// How many of so many single units are granted.
async fn granted(server: &Server, from: Workload, to: Workload, quota: &str, asked: usize) -> i64 {
    let mut all = 0;
    for _ in 0..asked {
        all += ask(server, to, request(from, to, ("x-user", "jason")), Some(quota))
            .await
            .1;
    }
    all
}

async fn told(server: &Server, from: Workload, to: Workload) {
    let attributes = request(from, to, ("x-user", "jason")).int("response.code", 200);
    let report = ReportRequest {
        attributes: vec![attributes.0],
        ..ReportRequest::default()
    };
    let mut client = MixerClient::new(server.connect(&server.root.identity(to.0, to.1)));
    client.report(report).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bookinfos_checks_refuse_whom_they_mean() {
    let Some(folder) = folder("bookinfo-mixer-policy") else {
        return;
    };
    let ok = 0;
    type Case = (Workload, Workload, &'static str, i32);
    let by_label: &[Case] = &[
        (REVIEWS_V3, RATINGS, "", 7),
        (REVIEWS_V2, RATINGS, "", ok),
        (REVIEWS_V3, DETAILS, "", ok),
    ];
    let by_ip: &[Case] = &[(GATEWAY, PRODUCTPAGE, "", 5), (PRODUCTPAGE, DETAILS, "", ok)];
    let by_list: &[Case] = &[
        (REVIEWS_V3, RATINGS, "", 5),
        (REVIEWS_V2, RATINGS, "", ok),
        (REVIEWS_V3, DETAILS, "", ok),
    ];
    let cases: [(&str, &[Case]); 9] = [
        ("deny-label", by_label),
        ("deny-label-crd", by_label),
        ("deny-ip", by_ip),
        ("deny-ip-crd", by_ip),
        ("deny-whitelist", by_list),
        ("deny-whitelist-crd", by_list),
        (
            "deny-serviceaccount",
            &[
                (PRODUCTPAGE, DETAILS, "", 7),
                (REVIEWS_V2, DETAILS, "", ok),
                (PRODUCTPAGE, REVIEWS_V2, "", ok),
            ],
        ),
        (
            "ingress-denial",
            &[
                (GATEWAY, PRODUCTPAGE, "john", 7),
                (GATEWAY, PRODUCTPAGE, "jane", ok),
                (PRODUCTPAGE, DETAILS, "john", ok),
            ],
        ),
        (
            "ratings-denial",
            &[
                (REVIEWS_V2, RATINGS, "john", 7),
                (REVIEWS_V2, RATINGS, "jane", ok),
            ],
        ),
    ];
    for (name, cases) in cases {
        let text = std::fs::read_to_string(folder.join(format!("mixer-rule-{name}.yaml"))).unwrap();
        let (server, errors) = mixer(&text).await;
        assert_eq!(errors, [] as [String; 0], "{name}");
        for (from, to, user, expected) in cases {
            let seen = code(&server, *from, *to, user).await;
            assert_eq!(seen, *expected, "{name}: {} to {} as {user:?}", from.1, to.1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bookinfos_quotas_grant_what_they_say() {
    let Some(folder) = folder("bookinfo-mixer-policy") else {
        return;
    };
    let redis = Redis::start().await.unwrap();
    // Who asks whom, how often, and how much of it is granted.
    type Case = (Workload, Workload, usize, i64);
    let cases: [(&str, &str, Case); 7] = [
        (
            "productpage-ratelimit",
            "requestcountquota",
            (GATEWAY, PRODUCTPAGE, 4, 2),
        ),
        (
            "productpage-ratelimit-crd",
            "requestcount",
            (GATEWAY, PRODUCTPAGE, 4, 2),
        ),
        (
            "ratings-ratelimit",
            "requestcountquota",
            (REVIEWS_V2, RATINGS, 3, 1),
        ),
        (
            "productpage-redis-quota-fixed-window",
            "requestcountquota",
            (REVIEWS_V2, PRODUCTPAGE, 3, 1),
        ),
        (
            "productpage-redis-quota-rolling-window",
            "requestcountquota",
            (GATEWAY, PRODUCTPAGE, 4, 2),
        ),
        (
            "ratings-redis-quota-fixed-window",
            "requestcountquota",
            (REVIEWS_V2, RATINGS, 52, 50),
        ),
        (
            "ratings-redis-quota-rolling-window",
            "requestcountquota",
            (REVIEWS_V2, RATINGS, 52, 50),
        ),
    ];
    for (name, quota, (from, to, asked, expected)) in cases {
        let text = std::fs::read_to_string(folder.join(format!("mixer-rule-{name}.yaml"))).unwrap();
        // Redis' clock runs on: the windows are long, so that a slow machine sees no unit come back.
        let text = text
            .replace("redis-release-master:6379", &redis.address().to_string())
            .replace("validDuration: 1s", "validDuration: 1h")
            .replace("validDuration: 30s", "validDuration: 1h")
            .replace("bucketDuration: 500ms", "bucketDuration: 30m")
            .replace("bucketDuration: 9s", "bucketDuration: 30m");
        let (server, errors) = mixer(&text).await;
        assert_eq!(errors, [] as [String; 0], "{name}");
        let seen = granted(&server, from, to, quota, asked).await;
        assert_eq!(seen, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bookinfos_reports_are_counted_and_an_adapter_that_is_missing_is_named() {
    let Some(folder) = folder("bookinfo-mixer-policy") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("mixer-rule-kubernetesenv-telemetry.yaml")).unwrap();
    let (server, errors) = mixer(&text).await;
    assert_eq!(errors, [] as [String; 0]);
    told(&server, REVIEWS_V2, RATINGS).await;
    let page = server.page("istio_kube_request_count{").await;
    for label in [
        r#"source_pod="reviews-v2""#,
        r#"destination_pod="ratings-v1""#,
        r#"response_code="200""#,
    ] {
        assert!(page.contains(label), "{label}: {page}");
    }
    let text = std::fs::read_to_string(folder.join("prometheus-oop-rule.yaml")).unwrap();
    let (_, errors) = mixer(&text).await;
    assert!(
        errors
            .iter()
            .any(|error| error.contains("there is no adapter prometheus-nosession")),
        "{errors:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configurations_of_mixers_own_tests_run_together() {
    let Some(folder) = folder("mixer-config") else {
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let texts: Vec<String> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let (server, errors) = mixer(&texts.join("\n---\n")).await;
    assert_eq!(errors, [] as [String; 0]);
    let denied = request(REVIEWS_V2, RATINGS, ("clnt", "abc"));
    assert_eq!(ask(&server, RATINGS, denied, None).await.0, 7);
    assert_eq!(code(&server, REVIEWS_V3, RATINGS, "jason").await, 5);
    assert_eq!(code(&server, REVIEWS_V2, RATINGS, "jason").await, 0);
    let units = granted(&server, REVIEWS_V2, RATINGS, "requestcount", 3).await;
    assert_eq!(units, 1);
    told(&server, REVIEWS_V2, RATINGS).await;
    let page = server.page("istio_requests_total{").await;
    for label in [
        r#"source_app="reviews""#,
        r#"destination_app="ratings""#,
        r#"response_code="200""#,
    ] {
        assert!(page.contains(label), "{label}: {page}");
    }
}
