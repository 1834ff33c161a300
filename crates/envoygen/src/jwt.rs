//! RequestAuthentications as Envoy's JWT filter: a token that is sent must be valid; whether one must be sent is the business of
//! AuthorizationPolicies, which read the claims that this filter leaves in metadata.

use std::collections::BTreeMap;

use config::jwks::{self, Origin};
use config::security::{JwtRule, Presence};
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
use crate::selected::attaches;
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
        let mut rules: Vec<&JwtRule> = Vec::new();
        let root = snapshot.root_namespace();
        for policy in snapshot.policies().request(namespace, labels) {
            let targets = policy.spec.target_ref.iter().chain(&policy.spec.target_refs);
            if !attaches(targets, &policy.key, root, namespace, labels) {
                continue;
            }
            out.origins.push(policy.key.clone());
            for (index, rule) in policy.spec.jwt_rules.iter().enumerate() {
                if rule.jwks.is_empty() {
                    out.findings.push(no_keys(&policy.key, index, rule));
                }
                rules.push(rule);
            }
        }
        if !rules.is_empty() {
            out.filter = Some(filter::http(filter::JWT, any(&authentication(&rules))));
        }
        out
    }
}

/// Keys that are to be fetched come to Pilot as if they had been given inline, once Galley has them.
fn no_keys(key: &ObjectKey, index: usize, rule: &JwtRule) -> Finding {
    Finding::warning(format!(
        "there are no keys of {:?} yet: all its tokens are refused",
        rule.issuer
    ))
    .at(format!("spec.jwtRules[{index}].jwksUri"))
    .of(key.clone())
    .help("Galley says why it could not fetch them; or give the keys inline, in jwks")
}

fn authentication(rules: &[&JwtRule]) -> JwtAuthentication {
    let name = |index: usize| format!("origins-{index}");
    let named: Vec<(String, &JwtRule)> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| (name(index), *rule))
        .collect();
    let rule = RequirementRule {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        requirement_type: Some(RequirementType::Requires(required(&named))),
    };
    let provider = |(name, rule): (String, &JwtRule)| (name, provider(rule));
    JwtAuthentication {
        rules: vec![rule],
        providers: named.into_iter().map(provider).collect(),
        bypass_cors_preflight: true,
        ..Default::default()
    }
}

/// What tokens a request must have.
///
/// Where no rule demands one: a valid token of some issuer, or for each issuer a valid token or none (Istio's rule: issuers may
/// share the place where their tokens stand). Where rules have `presence: REQUIRED`: a valid token of each of those, and of the
/// others a valid token or none, unless they share a place with one that is demanded.
fn required(rules: &[(String, &JwtRule)]) -> JwtRequirement {
    let provider = |name: &str| requirement(RequiresType::ProviderName(name.to_owned()));
    let or_none = |name: &str| {
        any_of(vec![
            provider(name),
            requirement(RequiresType::AllowMissing(Default::default())),
        ])
    };
    let is_demanded = |rule: &JwtRule| rule.presence == Presence::Required;
    let demanded: Vec<&JwtRule> = rules
        .iter()
        .map(|(_, rule)| *rule)
        .filter(|r| is_demanded(r))
        .collect();
    if demanded.is_empty() {
        return match rules {
            [(only, _)] => or_none(only),
            several => {
                let each = all_of(several.iter().map(|(name, _)| or_none(name)).collect());
                let one = several.iter().map(|(name, _)| provider(name));
                any_of(one.chain([each]).collect())
            }
        };
    }
    let apart = |rule: &JwtRule| !demanded.iter().any(|other| shares_a_place(rule, other));
    let each = rules.iter().filter_map(|(name, rule)| match rule {
        rule if is_demanded(rule) => Some(provider(name)),
        rule => apart(rule).then(|| or_none(name)),
    });
    all_of(each.collect())
}

/// Whether two rules look for tokens at one place. Without a place a rule looks into the header `authorization` and the
/// parameter `access_token` (Istio, "JWTRule").
fn shares_a_place(a: &JwtRule, b: &JwtRule) -> bool {
    let places = |rule: &JwtRule| -> Vec<(u8, String, String)> {
        let headers = rule
            .from_headers
            .iter()
            .map(|h| (0, h.name.to_ascii_lowercase(), h.prefix.clone()));
        let params = rule.from_params.iter().map(|p| (1, p.clone(), String::new()));
        let cookies = rule.from_cookies.iter().map(|c| (2, c.clone(), String::new()));
        let given: Vec<_> = headers.chain(params).chain(cookies).collect();
        if given.is_empty() {
            vec![
                (0, "authorization".to_owned(), "Bearer ".to_owned()),
                (1, "access_token".to_owned(), String::new()),
            ]
        } else {
            given
        }
    };
    let others = places(b);
    places(a).iter().any(|place| others.contains(place))
}

/// All of several; the only one as it is, since Envoy wants two in a list.
fn all_of(mut requirements: Vec<JwtRequirement>) -> JwtRequirement {
    match requirements.len() {
        1 => requirements.remove(0),
        _ => requirement(RequiresType::RequiresAll(JwtRequirementAndList { requirements })),
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
        // Envoy refuses a whole set for one key that it cannot use.
        let keys = jwks::usable(rule.jwks.as_bytes(), Origin::Inline).unwrap_or_else(|_| rule.jwks.clone());
        return JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(Specifier::InlineString(keys)),
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
