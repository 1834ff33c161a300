//! Action CUSTOM: an external authorizer decides about the requests that the rules match. As in Istio an RBAC filter only marks
//! them (its shadow rules leave the policy's name in metadata), and an ext_authz filter asks about those that are marked.
//!
//! Where the authorizer cannot be asked (no such provider, no such service) what the rules match is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use config::mesh::{ExtAuthzGrpcProvider, ExtAuthzHttpProvider, ExtAuthzRequestBody, ExtensionProvider};
use config::security::{Action, AuthorizationPolicy, Rule};
use config::{Finding, Kind, Spec};
use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, GrpcService, HeaderValue, HttpUri, http_uri::HttpUpstreamType,
};
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService, ext_authz::Services,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::ext_authz::v3::ExtAuthz as NetworkExtAuthz;
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListStringMatcher, MetadataMatcher, ValueMatcher, metadata_matcher::PathSegment,
    metadata_matcher::path_segment::Segment, value_matcher::MatchPattern,
};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use model::{Policy, Service, Snapshot};

use super::matching::Pattern;
use super::{Authz, Compiler, http_filter, network_filter};
use crate::filter;
use crate::telemetry::provider::{Providers, Upstream};
use crate::wire::{any, duration, plain_any, prefix};

/// What the metadata of the marking RBAC filter begins with, and the names of its policies (both Istio's).
const MARK: &str = "istio_ext_authz_";
const NAME: &str = "istio-ext-authz-";
/// Longest wait for an answer where the provider says nothing (Istio: 600 s).
const TIMEOUT: config::Duration = config::Duration::from_secs(600);
/// Most of a refusal's body that is passed on, in bytes; Envoy's default has no bound (ISTIO-SECURITY-2024-004).
const MAX_REFUSAL: u32 = 1 << 20;
/// The status of a request about which nobody could be asked (Istio: 403).
const NOT_ASKED: i32 = 403;

/// Adds the filters of a workload's CUSTOM policies, for each provider a pair.
pub(super) fn add(
    snapshot: &Snapshot,
    namespace: &str,
    policies: &[&Policy<AuthorizationPolicy>],
    out: &mut Authz,
) {
    let mut by_provider: BTreeMap<&str, Vec<&Policy<AuthorizationPolicy>>> = BTreeMap::new();
    for policy in policies {
        let name = policy.spec.provider.as_ref().map_or("", |p| p.name.as_str());
        by_provider.entry(name).or_default().push(policy);
    }
    for (name, policies) in by_provider {
        match Authorizer::find(snapshot, namespace, name) {
            Ok(authorizer) => authorizer.add(snapshot, name, &policies, out),
            Err(reason) => refuse(snapshot, &reason, &policies, out),
        }
    }
}

/// The services of the authorizers that workloads of a namespace may ask, which a proxy must reach whatever its Sidecar says.
pub(crate) fn services(snapshot: &Snapshot, namespace: &str) -> Vec<Arc<Service>> {
    let root = snapshot.root_namespace();
    let custom = |object: &Arc<config::Object>| match &object.spec {
        Spec::AuthorizationPolicy(policy) if policy.action == Action::Custom => {
            policy.provider.as_ref().map(|provider| provider.name.clone())
        }
        _ => None,
    };
    let near = snapshot
        .of_kind(Kind::AuthorizationPolicy)
        .filter(|object| object.meta.namespace == namespace || object.meta.namespace == root);
    let names: BTreeSet<String> = near.filter_map(custom).collect();
    names
        .iter()
        .filter_map(|name| Authorizer::find(snapshot, namespace, name).ok())
        .map(|authorizer| authorizer.upstream.service)
        .collect()
}

/// Who is asked, and how.
struct Authorizer {
    upstream: Upstream,
    how: How,
}

enum How {
    Http(Box<ExtAuthzHttpProvider>),
    Grpc(ExtAuthzGrpcProvider),
}

impl Authorizer {
    fn find(snapshot: &Snapshot, namespace: &str, name: &str) -> Result<Authorizer, String> {
        let providers = Providers { snapshot, namespace };
        let (service, port, how) = match providers.get(name)? {
            ExtensionProvider {
                envoy_ext_authz_http: Some(http),
                ..
            } => (http.service.clone(), http.port, How::Http(Box::new(http))),
            ExtensionProvider {
                envoy_ext_authz_grpc: Some(grpc),
                ..
            } => (grpc.service.clone(), grpc.port, How::Grpc(grpc)),
            _ => {
                return Err(format!(
                    "extension provider {name:?} is no authorizer; give it envoyExtAuthzHttp or envoyExtAuthzGrpc"
                ));
            }
        };
        let upstream = providers.upstream(name, &service, port)?;
        Ok(Authorizer { upstream, how })
    }

