//! What of Mixer's rules the proxy decides by itself: RBAC filters that refuse, and the answers of those refusals.
//!
//! The filter's own answer is fixed (403, "RBAC: access denied"), but the response's code details name the policy that matched.
//! By that name the connection manager's local reply configuration gives the status, the body and the headers of Mixer's.

use std::collections::{BTreeSet, HashMap};

use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, SubstitutionFormatString, data_source,
    header_value_option::HeaderAppendAction, substitution_format_string::Format,
};
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac, permission, rbac::Action,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, ResponseMapper,
};
use envoy_types::pb::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    MetadataMatcher, ValueMatcher,
    metadata_matcher::{PathSegment, path_segment::Segment},
    value_matcher::MatchPattern,
};
use policy::{BodyPart, Bucket, Check, Fact, HeaderChange, Matcher, Mutation, Refusal, Requirements};

use super::matcher::principal;
use crate::filter;
use crate::lines;
use crate::telemetry::logs::cel;
use crate::wire::{any, u32_value};

/// Where RBAC filters leave what their shadow rules say (its documentation, "Dynamic Metadata").
pub(super) const RBAC_METADATA: &str = "envoy.filters.http.rbac";
/// The key, behind a filter's own prefix, under which a shadow policy that matched is named.
pub(super) const SHADOW_POLICY: &str = "shadow_effective_policy_id";
/// Name of the shadow policy that matches requests which are marked.
pub(super) const ASKED: &str = "asked";

/// The filter that joins the values of repeated headers by commas, as Mixer sees them: RBAC would try each value by itself
/// (`envoy.reloadable_features.rbac_match_headers_individually`). None where no matcher reads a header.
pub(crate) fn joined(asks: &Requirements, checks: &[Check]) -> Option<HttpFilter> {
    let refused = asks.refusals.iter().map(|refusal| &refusal.when);
    let asked = checks.iter().map(|check| &check.when);
    let changed = asks.mutations.iter().flat_map(Mutation::conditions);
    let counted = asks.buckets.iter().flat_map(Bucket::conditions);
    let matchers = refused.chain(asked).chain(changed).chain(counted);
    let headers: BTreeSet<String> = matchers.flat_map(Matcher::headers).map(str::to_owned).collect();
    lines::joined("envoy.filters.http.header_mutation.mixer", &headers)
}

/// The filter that refuses HTTP requests; none if nothing is refused.
pub(crate) fn http_filter(refusals: &[Refusal]) -> Option<HttpFilter> {
    let config = HttpRbac {
        rules: Some(denies(refusals)?),
        rules_stat_prefix: "mixer_".to_owned(),
        ..Default::default()
    };
    Some(filter::http(
        &format!("{}.mixer", filter::HTTP_RBAC),
        any(&config),
    ))
}

/// The filter that refuses other connections, by closing them; none if nothing is refused.
pub(crate) fn network_filter(refusals: &[Refusal]) -> Option<Filter> {
    let config = NetworkRbac {
        rules: Some(denies(refusals)?),
        stat_prefix: "mixer_".to_owned(),
        ..Default::default()
    };
    Some(filter::network(
        &format!("{}.mixer", filter::NETWORK_RBAC),
        any(&config),
    ))
}

/// The filter that marks the requests about which Mixer is asked; none where it is asked about all.
pub(crate) fn marker(check: &Check) -> Option<HttpFilter> {
    let name = super::check::mode(check);
    (check.when != Matcher::Always).then(|| marking(name, prefix(check), &check.when))
}

/// A filter that marks the requests for which a condition holds, under a prefix of its own.
pub(super) fn marking(name: &str, prefix: String, when: &Matcher) -> HttpFilter {
    let rules = Rbac {
        action: Action::Deny as i32,
        policies: HashMap::from([(ASKED.to_owned(), policy(when))]),
        ..Default::default()
    };
    let config = HttpRbac {
        shadow_rules: Some(rules),
        shadow_rules_stat_prefix: prefix,
        ..Default::default()
    };
    filter::http(&format!("{}.mixer-{name}", filter::HTTP_RBAC), any(&config))
}

