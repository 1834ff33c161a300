//! Mutual TLS and policies: who is let in, and who is trusted to answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket::ConfigType};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::rbac::v3::{Policy, Principal, Rbac, principal::Identifier, rbac};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager,
    http_connection_manager::{ForwardClientCertDetails, PathWithEscapedSlashesAction},
    http_filter,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext, common_tls_context::ValidationContextType,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoygen::Output;
use prost::Message;
use support::{FEATURES, SHOP, cluster, generator, listener, manager, tables};

const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";
const CATALOG: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
const EDGE: &str = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";

fn decode<M: Message + Default>(socket: &TransportSocket) -> M {
    match &socket.config_type {
        Some(ConfigType::TypedConfig(any)) => M::decode(any.value.as_slice()).unwrap(),
        None => panic!("no config"),
    }
}

/// The names that a peer may have, as they are compared.
fn peers(context: &CommonTlsContext) -> Vec<String> {
    let Some(ValidationContextType::CombinedValidationContext(combined)) = &context.validation_context_type
    else {
        panic!("{:?}", context.validation_context_type)
    };
    let names = &combined
        .default_validation_context
        .as_ref()
        .unwrap()
        .match_typed_subject_alt_names;
    names
        .iter()
        .map(
            |name| match name.matcher.as_ref().unwrap().match_pattern.as_ref().unwrap() {
                MatchPattern::Exact(text) => text.clone(),
                MatchPattern::Prefix(text) => format!("{text}*"),
                other => format!("{other:?}"),
            },
        )
        .collect()
}

#[test]
fn a_client_expects_the_accounts_of_the_service() {
    let output = tables(&generator(&[SHOP]), FRONTEND);
    let catalog = cluster(&output, "outbound|7080|v1|catalog.shop.svc.cluster.local");
    assert_eq!(catalog.transport_socket, None, "each endpoint's metadata decides");
    let context: UpstreamTlsContext = decode(
        catalog.transport_socket_matches[0]
            .transport_socket
            .as_ref()
            .unwrap(),
    );
    assert_eq!(context.sni, "outbound_.7080_.v1_.catalog.shop.svc.cluster.local");
    let common = context.common_tls_context.unwrap();
    assert_eq!(peers(&common), ["spiffe://cluster.local/ns/shop/sa/catalog"]);
    assert_eq!(common.alpn_protocols, ["istio-http/1.1", "istio", "http/1.1"]);
    assert_eq!(common.tls_certificate_sds_secret_configs[0].name, "default");
    assert!(
        common.tls_certificate_sds_secret_configs[0]
            .sds_config
            .as_ref()
            .unwrap()
            .initial_fetch_timeout
            .is_some()
    );
    let grpc = cluster(&output, "outbound|7090||stock.shop.svc.cluster.local");
    let context: UpstreamTlsContext = decode(
        grpc.transport_socket_matches[0]
            .transport_socket
            .as_ref()
            .unwrap(),
    );
    assert_eq!(
        context.common_tls_context.unwrap().alpn_protocols,
        ["istio-h2", "istio", "h2"]
    );
}

#[test]
fn destination_rules_choose_tls() {
    let output = tables(&generator(&[SHOP, FEATURES]), FRONTEND);
    let stock = cluster(&output, "outbound|7080||stock.shop.svc.cluster.local");
    assert!(stock.transport_socket_matches.is_empty());
    let context: UpstreamTlsContext = decode(&stock.transport_socket.unwrap());
    assert_eq!(
        peers(&context.common_tls_context.unwrap()),
        ["spiffe://cluster.local/ns/shop/sa/stock"]
    );
    let outside = cluster(&output, "outbound|7080||api.outside.example");
    let context: UpstreamTlsContext = decode(&outside.transport_socket.unwrap());
    assert_eq!(context.sni, "api.outside.example");
    let common = context.common_tls_context.unwrap();
    let Some(ValidationContextType::ValidationContext(validation)) = common.validation_context_type else {
        panic!()
    };
    assert!(
        validation.trusted_ca.is_some(),
        "certificates outside are verified too"
    );
    assert_eq!(validation.match_typed_subject_alt_names.len(), 1);
    assert!(
        common.tls_certificate_sds_secret_configs.is_empty(),
        "the mesh's certificate stays in the mesh"
    );
}