    fn add(
        &self,
        snapshot: &Snapshot,
        name: &str,
        policies: &[&Policy<AuthorizationPolicy>],
        out: &mut Authz,
    ) {
        let prefix = format!("{NAME}{name}-");
        let compile = |tcp| {
            let mut compiler = Compiler::new(snapshot, Action::Custom, tcp);
            compiler.prefix.clone_from(&prefix);
            compiler.compile(policies).enforced
        };
        let marks = HttpRbac {
            shadow_rules: compile(false),
            shadow_rules_stat_prefix: MARK.to_owned(),
            ..Default::default()
        };
        out.custom.push(filter::http(filter::HTTP_RBAC, any(&marks)));
        out.custom
            .push(filter::http(filter::EXT_AUTHZ, plain_any(&self.http(&prefix))));
        match &self.how {
            How::Grpc(grpc) => {
                let marks = NetworkRbac {
                    shadow_rules: compile(true),
                    shadow_rules_stat_prefix: MARK.to_owned(),
                    stat_prefix: "tcp.".to_owned(),
                    ..Default::default()
                };
                let asks = self.network(grpc, &prefix);
                out.tcp.push(filter::network(filter::NETWORK_RBAC, any(&marks)));
                out.tcp
                    .push(filter::network(filter::NETWORK_EXT_AUTHZ, plain_any(&asks)));
            }
            How::Http(_) => {
                let rules = without_http(policies);
                let rules: Vec<&Policy<AuthorizationPolicy>> = rules.iter().collect();
                if !rules.is_empty() {
                    let compiled = Compiler::new(snapshot, Action::Custom, true).compile(&rules);
                    out.tcp.extend(network_filter(Action::Custom, compiled));
                }
            }
        }
    }

    fn http(&self, marked: &str) -> ExtAuthz {
        let mut out = ExtAuthz {
            transport_api_version: ApiVersion::V3 as i32,
            filter_enabled_metadata: Some(is_marked(filter::HTTP_RBAC, marked)),
            max_denied_response_body_bytes: MAX_REFUSAL,
            ..Default::default()
        };
        match &self.how {
            How::Http(provider) => {
                out.failure_mode_allow = provider.fail_open;
                out.clear_route_cache = provider.clear_route_cache;
                out.status_on_error = status(&provider.status_on_error);
                out.with_request_body = body(provider.include_request_body_in_check.as_ref());
                out.allowed_headers = list(&sent_headers(provider));
                out.services = Some(Services::HttpService(self.http_service(provider)));
            }
            How::Grpc(provider) => {
                out.failure_mode_allow = provider.fail_open;
                out.clear_route_cache = provider.clear_route_cache;
                out.status_on_error = status(&provider.status_on_error);
                out.with_request_body = body(provider.include_request_body_in_check.as_ref());
                out.services = Some(Services::GrpcService(self.grpc_service(provider)));
            }
        }
        out
    }

