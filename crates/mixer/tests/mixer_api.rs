//! Istio's Mixer API on loopback over mutual TLS, called as Istio 1.4's proxies called it, with the sample mesh as
//! configuration.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;

use common::attributes::Attributes;
use common::server::{FRONTEND, SAMPLE, Server};
use common::state;
use proto::mixer::check_request::QuotaParams;
use proto::mixer::mixer_client::MixerClient;
use proto::mixer::referenced_attributes::Condition;
use proto::mixer::report_request::RepeatedAttributesSemantics;
use proto::mixer::{CheckRequest, CheckResponse, ReferencedAttributes, ReportRequest, StringMap};
use tonic::{Code, Status};

/// Words of the global dictionary, by their places in Istio's table.
const DESTINATION_IP: i32 = 150;
const SOURCE_IP: i32 = 0;
const REQUEST_HEADERS: i32 = 15;
const REQUEST_PATH: i32 = 17;
const REQUEST_METHOD: i32 = 19;
const GET: i32 = 90;

/// A request of `user` from the frontend to catalog-v1, as its proxy tells of it.
fn request(path: &str, user: &str) -> Attributes {
    let mut attributes = Attributes::default();
    let (path, header, user) = (
        attributes.word(path),
        attributes.word("x-user"),
        attributes.word(user),
    );
    attributes.0.strings = [(REQUEST_METHOD, GET), (REQUEST_PATH, path)].into();
    attributes.0.bytes = [
        (SOURCE_IP, vec![127, 1, 0, 10]),
        (DESTINATION_IP, vec![127, 1, 0, 21]),
    ]
    .into();
    let entries = [(header, user)].into();
    attributes.0.string_maps = [(REQUEST_HEADERS, StringMap { entries })].into();
    attributes
        .text("context.reporter.kind", "inbound")
        .text("context.protocol", "http")
        .text("source.principal", FRONTEND)
        .text("request.host", "catalog:7080")
        .int("destination.port", 8080)
}

fn check(attributes: Attributes) -> CheckRequest {
    CheckRequest {
        attributes: Some(attributes.0),
        global_word_count: 150,
        ..CheckRequest::default()
    }
}

async fn ask(server: &Server, account: &str, request: CheckRequest) -> Result<CheckResponse, Status> {
    let mut client = MixerClient::new(server.proxy(account));
    client.check(request).await.map(tonic::Response::into_inner)
}

/// What an answer depends on, as text; `-` before what was absent.
fn references(of: &ReferencedAttributes) -> Vec<String> {
    // The words before 150 that the sample's rules read.
    let global: BTreeMap<i32, &str> = [
        (REQUEST_HEADERS, "request.headers"),
        (REQUEST_PATH, "request.path"),
        (SOURCE_IP, "source.ip"),
        (3, "source.uid"),
        (6, "source.user"),
        (18, "request.host"),
    ]
    .into();
    let word = |index: i32| match usize::try_from(-i64::from(index) - 1) {
        Ok(slot) => of.words[slot].clone(),
        Err(_) => global[&index].to_owned(),
    };
    let shown = of.attribute_matches.iter().map(|one| {
        let sign = match one.condition() {
            Condition::Absence => "-",
            Condition::Exact => "",
            other => panic!("{other:?}"),
        };
        match one.map_key {
            0 => format!("{sign}{}", word(one.name)),
            key => format!("{sign}{}[{}]", word(one.name), word(key)),
        }
    });
    shown.collect()
}

