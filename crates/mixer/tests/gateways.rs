//! Checks of gateways, about requests that they send: decided and charged by the service that they name, and by nobody else asked.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/mod.rs"]
mod common;

use common::reports::check;
use common::server::{SAMPLE, Server};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use policy::SENT;
use tonic::{Code, Request, Status};

/// A gateway, a host without workloads, and what is not to get there.
const LEGACY: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, protocol: HTTP, name: http}, hosts: ["*"]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: shop}
spec: {hosts: [legacy.example], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: deny-legacy, namespace: shop}
spec:
  match: destination.service.host == "legacy.example" && source.labels["istio"] == "ingressgateway" && origin.ip == ip("127.1.0.10") && request.headers["x-user"] == "mallory"
  actions: [{handler: doorman.istio-system, instances: [visit.istio-system]}]
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: limit-legacy, namespace: shop}
spec: {actions: [{handler: quotas.istio-system, instances: [catalogquota.istio-system]}]}
---
apiVersion: config.istio.io/v1alpha2
kind: QuotaSpecBinding
metadata: {name: legacy, namespace: istio-system}
spec: {quotaSpecs: [{name: catalog}], services: [{service: legacy.example}]}
"#;

async fn server() -> Server {
    let server = Server::start().await;
    server
        .mixer
        .configure(common::state([SAMPLE[0], SAMPLE[1], SAMPLE[2], LEGACY]));
    assert!(
        server.mixer.findings().is_empty(),
        "{:?}",
        server.mixer.findings()
    );
    server
}

/// Asks as the ingress gateway, or as another account; `said` is what it sends, of connections as metadata.
async fn ask(
    server: &Server,
    (namespace, account): (&str, &str),
    user: &str,
    said: &str,
    tcp: bool,
) -> Result<CheckResponse, Status> {
    let mut message: CheckRequest = check(user);
    let attributes = message.attributes.as_mut().unwrap();
    let mut metadata = None;
    if tcp {
        attributes.request.as_mut().unwrap().http = None;
        metadata = Some(said.parse().unwrap());
    } else {
        attributes
            .context_extensions
            .insert(SENT.to_owned(), said.to_owned());
    }
    let mut request = Request::new(message);
    metadata.map(|said| request.metadata_mut().insert(SENT, said));
    let channel = server.connect(&server.root.identity(namespace, account));
    AuthorizationClient::new(channel)
        .check(request)
        .await
        .map(tonic::Response::into_inner)
}

const GATEWAY: (&str, &str) = ("istio-system", "ingressgateway");
const DENY: &str = "shop/legacy.example deny-legacy.shop";
const LIMIT: &str = "shop/legacy.example limit-legacy.shop";

fn code(answer: Result<CheckResponse, Status>) -> i32 {
    answer.unwrap().status.unwrap().code
}

#[tokio::test]
async fn a_gateway_is_answered_by_the_rules_of_the_service_that_it_calls() {
    let server = server().await;
    assert_eq!(code(ask(&server, GATEWAY, "mallory", DENY, false).await), 7);
    assert_eq!(code(ask(&server, GATEWAY, "jason", DENY, false).await), 0);
    // A rule that is not asked decides nothing.
    assert_eq!(code(ask(&server, GATEWAY, "mallory", LIMIT, false).await), 0);
    // Connections have no headers.
    assert_eq!(code(ask(&server, GATEWAY, "mallory", DENY, true).await), 0);
}

#[tokio::test]
async fn a_gateway_is_charged_for_the_service_that_it_calls() {
    let server = server().await;
    for _ in 0..5 {
        assert_eq!(code(ask(&server, GATEWAY, "jason", LIMIT, false).await), 0);
    }
    assert_eq!(code(ask(&server, GATEWAY, "jason", LIMIT, false).await), 8);
    assert_eq!(code(ask(&server, GATEWAY, "anna", LIMIT, false).await), 0);
    // Nothing binds it to the catalog at its callers.
    let details = LIMIT.replace("legacy.example", "frontend.shop.svc.cluster.local");
    assert_eq!(code(ask(&server, GATEWAY, "jason", &details, false).await), 0);
}

/// Who could ask as a gateway could use up the quotas of services that it may not call.
#[tokio::test]
async fn nobody_else_asks_about_requests_to_services_of_others() {
    let server = server().await;
    let refused = ask(&server, ("shop", "catalog"), "jason", LIMIT, false)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains("no Gateway selects"), "{refused}");
    let unknown = ask(&server, GATEWAY, "jason", "shop/none.example a.shop", false)
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable, "{unknown}");
    let nonsense = ask(&server, GATEWAY, "jason", "legacy", false).await.unwrap_err();
    assert_eq!(nonsense.code(), Code::InvalidArgument, "{nonsense}");
}