    fn http_service(&self, provider: &ExtAuthzHttpProvider) -> HttpService {
        let added = &provider.include_additional_headers_in_check;
        let headers_to_add = added.iter().map(|(key, value)| HeaderValue {
            key: key.clone(),
            value: value.clone(),
            ..Default::default()
        });
        HttpService {
            server_uri: Some(HttpUri {
                uri: format!("http://{}", self.upstream.host),
                timeout: duration(timeout(provider.timeout)),
                http_upstream_type: Some(HttpUpstreamType::Cluster(self.upstream.cluster.clone())),
            }),
            path_prefix: provider.path_prefix.clone(),
            authorization_request: (!added.is_empty()).then(|| AuthorizationRequest {
                headers_to_add: headers_to_add.collect(),
                ..Default::default()
            }),
            authorization_response: Some(AuthorizationResponse {
                allowed_upstream_headers: list(&provider.headers_to_upstream_on_allow),
                allowed_client_headers: list(&provider.headers_to_downstream_on_deny),
                allowed_client_headers_on_success: list(&provider.headers_to_downstream_on_allow),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn grpc_service(&self, provider: &ExtAuthzGrpcProvider) -> GrpcService {
        GrpcService {
            timeout: duration(timeout(provider.timeout)),
            ..self.upstream.grpc()
        }
    }

    fn network(&self, provider: &ExtAuthzGrpcProvider, marked: &str) -> NetworkExtAuthz {
        NetworkExtAuthz {
            stat_prefix: "tcp.".to_owned(),
            grpc_service: Some(self.grpc_service(provider)),
            failure_mode_allow: provider.fail_open,
            transport_api_version: ApiVersion::V3 as i32,
            filter_enabled_metadata: Some(is_marked(filter::NETWORK_RBAC, marked)),
            ..Default::default()
        }
    }
}

/// Refuses what the rules match, since nobody can be asked.
fn refuse(snapshot: &Snapshot, reason: &str, policies: &[&Policy<AuthorizationPolicy>], out: &mut Authz) {
    let compile = |tcp| Compiler::new(snapshot, Action::Custom, tcp).compile(policies);
    out.custom.extend(http_filter(Action::Custom, compile(false)));
    out.tcp.extend(network_filter(Action::Custom, compile(true)));
    out.findings.extend(policies.iter().map(|policy| {
        Finding::warning(format!("{reason}; until then what its rules match is refused"))
            .at("spec.provider.name")
            .of(policy.key.clone())
    }));
}

/// The policies with the rules that are about connections as much as about requests. An authorizer that speaks HTTP cannot be
/// asked about connections, so these are refused; rules about HTTP alone mean none of them.
fn without_http(policies: &[&Policy<AuthorizationPolicy>]) -> Vec<Policy<AuthorizationPolicy>> {
    let of = |policy: &&Policy<AuthorizationPolicy>| {
        let mut spec = (*policy.spec).clone();
        spec.rules.retain(|rule| !reads_http(rule));
        (!spec.rules.is_empty()).then(|| Policy {
            spec: Arc::new(spec),
            ..(*policy).clone()
        })
    };
    policies.iter().filter_map(of).collect()
}

/// Whether a rule asks for what only requests have.
fn reads_http(rule: &Rule) -> bool {
    let operations = rule.to.iter().filter_map(|to| to.operation.as_ref());
    let mut lists = operations.flat_map(|o| {
        [
            &o.hosts,
            &o.not_hosts,
            &o.methods,
            &o.not_methods,
            &o.paths,
            &o.not_paths,
        ]
    });
    let sources = rule.from.iter().filter_map(|from| from.source.as_ref());
    let mut tokens = sources.flat_map(|s| [&s.request_principals, &s.not_request_principals]);
    lists.any(|list| !list.is_empty())
        || tokens.any(|list| !list.is_empty())
        || rule.when.iter().any(|when| when.key.starts_with("request."))
}

/// That the marking filter before met a policy of this authorizer.
fn is_marked(filter: &str, name: &str) -> MetadataMatcher {
    MetadataMatcher {
        filter: filter.to_owned(),
        path: vec![PathSegment {
            segment: Some(Segment::Key(format!("{MARK}shadow_effective_policy_id"))),
        }],
        value: Some(ValueMatcher {
            match_pattern: Some(MatchPattern::StringMatch(prefix(&format!("{name}ns[")))),
        }),
        ..Default::default()
    }
}

fn timeout(given: Option<config::Duration>) -> Duration {
    given.unwrap_or(TIMEOUT).0
}

fn status(text: &str) -> Option<HttpStatus> {
    Some(HttpStatus {
        code: text.parse().unwrap_or(NOT_ASKED),
    })
}

fn body(body: Option<&ExtAuthzRequestBody>) -> Option<BufferSettings> {
    body.map(|body| BufferSettings {
        max_request_bytes: body.max_request_bytes,
        allow_partial_message: body.allow_partial_message,
        pack_as_bytes: body.pack_as_bytes,
    })
}

/// The request's headers that the authorizer sees; the deprecated field counts where the new one says nothing (Istio).
fn sent_headers(provider: &ExtAuthzHttpProvider) -> Vec<String> {
    match provider.include_request_headers_in_check.as_slice() {
        [] => provider.include_headers_in_check.clone(),
        given => given.to_vec(),
    }
}

/// Names of headers: exact, `prefix*`, `*suffix`; none means Envoy's own few.
fn list(names: &[String]) -> Option<ListStringMatcher> {
    let matcher = |name: &String| Pattern::parse(&name.to_ascii_lowercase()).matcher();
    (!names.is_empty()).then(|| ListStringMatcher {
        patterns: names.iter().map(matcher).collect(),
    })
}