/// When a marked request is one.
pub(crate) fn marked(check: &Check) -> Option<MetadataMatcher> {
    let key = format!("{}{SHADOW_POLICY}", prefix(check));
    (check.when != Matcher::Always).then(|| MetadataMatcher {
        filter: RBAC_METADATA.to_owned(),
        path: vec![PathSegment {
            segment: Some(Segment::Key(key)),
        }],
        value: Some(ValueMatcher {
            match_pattern: Some(MatchPattern::PresentMatch(true)),
        }),
        ..Default::default()
    })
}

fn prefix(check: &Check) -> String {
    format!("mixer_{}_", super::check::mode(check))
}

/// Deny rules in order: Envoy tries policies by the order of their names.
fn denies(refusals: &[Refusal]) -> Option<Rbac> {
    let policies = refusals.iter().enumerate();
    let policies: HashMap<_, _> = policies
        .map(|(index, refusal)| (name(index, refusal), policy(&refusal.when)))
        .collect();
    (!policies.is_empty()).then(|| Rbac {
        action: Action::Deny as i32,
        policies,
        ..Default::default()
    })
}

fn name(index: usize, refusal: &Refusal) -> String {
    format!("mixer-{index:06}-{}", refusal.rule)
}

fn policy(when: &Matcher) -> Policy {
    Policy {
        permissions: vec![Permission {
            rule: Some(permission::Rule::Any(true)),
        }],
        principals: vec![Principal {
            identifier: Some(principal(when)),
        }],
        ..Default::default()
    }
}

/// The answers of refusals.
pub(crate) fn replies(refusals: &[Refusal]) -> Vec<ResponseMapper> {
    let reply = |(index, refusal): (usize, &Refusal)| {
        let name = name(index, refusal);
        let details = format!("response.code_details == 'rbac_access_denied_matched_policy[{name}]'");
        let (body, format) = body(&refusal.body);
        ResponseMapper {
            filter: Some(cel(&details)),
            status_code: u32_value(u32::from(refusal.http_status)),
            body,
            body_format_override: format,
            headers_to_add: refusal.headers.iter().filter_map(header).collect(),
        }
    };
    refusals.iter().enumerate().map(reply).collect()
}

fn text(text: String) -> DataSource {
    DataSource {
        specifier: Some(data_source::Specifier::InlineString(text)),
        ..Default::default()
    }
}

/// A body as it is, or how it is made from the request.
fn body(parts: &[BodyPart]) -> (Option<DataSource>, Option<SubstitutionFormatString>) {
    if let [BodyPart::Text(fixed)] = parts {
        return (Some(text(fixed.clone())), None);
    }
    let part = |part: &BodyPart| match part {
        BodyPart::Text(text) => escaped(text),
        BodyPart::Fact(Fact::UrlPath) => "%CEL(request.url_path)%".to_owned(),
        BodyPart::Fact(Fact::Header(name)) => lines::value(name),
        BodyPart::Fact(Fact::PeerUri) => "%DOWNSTREAM_PEER_URI_SAN%".to_owned(),
        BodyPart::SourceIp => "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%".to_owned(),
    };
    let format = SubstitutionFormatString {
        format: Some(Format::TextFormatSource(text(parts.iter().map(part).collect()))),
        ..Default::default()
    };
    (None, Some(format))
}

/// Text that has no commands of formats.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

fn header(change: &HeaderChange) -> Option<HeaderValueOption> {
    let (key, value, action) = match change {
        HeaderChange::Replace(key, value) => (key, value, HeaderAppendAction::OverwriteIfExistsOrAdd),
        HeaderChange::Append(key, value) => (key, value, HeaderAppendAction::AppendIfExistsOrAdd),
        // Refusals have nothing to remove.
        HeaderChange::Remove(_) => return None,
    };
    Some(HeaderValueOption {
        header: Some(HeaderValue {
            key: key.clone(),
            value: escaped(value),
            ..Default::default()
        }),
        append_action: action as i32,
        ..Default::default()
    })
}