fn inbound(texts: &[&str]) -> (Output, Listener) {
    let output = tables(&generator(texts), CATALOG);
    let listener = listener(&output, "127.1.0.21_8080");
    (output, listener)
}

#[test]
fn strict_ports_demand_a_certificate_of_the_trust_domain() {
    let (_, listener) = inbound(&[SHOP, FEATURES]);
    assert!(
        !listener.enable_reuse_port.unwrap().value,
        "nobody shares the port"
    );
    let [chain] = listener.filter_chains.as_slice() else {
        panic!("one chain: no plaintext")
    };
    assert_eq!(
        chain.filter_chain_match.as_ref().unwrap().transport_protocol,
        "tls"
    );
    let context: DownstreamTlsContext = decode(chain.transport_socket.as_ref().unwrap());
    assert!(context.require_client_certificate.unwrap().value);
    assert_eq!(
        peers(&context.common_tls_context.unwrap()),
        ["spiffe://cluster.local/*"]
    );
    assert_eq!(listener.listener_filters.len(), 1, "the TLS inspector");
}

#[test]
fn permissive_ports_take_plaintext_too() {
    let (_, listener) = inbound(&[SHOP]);
    let kinds: Vec<_> = listener
        .filter_chains
        .iter()
        .map(|c| {
            (
                c.filter_chain_match.as_ref().unwrap().transport_protocol.as_str(),
                c.transport_socket.is_some(),
            )
        })
        .collect();
    assert_eq!(kinds, [("tls", true), ("raw_buffer", false)]);
}

fn http(listener: &Listener) -> HttpConnectionManager {
    manager(&listener.filter_chains[0].filters[0]).unwrap()
}

#[test]
fn the_peers_identity_is_passed_on() {
    let (_, listener) = inbound(&[SHOP]);
    let manager = http(&listener);
    assert_eq!(
        manager.forward_client_cert_details,
        ForwardClientCertDetails::AppendForward as i32
    );
    assert!(manager.set_current_client_cert_details.unwrap().uri);
    let edge = tables(&generator(&[SHOP]), EDGE);
    let manager = manager_of_edge(&edge);
    assert_eq!(
        manager.forward_client_cert_details,
        ForwardClientCertDetails::SanitizeSet as i32
    );
    assert!(manager.use_remote_address.unwrap().value);
}

fn manager_of_edge(output: &Output) -> HttpConnectionManager {
    http(&listener(output, "127.1.0.1_8080"))
}

#[test]
fn paths_have_one_spelling_where_policies_decide() {
    let (_, plain) = inbound(&[SHOP]);
    let keep = PathWithEscapedSlashesAction::KeepUnchanged as i32;
    assert_eq!(http(&plain).path_with_escaped_slashes_action, keep);
    let (_, decided) = inbound(&[SHOP, FEATURES]);
    let manager = http(&decided);
    assert_eq!(
        manager.path_with_escaped_slashes_action,
        PathWithEscapedSlashesAction::UnescapeAndForward as i32
    );
    assert!(manager.merge_slashes && manager.normalize_path.unwrap().value);
}

