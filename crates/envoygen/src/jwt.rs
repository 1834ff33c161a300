//! RequestAuthentications as Envoy's JWT filter: a token that is sent must be valid; whether one must be sent is the business of
//! AuthorizationPolicies, which read the claims that this filter leaves in metadata.

use std::collections::BTreeMap;

use config::security::JwtRule;
use config::{Finding, ObjectKey};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HttpUri, data_source::Specifier, http_uri::HttpUpstreamType,
};
use envoy_types::pb::envoy::config::route::v3::{RouteMatch, route_match::PathSpecifier};
use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement, JwtRequirementAndList,
    JwtRequirementOrList, RemoteJwks, RequirementRule,
    jwt_provider::{JwksSourceSpecifier, NormalizePayload},
    jwt_requirement::RequiresType,
    requirement_rule::RequirementType,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use model::Snapshot;

use crate::authz::PAYLOAD;
use crate::filter;
use crate::names;
use crate::wire::{any, seconds};

/// The filter of a workload's RequestAuthentications.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    pub(crate) filter: Option<HttpFilter>,
    pub(crate) origins: Vec<ObjectKey>,
    pub(crate) findings: Vec<Finding>,
}

impl Tokens {
    pub(crate) fn new(snapshot: &Snapshot, namespace: &str, labels: &BTreeMap<String, String>) -> Tokens {
        let mut out = Tokens::default();
        let mut providers: Vec<JwtProvider> = Vec::new();
        for policy in snapshot.policies().request(namespace, labels) {
            if policy.spec.target_ref.is_some() || !policy.spec.target_refs.is_empty() {
                continue;
            }
            out.origins.push(policy.key.clone());
            for (index, rule) in policy.spec.jwt_rules.iter().enumerate() {
                if rule.jwks.is_empty() {
                    out.findings.push(no_keys(&policy.key, index, rule));
                }
                providers.push(provider(rule));
            }
        }
        if !providers.is_empty() {
            out.filter = Some(filter::http(filter::JWT, any(&authentication(providers))));
        }
        out
    }
}

fn no_keys(key: &ObjectKey, index: usize, rule: &JwtRule) -> Finding {
    Finding::warning(format!(
        "keys of {:?} are not fetched yet: all its tokens are refused",
        rule.issuer
    ))
    .at(format!("spec.jwtRules[{index}].jwksUri"))
    .of(key.clone())
    .help("give the keys inline, in jwks")
}

fn authentication(providers: Vec<JwtProvider>) -> JwtAuthentication {
    let named: Vec<(String, JwtProvider)> = providers
        .into_iter()
        .enumerate()
        .map(|(index, p)| (format!("origins-{index}"), p))
        .collect();
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    let rule = RequirementRule {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        requirement_type: Some(RequirementType::Requires(required(&names))),
    };
    JwtAuthentication {
        rules: vec![rule],
        providers: named.into_iter().collect(),
        bypass_cors_preflight: true,
        ..Default::default()
    }
}

/// A valid token of some issuer, or for each issuer a valid token or none (Istio's rule: issuers may share the place where
/// their tokens stand).
fn required(names: &[&str]) -> JwtRequirement {
    let provider = |name: &str| requirement(RequiresType::ProviderName(name.to_owned()));
    let or_none = |name: &str| {
        any_of(vec![
            provider(name),
            requirement(RequiresType::AllowMissing(Default::default())),
        ])
    };
    match names {
        [only] => or_none(only),
        several => {
            let each = JwtRequirementAndList {
                requirements: several.iter().map(|name| or_none(name)).collect(),
            };
            let mut all: Vec<JwtRequirement> = several.iter().map(|name| provider(name)).collect();
            all.push(requirement(RequiresType::RequiresAll(each)));
            any_of(all)
        }
    }
}

fn any_of(requirements: Vec<JwtRequirement>) -> JwtRequirement {
    requirement(RequiresType::RequiresAny(JwtRequirementOrList { requirements }))
}

fn requirement(requires_type: RequiresType) -> JwtRequirement {
    JwtRequirement {
        requires_type: Some(requires_type),
    }
}

fn provider(rule: &JwtRule) -> JwtProvider {
    let header = |h: &config::security::JwtHeader| JwtHeader {
        name: h.name.clone(),
        value_prefix: h.prefix.clone(),
    };
    let claim = |c: &config::security::ClaimToHeader| JwtClaimToHeader {
        header_name: c.header.clone(),
        claim_name: c.claim.clone(),
        ..Default::default()
    };
    let mut spaced = vec!["scope".to_owned(), "permission".to_owned()];
    spaced.extend(
        rule.space_delimited_claims
            .iter()
            .filter(|c| *c != "scope" && *c != "permission")
            .cloned(),
    );
    JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        forward: rule.forward_original_token,
        from_headers: rule.from_headers.iter().map(header).collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward_payload_header: rule.output_payload_to_header.clone(),
        payload_in_metadata: PAYLOAD.to_owned(),
        // Routes may be chosen by claims, which are known only now.
        clear_route_cache: true,
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: spaced,
        }),
        claim_to_headers: rule.output_claim_to_headers.iter().map(claim).collect(),
        jwks_source_specifier: Some(keys(rule)),
        ..Default::default()
    }
}

/// The issuer's keys. Where none are known, a source that never answers: no token of the issuer is valid then, and there is
/// no key that anybody could know.
fn keys(rule: &JwtRule) -> JwksSourceSpecifier {
    if !rule.jwks.is_empty() {
        return JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(Specifier::InlineString(rule.jwks.clone())),
            ..Default::default()
        });
    }
    JwksSourceSpecifier::RemoteJwks(RemoteJwks {
        http_uri: Some(HttpUri {
            uri: "http://jwks.invalid/".to_owned(),
            timeout: seconds(1),
            http_upstream_type: Some(HttpUpstreamType::Cluster(names::BLACK_HOLE_CLUSTER.to_owned())),
        }),
        ..Default::default()
    })
}