#[tokio::test]
async fn a_check_is_refused_with_what_the_answer_depends_on() {
    let server = Server::with_sample().await;
    let refused = ask(&server, "catalog", check(request("/catalog/1", "mallory")))
        .await
        .unwrap();
    let precondition = refused.precondition.unwrap();
    let status = precondition.status.unwrap();
    assert_eq!(status.code, 7);
    assert_eq!(status.message, "doorman.istio-system:mallory is not welcome here");
    assert_eq!(
        (
            precondition.valid_duration.unwrap().seconds,
            precondition.valid_use_count
        ),
        (5, 1_000)
    );
    let depends = references(&precondition.referenced_attributes.unwrap());
    for expected in [
        "request.headers[x-user]",
        "source.ip",
        "destination.ip",
        "-source.uid",
    ] {
        assert!(
            depends.iter().any(|one| one == expected),
            "{expected}: {depends:?}"
        );
    }

    let passed = ask(&server, "catalog", check(request("/catalog/1", "jason")))
        .await
        .unwrap();
    let precondition = passed.precondition.unwrap();
    assert_eq!(precondition.status.unwrap().code, 0);
    assert_eq!(
        (
            precondition.valid_duration.unwrap().seconds,
            precondition.valid_use_count
        ),
        (60, 10_000)
    );
}

#[tokio::test]
async fn a_caller_is_who_its_certificate_says() {
    let server = Server::with_sample().await;
    // The frontend's proxy cannot ask as the catalog's, whatever its message says of itself.
    let forged = request("/catalog/1", "mallory").text("destination.uid", "kubernetes://catalog-v1.shop");
    let asked = ask(&server, "frontend", check(forged)).await.unwrap();
    assert_eq!(asked.precondition.unwrap().status.unwrap().code, 0);
    let unknown = ask(&server, "stranger", check(request("/catalog/1", "mallory")))
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable);
}

#[tokio::test]
async fn what_a_message_says_of_its_peer_beyond_the_identity_is_not_believed() {
    const RULE: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: by-label, namespace: istio-system}
spec:
  match: source.labels["app"] == "admin" || source.workload.name == "admin" || source.namespace == "admin"
  actions: [{handler: doorman, instances: [visit]}]
"#;
    let server = Server::start().await;
    server.mixer.configure(state(SAMPLE.into_iter().chain([RULE])));
    let mut forged = request("/catalog/1", "jason")
        .text("source.workload.name", "admin")
        .text("source.namespace", "admin")
        .text("source.uid", "kubernetes://admin.admin");
    let (name, key, value) = (
        forged.word("source.labels"),
        forged.word("app"),
        forged.word("admin"),
    );
    let entries = [(key, value)].into();
    forged.0.string_maps.insert(name, StringMap { entries });
    let asked = ask(&server, "catalog", check(forged)).await.unwrap();
    assert_eq!(asked.precondition.unwrap().status.unwrap().code, 0);
}

fn with_quota(user: &str, amount: i64, best_effort: bool, id: &str) -> CheckRequest {
    let params = QuotaParams { amount, best_effort };
    CheckRequest {
        deduplication_id: id.to_owned(),
        quotas: [("catalogquota".to_owned(), params)].into(),
        ..check(request("/limited/1", user))
    }
}

async fn granted(server: &Server, request: CheckRequest) -> i64 {
    let answer = ask(server, "catalog", request).await.unwrap();
    assert_eq!(answer.precondition.unwrap().status.unwrap().code, 0);
    let quota = &answer.quotas["catalogquota"];
    assert_eq!(quota.status.as_ref().unwrap().code, 0);
    quota.granted_amount
}

#[tokio::test]
async fn quotas_are_granted_whole_or_as_far_as_there_are_units() {
    let server = Server::with_sample().await;
    assert_eq!(granted(&server, with_quota("a", 3, false, "")).await, 3);
    assert_eq!(granted(&server, with_quota("a", 3, false, "")).await, 0);
    assert_eq!(granted(&server, with_quota("a", 3, true, "")).await, 2);
    assert_eq!(granted(&server, with_quota("a", 1, true, "")).await, 0);
    // Another user has units of its own, and another path no limit.
    assert_eq!(granted(&server, with_quota("b", 5, false, "")).await, 5);
    let free = CheckRequest {
        quotas: with_quota("a", 100, false, "").quotas,
        ..check(request("/free", "a"))
    };
    assert_eq!(granted(&server, free).await, 100);
}