/// The RBAC filters of the catalog, in order.
fn policies(texts: &[&str]) -> Vec<HttpRbac> {
    let (_, listener) = inbound(texts);
    let filters = http(&listener).http_filters;
    filters
        .iter()
        .filter(|f| f.name == "envoy.filters.http.rbac")
        .map(|f| match &f.config_type {
            Some(http_filter::ConfigType::TypedConfig(any)) => {
                HttpRbac::decode(any.value.as_slice()).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect()
}

fn rules(filter: &HttpRbac) -> &Rbac {
    filter.rules.as_ref().unwrap()
}

#[test]
fn deny_comes_before_allow() {
    let filters = policies(&[SHOP, FEATURES]);
    let actions: Vec<_> = filters
        .iter()
        .map(|f| f.rules.as_ref().map(|r| r.action))
        .collect();
    use rbac::Action::{Allow, Deny, Log};
    assert_eq!(actions, [Some(Log as i32), Some(Deny as i32), Some(Allow as i32)]);
    let names: Vec<_> = rules(&filters[2]).policies.keys().collect();
    assert_eq!(names, ["ns[shop]-policy[catalog-allow]-rule[0]"]);
    let trial = filters[1].shadow_rules.as_ref().unwrap();
    assert!(
        trial
            .policies
            .contains_key("ns[shop]-policy[catalog-trial]-rule[0]"),
        "a trial is not enforced"
    );
    assert!(
        !rules(&filters[1])
            .policies
            .contains_key("ns[shop]-policy[catalog-trial]-rule[0]")
    );
}

/// A policy for the catalog with one rule.
fn one(action: &str, rule: &str) -> Policy {
    let text = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {{action: {action}, rules: [{rule}]}}\n"
    );
    let filters = policies(&[SHOP, &text]);
    rules(&filters[0]).policies["ns[shop]-policy[p]-rule[0]"].clone()
}

/// Whether a rule's callers must have an identity at all.
fn demands_identity(principal: &Principal) -> bool {
    match principal.identifier.as_ref().unwrap() {
        Identifier::Authenticated(_) => true,
        Identifier::AndIds(set) => set.ids.iter().any(demands_identity),
        Identifier::OrIds(set) => set.ids.iter().all(demands_identity),
        _ => false,
    }
}

#[test]
fn a_missing_identity_never_lets_in() {
    for field in ["notPrincipals", "notNamespaces"] {
        let rule = format!("{{from: [{{source: {{{field}: [evil]}}}}]}}");
        assert!(
            demands_identity(&one("ALLOW", &rule).principals[0]),
            "ALLOW {field}"
        );
        assert!(
            !demands_identity(&one("DENY", &rule).principals[0]),
            "DENY {field} refuses plaintext"
        );
    }
    let by_condition = one(
        "ALLOW",
        "{when: [{key: source.principal, notValues: [x/ns/a/sa/b]}]}",
    );
    assert!(demands_identity(&by_condition.principals[0]));
}

#[test]
fn trust_domains_and_their_aliases() {
    let mesh = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: istio, namespace: istio-system}\nspec: {trustDomain: new.example, trustDomainAliases: [old.example]}\n";
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {rules: [{from: [{source: {principals: [old.example/ns/a/sa/b, cluster.local/ns/c/sa/d, third.example/ns/e/sa/f]}}]}]}\n";
    let filters = policies(&[SHOP, mesh, policy]);
    let principal = &rules(&filters[0]).policies["ns[shop]-policy[p]-rule[0]"].principals[0];
    let Some(Identifier::OrIds(set)) = &principal.identifier else {
        panic!("{principal:?}")
    };
    let names: Vec<_> = set
        .ids
        .iter()
        .map(|id| match &id.identifier {
            Some(Identifier::Authenticated(a)) => match &a.principal_name.as_ref().unwrap().match_pattern {
                Some(MatchPattern::Exact(text)) => text.clone(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        names,
        [
            "spiffe://new.example/ns/a/sa/b",
            "spiffe://old.example/ns/a/sa/b",
            "spiffe://new.example/ns/c/sa/d",
            "spiffe://old.example/ns/c/sa/d",
            "spiffe://third.example/ns/e/sa/f"
        ]
    );
}

#[test]
fn a_policy_without_rules_allows_nothing() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: {}\n";
    let filters = policies(&[SHOP, text]);
    assert_eq!(rules(&filters[0]).action, rbac::Action::Allow as i32);
    let policy = &rules(&filters[0]).policies["ns[istio-system]-policy[p]-rule[0]"];
    assert!(
        matches!(policy.principals[0].identifier, Some(Identifier::NotId(_))),
        "matches nobody"
    );
}

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
fn authorizer(provider: &str) -> serde_json::Value {
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
    assert!(
        asks["max_denied_response_body_bytes"]
            .as_u64()
            .is_some_and(|n| n > 0),
        "2024-004"
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

#[test]
fn policies_attached_to_a_gateway_are_for_the_proxies_that_serve_it() {
    let labelled = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: front, namespace: istio-system}\nspec: {address: 127.1.0.2, labels: {istio: ingressgateway, gateway.networking.k8s.io/gateway-name: front}}\n";
    let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: istio-system}\nspec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: front}], action: DENY, rules: [{}]}\n";
    let generator = generator(&[SHOP, labelled, policy]);
    let has = |node: &str| {
        let output = tables(&generator, node);
        let name = output
            .of_type(envoygen::type_url::LISTENER)
            .next()
            .unwrap()
            .name
            .clone();
        http(&listener(&output, &name))
            .http_filters
            .iter()
            .any(|f| f.name == "envoy.filters.http.rbac")
    };
    assert!(has(
        "router~127.1.0.2~front.istio-system~istio-system.svc.cluster.local"
    ));
    assert!(!has(EDGE), "another gateway");
}

