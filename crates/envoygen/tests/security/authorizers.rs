//! Action CUSTOM: how external authorizers are asked.

use envoy_types::pb::envoy::config::rbac::v3::rbac;

use crate::support::{self, SHOP};
use crate::{inbound, policies, rules};

/// MeshConfig with an authorizer that speaks HTTP and one that speaks gRPC, every field given.
const AUTHORIZERS: &str = "
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
metadata: {name: istio, namespace: istio-system}
spec:
  extensionProviders:
  - name: http
    envoyExtAuthzHttp:
      service: asked.example
      port: 80
      timeout: 2s
      pathPrefix: /check
      failOpen: true
      clearRouteCache: true
      statusOnError: '503'
      includeRequestHeadersInCheck: [X-Token, x-a-*, '*-z']
      includeAdditionalHeadersInCheck: {x-asked-by: mesh}
      includeRequestBodyInCheck: {maxRequestBytes: 1024, allowPartialMessage: true, packAsBytes: true}
      headersToUpstreamOnAllow: [x-user]
      headersToDownstreamOnDeny: [location]
      headersToDownstreamOnAllow: [set-cookie]
  - name: grpc
    envoyExtAuthzGrpc: {service: istio-system/asked.example, port: 90}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: asked, namespace: istio-system}
spec: {hosts: [asked.example], ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: grpc, protocol: GRPC}], resolution: STATIC, endpoints: [{address: 127.9.9.9}]}
";

fn custom(provider: &str, rest: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{{rest} action: CUSTOM, provider: {{name: {provider}}}, rules: [{{to: [{{operation: {{paths: [/admin]}}}}]}}]}}\n"
    )
}

/// The external authorizer's filter behind the one that marks, as JSON.
pub(crate) fn authorizer(provider: &str) -> serde_json::Value {
    let (output, _) = inbound(&[SHOP, AUTHORIZERS, &custom(provider, "")]);
    assert!(output.findings.is_empty(), "{:?}", output.findings);
    support::envoy::validate(&output);
    let listener = output
        .get(envoygen::type_url::LISTENER, "127.1.0.21_8080")
        .unwrap();
    let json = envoygen::to_json(envoygen::type_url::LISTENER, &listener.bytes).unwrap();
    let filters = &json["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
    let at = filters
        .as_array()
        .unwrap()
        .iter()
        .position(|f| f["name"] == "envoy.filters.http.ext_authz")
        .unwrap();
    let marks = &filters[at - 1]["typed_config"];
    assert_eq!(marks["shadow_rules_stat_prefix"], "istio_ext_authz_");
    let name = format!("istio-ext-authz-{provider}-ns[shop]-policy[p]-rule[0]");
    assert!(marks["shadow_rules"]["policies"][&name].is_object(), "{marks}");
    assert!(marks["rules"].is_null(), "it only marks");
    filters[at]["typed_config"].clone()
}

#[test]
fn an_authorizer_is_asked_by_http_with_all_its_settings() {
    let asks = authorizer("http");
    let service = &asks["http_service"];
    assert_eq!(
        service["server_uri"]["cluster"], "outbound|80||asked.example",
        "{asks}"
    );
    assert_eq!(service["server_uri"]["timeout"], "2s");
    assert_eq!(service["path_prefix"], "/check");
    assert_eq!(
        service["authorization_request"]["headers_to_add"][0]["key"],
        "x-asked-by"
    );
    let names = |list: &serde_json::Value| list["patterns"].as_array().unwrap().len();
    assert_eq!(names(&asks["allowed_headers"]), 3);
    assert_eq!(asks["allowed_headers"]["patterns"][0]["exact"], "x-token");
    let answer = &service["authorization_response"];
    assert_eq!(
        answer["allowed_upstream_headers"]["patterns"][0]["exact"],
        "x-user"
    );
    assert_eq!(
        answer["allowed_client_headers"]["patterns"][0]["exact"],
        "location"
    );
    assert_eq!(
        answer["allowed_client_headers_on_success"]["patterns"][0]["exact"],
        "set-cookie"
    );
    assert_eq!(asks["with_request_body"]["max_request_bytes"], 1024);
    assert_eq!(
        (&asks["failure_mode_allow"], &asks["clear_route_cache"]),
        (&true.into(), &true.into())
    );
    assert_eq!(asks["status_on_error"]["code"], "ServiceUnavailable");
}

#[test]
fn an_authorizer_is_asked_by_grpc_and_fails_closed() {
    let asks = authorizer("grpc");
    let service = &asks["grpc_service"];
    assert_eq!(
        service["envoy_grpc"]["cluster_name"], "outbound|90||asked.example",
        "{asks}"
    );
    assert_eq!(service["timeout"], "600s", "Istio's default");
    assert_eq!(asks["status_on_error"]["code"], "Forbidden");
    assert!(asks["failure_mode_allow"].is_null(), "{asks}");
    let marked = &asks["filter_enabled_metadata"];
    assert_eq!(marked["filter"], "envoy.filters.http.rbac");
    assert_eq!(
        marked["value"]["string_match"]["prefix"],
        "istio-ext-authz-grpc-ns["
    );
}

#[test]
fn an_authorizer_that_is_not_there_refuses_what_it_would_be_asked() {
    let (output, _) = inbound(&[SHOP, &custom("x", "")]);
    assert!(
        output
            .findings
            .iter()
            .any(|f| f.message.contains("no extension provider")),
        "{:?}",
        output.findings
    );
    let filters = policies(&[SHOP, &custom("x", "")]);
    assert_eq!(rules(&filters[0]).action, rbac::Action::Deny as i32);
}
