//! Whether a request has the token that the JWT filter demands. Signatures are not checked: a call's claims are those of a
//! token that is valid.

use envoy_types::pb::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtRequirement, jwt_requirement::RequiresType, requirement_rule::RequirementType,
};

use crate::call::Call;

/// Whether a request satisfies the first rule that is about it; none where that cannot be said here.
pub(super) fn satisfied(tokens: &JwtAuthentication, call: &Call) -> Option<bool> {
    for rule in &tokens.rules {
        match crate::http::matches(rule.r#match.as_ref(), call) {
            Some(true) => {}
            Some(false) => continue,
            None => return None,
        }
        return match &rule.requirement_type {
            None => Some(true),
            Some(RequirementType::Requires(requirement)) => Some(meets(tokens, requirement, call)),
            Some(RequirementType::RequirementName(name)) => {
                Some(meets(tokens, tokens.requirement_map.get(name)?, call))
            }
        };
    }
    Some(true)
}

fn meets(tokens: &JwtAuthentication, requirement: &JwtRequirement, call: &Call) -> bool {
    let provider = |name: &str| {
        let issuer = tokens
            .providers
            .get(name)
            .map(|provider| provider.issuer.as_str());
        let own = call
            .claims
            .as_ref()
            .and_then(|claims| claims.get("iss"))
            .and_then(|iss| iss.as_str());
        call.claims.is_some() && issuer.is_some_and(|issuer| issuer.is_empty() || own == Some(issuer))
    };
    match &requirement.requires_type {
        None | Some(RequiresType::AllowMissingOrFailed(_)) => true,
        Some(RequiresType::ProviderName(name)) => provider(name),
        Some(RequiresType::ProviderAndAudiences(with)) => provider(&with.provider_name),
        Some(RequiresType::RequiresAny(list)) => list
            .requirements
            .iter()
            .any(|requirement| meets(tokens, requirement, call)),
        Some(RequiresType::RequiresAll(list)) => list
            .requirements
            .iter()
            .all(|requirement| meets(tokens, requirement, call)),
        Some(RequiresType::AllowMissing(_)) => call.claims.is_none(),
        Some(_) => false,
    }
}