/// The chains of a sidecar's port that ends TLS of its own, under a mode of mutual TLS: those that end TLS, and what is said.
fn ingress_tls(mode: &str) -> (Vec<(bool, String)>, Vec<String>) {
    let text = format!(
        r#"
{{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {{name: m, namespace: istio-system}}, spec: {{mtls: {{mode: {mode}}}}}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: own, namespace: own}}
spec: {{address: 127.1.9.1, labels: {{app: own}}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own, namespace: own}}
spec:
  workloadSelector: {{labels: {{app: own}}}}
  ingress:
  - port: {{number: 8443, protocol: HTTPS, name: https}}
    bind: 127.1.9.1
    captureMode: NONE
    defaultEndpoint: 127.1.9.1:8080
    tls: {{mode: SIMPLE, serverCertificate: /c.pem, privateKey: /k.pem}}
"#
    );
    let output = tables(
        &generator(&[&text]),
        "sidecar~127.1.9.1~own.own~own.svc.cluster.local",
    );
    let found = output.get(envoygen::type_url::LISTENER, "127.1.9.1_8443");
    let chains = found.map(|_| support::listener(&output, "127.1.9.1_8443").filter_chains);
    let shown = |chain: envoy_types::pb::envoy::config::listener::v3::FilterChain| {
        let protocol = chain.filter_chain_match.unwrap_or_default().transport_protocol;
        (chain.transport_socket.is_some(), protocol)
    };
    let said = output.findings.iter().map(ToString::to_string).collect();
    (chains.unwrap_or_default().into_iter().map(shown).collect(), said)
}

#[test]
fn sidecars_end_tls_of_their_own_where_mutual_tls_is_off() {
    let (chains, said) = ingress_tls("DISABLE");
    assert_eq!(
        (chains, said.len()),
        (vec![(true, "tls".to_owned())], 0),
        "{said:?}"
    );
    let (chains, said) = ingress_tls("STRICT");
    assert!(
        chains.is_empty() && said.iter().any(|said| said.contains("PeerAuthentication")),
        "{said:?}"
    );
}

#[test]
fn auto_passthrough_forwards_what_the_mesh_encrypts() {
    let gateway = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: east-west, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 15443, protocol: TLS, name: tls}, tls: {mode: AUTO_PASSTHROUGH}, hosts: ["catalog.shop.svc.cluster.local"]}
