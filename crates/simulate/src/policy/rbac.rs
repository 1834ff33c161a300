//! Envoy's RBAC, whose answers may stay open where a rule reads what is not known here.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac, permission::Rule, principal::Identifier, rbac::Action,
};
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};
use envoy_types::pb::google::protobuf::Any;
use regex::Regex;

use super::{all, any, metadata, not};
use crate::address::within;
use crate::call::Call;
use crate::http::header;
use crate::resources::unpack;
use crate::strings;

/// What a set of rules decides.
pub(super) struct Decision {
    /// None where that cannot be said here.
    pub(super) allows: Option<bool>,
    pub(super) text: String,
}

pub(super) fn decide(rules: Option<&Rbac>, call: &Call) -> Decision {
    let Some(rules) = rules else {
        return Decision {
            allows: Some(true),
            text: "no rules".to_owned(),
        };
    };
    let action = Action::try_from(rules.action).unwrap_or(Action::Deny);
    let (found, name) = matching(&rules.policies, call);
    let (allows, text) = match (action, found) {
        (Action::Log, _) => (Some(true), "logs only".to_owned()),
        (Action::Allow, Some(true)) => (Some(true), format!("allowed by {name}")),
        (Action::Allow, Some(false)) => (Some(false), "no rule allows it".to_owned()),
        (Action::Deny, Some(true)) => (Some(false), format!("denied by {name}")),
        (Action::Deny, Some(false)) => (Some(true), "no rule denies it".to_owned()),
        (_, None) => (None, format!("{name} cannot be decided here, taken to allow")),
    };
    Decision { allows, text }
}

/// Whether a policy matches, and which: the first by name that does, or whose answer stays open.
fn matching(policies: &HashMap<String, Policy>, call: &Call) -> (Option<bool>, String) {
    let mut sorted: Vec<_> = policies.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(b.0));
    let answers: Vec<_> = sorted
        .iter()
        .map(|(name, policy)| (matches(policy, call), *name))
        .collect();
    let named = |answer| {
        let found = answers.iter().find(|(own, _)| *own == answer);
        found.map(|(_, name)| (answer, (*name).clone()))
    };
    named(Some(true))
        .or_else(|| named(None))
        .unwrap_or((Some(false), String::new()))
}

fn matches(policy: &Policy, call: &Call) -> Option<bool> {
    let condition = policy.condition.is_some() || policy.checked_condition.is_some();
    all([
        any(policy.permissions.iter().map(|rule| permission(rule, call))),
        any(policy.principals.iter().map(|id| principal(id, call))),
        if condition { None } else { Some(true) },
    ])
}

#[allow(deprecated, reason = "old forms are still accepted by Envoy")]
fn permission(rule: &Permission, call: &Call) -> Option<bool> {
    match rule.rule.as_ref()? {
        Rule::Any(yes) => Some(*yes),
        Rule::AndRules(set) => all(set.rules.iter().map(|rule| permission(rule, call))),
        Rule::OrRules(set) => any(set.rules.iter().map(|rule| permission(rule, call))),
        Rule::NotRule(inner) => not(permission(inner, call)),
        Rule::Header(matcher) => header(matcher, call),
        Rule::UrlPath(matcher) => url_path(matcher, call),
        Rule::DestinationIp(range) => Some(within(range, call.address)),
        Rule::DestinationPort(port) => Some(*port == u32::from(call.port)),
        Rule::DestinationPortRange(range) => Some((range.start..range.end).contains(&i32::from(call.port))),
        Rule::Metadata(matcher) => metadata(matcher, call),
        Rule::SourcedMetadata(sourced) => metadata(sourced.metadata_matcher.as_ref()?, call),
        Rule::RequestedServerName(matcher) => strings::matches(matcher, &call.server_name()),
        Rule::UriTemplate(extension) => {
            Some(template(extension.typed_config.as_ref()?)?.is_match(call.bare_path()))
        }
        Rule::Matcher(_) => None,
    }
}

#[allow(deprecated, reason = "old forms are still accepted by Envoy")]
fn principal(id: &Principal, call: &Call) -> Option<bool> {
    match id.identifier.as_ref()? {
        Identifier::Any(yes) => Some(*yes),
        Identifier::AndIds(set) => all(set.ids.iter().map(|id| principal(id, call))),
        Identifier::OrIds(set) => any(set.ids.iter().map(|id| principal(id, call))),
        Identifier::NotId(inner) => not(principal(inner, call)),
        Identifier::Authenticated(wanted) => authenticated(wanted.principal_name.as_ref(), call),
        Identifier::SourceIp(range) | Identifier::DirectRemoteIp(range) | Identifier::RemoteIp(range) => {
            Some(within(range, call.source))
        }
        Identifier::Header(matcher) => header(matcher, call),
        Identifier::UrlPath(matcher) => url_path(matcher, call),
        Identifier::Metadata(matcher) => metadata(matcher, call),
        Identifier::SourcedMetadata(sourced) => metadata(sourced.metadata_matcher.as_ref()?, call),
        Identifier::FilterState(_) | Identifier::Custom(_) => None,
    }
}

/// Whether the client's certificate has the name.
fn authenticated(wanted: Option<&StringMatcher>, call: &Call) -> Option<bool> {
    match (&call.principal, wanted) {
        (None, _) => Some(false),
        (Some(_), None) => Some(true),
        (Some(own), Some(wanted)) => strings::matches(wanted, own),
    }
}

fn url_path(matcher: &PathMatcher, call: &Call) -> Option<bool> {
    match matcher.rule.as_ref()? {
        path_matcher::Rule::Path(wanted) => strings::matches(wanted, call.bare_path()),
    }
}

/// A URI template as a regular expression: `*` is one segment, `**` any number.
pub(crate) fn template(config: &Any) -> Option<Regex> {
    let template: UriTemplateMatchConfig = unpack(config)?;
    let mut pattern = String::from("^");
    for part in template.path_template.split_inclusive('/') {
        let (part, slash) = part.strip_suffix('/').map_or((part, ""), |part| (part, "/"));
        match part.trim_start_matches('{').trim_end_matches('}') {
            "**" => pattern.push_str(".*"),
            "*" => pattern.push_str("[^/]+"),
            _ => pattern.push_str(&regex::escape(part)),
        }
        pattern.push_str(slash);
    }
    pattern.push('$');
    strings::compile(&pattern)
}