/// Whoever calls a workload must not use up what is its callers'.
#[tokio::test]
async fn quotas_are_charged_where_requests_arrive() {
    let server = Server::with_sample().await;
    let outbound = || {
        let mut request = with_quota("a", 5, false, "");
        let attributes = request.attributes.take().unwrap();
        let described = Attributes(attributes).text("context.reporter.kind", "outbound");
        CheckRequest {
            attributes: Some(described.0),
            ..request
        }
    };
    let answer = ask(&server, "frontend", outbound()).await.unwrap();
    assert_eq!(answer.quotas["catalogquota"].granted_amount, 5);
    assert_eq!(
        granted(&server, with_quota("a", 5, false, "")).await,
        5,
        "nothing was used up"
    );
    assert_eq!(granted(&server, with_quota("a", 1, false, "")).await, 0);
}

#[tokio::test]
async fn a_repeated_call_is_charged_once() {
    let server = Server::with_sample().await;
    assert_eq!(granted(&server, with_quota("a", 3, false, "call-1")).await, 3);
    assert_eq!(granted(&server, with_quota("a", 3, false, "call-1")).await, 3);
    assert_eq!(granted(&server, with_quota("a", 2, false, "call-2")).await, 2);
    assert_eq!(granted(&server, with_quota("a", 1, false, "call-3")).await, 0);
}

#[tokio::test]
async fn sets_of_a_report_are_differences_unless_they_say_otherwise() {
    let first = || request("/catalog/1", "jason").int("response.code", 200);
    let second = || {
        Attributes::default()
            .text("context.protocol", "http")
            .int("response.code", 503)
    };
    for semantics in [
        RepeatedAttributesSemantics::DeltaEncoding,
        RepeatedAttributesSemantics::IndependentEncoding,
    ] {
        let server = Server::with_sample().await;
        let report = ReportRequest {
            attributes: vec![first().0, second().0],
            repeated_attributes_semantics: semantics.into(),
            global_word_count: 150,
            ..ReportRequest::default()
        };
        let mut client = MixerClient::new(server.proxy("catalog"));
        client.report(report).await.unwrap();
        let page = server.page("istio_requests_total").await;
        let line = |code: &str| {
            let code = format!(r#"response_code="{code}""#);
            page.lines()
                .find(|line| line.starts_with("istio_requests_total") && line.contains(&code))
                .unwrap()
        };
        assert!(
            line("200").contains(r#"source_principal="cluster.local/ns/shop/sa/frontend""#),
            "{page}"
        );
        let by_frontend = line("503").contains("frontend");
        assert_eq!(
            by_frontend,
            semantics == RepeatedAttributesSemantics::DeltaEncoding,
            "{page}"
        );
        // The graph of services has both.
        let graph = server.mixer.graph();
        let total: u64 = graph["edges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|edge| edge["requests"].as_u64().unwrap())
            .sum();
        assert_eq!(total, 2, "{graph}");
    }
}

#[tokio::test]
async fn messages_that_make_no_sense_are_refused_by_what_is_wrong() {
    let server = Server::with_sample().await;
    let mut client = MixerClient::new(server.proxy("catalog"));
    let mut bad = request("/", "a");
    bad.0.strings.insert(REQUEST_METHOD, -99);
    let refused = client.check(check(bad)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("word -99"), "{refused}");
    let refused = client
        .report(ReportRequest {
            attributes: vec![
                request("/", "a").0,
                Attributes::default().int("request.method", 1).0,
            ],
            ..ReportRequest::default()
        })
        .await
        .unwrap_err();
    assert!(
        refused
            .message()
            .contains("attributes[1]: attribute request.method is STRING"),
        "{refused}"
    );
    let quotas = (0..65).map(|n| (n.to_string(), QuotaParams::default())).collect();
    let refused = client
        .check(CheckRequest {
            quotas,
            ..check(request("/", "a"))
        })
        .await
        .unwrap_err();
    assert!(refused.message().contains("more than 64 quotas"), "{refused}");
}