---
{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: out, namespace: shop}, spec: {hosts: [out.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: STATIC, endpoints: [{address: 127.9.9.9}]}}
"#;
    let edge = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";
    let output = tables(&generator(&[SHOP, gateway]), edge);
    support::envoy::validate(&output);
    let chains = support::listener(&output, "0.0.0.0_15443").filter_chains;
    let names: Vec<_> = chains
        .iter()
        .map(|chain| {
            let condition = chain.filter_chain_match.clone().unwrap();
            assert!(
                chain.transport_socket.is_none()
                    && condition.application_protocols.contains(&"istio".to_owned())
            );
            condition.server_names.concat()
        })
        .collect();
    let expected =
        ["", "v1", "v2"].map(|subset| format!("outbound_.7080_.{subset}_.catalog.shop.svc.cluster.local"));
    assert_eq!(names, expected, "no other host, and nothing outside the mesh");
    let cluster = support::cluster(&output, &expected[1]);
    assert!(cluster.transport_socket.is_none() && cluster.transport_socket_matches.is_empty());
    assert!(output.get(envoygen::type_url::ENDPOINTS, &expected[1]).is_some());
}

#[test]
fn the_mesh_bounds_its_mutual_tls() {
    let mesh = "{apiVersion: mesh.istio.io/v1alpha1, kind: MeshConfig, metadata: {name: default, namespace: istio-system}, spec: {meshMTLS: {minProtocolVersion: TLSV1_3}}}";
    let lowest = |texts: &[&str]| {
        let node = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
        let output = tables(&generator(texts), node);
        support::envoy::validate(&output);
        let found = output
            .get(envoygen::type_url::LISTENER, "127.1.0.21_8080")
            .unwrap();
        let json = envoygen::to_json(envoygen::type_url::LISTENER, &found.bytes).unwrap();
        let socket = &json["filter_chains"][0]["transport_socket"]["typed_config"];
        socket["common_tls_context"]["tls_params"]["tls_minimum_protocol_version"].clone()
    };
    assert_eq!(lowest(&[SHOP]), "TLSv1_2");
    assert_eq!(lowest(&[SHOP, mesh]), "TLSv1_3");
}

#[test]
fn gateways_check_clients_as_they_are_told() {
    let server = |tls: &str| {
        let gateway = format!(
            "{{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{name: g, namespace: istio-system}}, spec: {{selector: {{istio: ingressgateway}}, servers: [{{port: {{number: 8443, protocol: HTTPS, name: https}}, bind: 127.1.0.1, hosts: [a.example], tls: {tls}}}]}}}}"
        );
        let edge = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";
        let output = tables(&generator(&[SHOP, &gateway]), edge);
        let found = output
            .get(envoygen::type_url::LISTENER, "127.1.0.1_8443")
            .unwrap();
        let json = envoygen::to_json(envoygen::type_url::LISTENER, &found.bytes).unwrap();
        json["filter_chains"][0]["transport_socket"]["typed_config"].clone()
    };
    let files = "serverCertificate: /c, privateKey: /k, caCertificates: /ca";
    let mutual = server(&format!(
        "{{mode: MUTUAL, {files}, caCrl: /crl, subjectAltNames: [client.example, 'spiffe://a/b'], minProtocolVersion: TLSV1_3, ecdhCurves: [P-256]}}"
    ));
    assert_eq!(mutual["require_client_certificate"], true);
    let common = &mutual["common_tls_context"];
    assert_eq!(common["tls_params"]["tls_minimum_protocol_version"], "TLSv1_3");
    assert_eq!(common["tls_params"]["ecdh_curves"][0], "P-256");
    let validation = &common["validation_context"];
    let names = validation["match_typed_subject_alt_names"].as_array().unwrap();
    assert_eq!(
        (&names[0]["san_type"], &names[1]["san_type"]),
        (&"DNS".into(), &"URI".into())
    );
    assert_eq!(validation["crl"]["filename"], "/crl");
    let optional = server(&format!(
        "{{mode: OPTIONAL_MUTUAL, {files}, insecureSkipVerify: true}}"
    ));
    assert_eq!(optional["require_client_certificate"], false);
    assert_eq!(
        optional["common_tls_context"]["validation_context"]["trust_chain_verification"],
        "ACCEPT_UNTRUSTED"
    );
}
