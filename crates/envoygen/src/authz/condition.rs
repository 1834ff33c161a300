//! Further conditions of a rule: `when`, by attribute.

use config::security::Condition;
use envoy_types::pb::envoy::config::rbac::v3::{
    Permission, Principal, SourcedMetadata, permission::Rule, principal::Identifier,
};
use envoy_types::pb::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, StringMatcher, ValueMatcher, list_matcher,
    metadata_matcher::PathSegment, metadata_matcher::path_segment::Segment, value_matcher::MatchPattern,
};

use super::matching::{self, Pattern};
use super::principal::{both, of_namespace, of_trust_domain};
use super::{Compiler, not_principal, one_of, permission, permission_of, principal_of};
use crate::filter;
use crate::wire::cidr;

/// Where the JWT filter leaves a verified token's claims.
pub(crate) const PAYLOAD: &str = "payload";

impl Compiler<'_> {
    /// The conditions on the caller and those on the request; `None` if one cannot be expressed, or is not known, and the
    /// rule must not match without it.
    pub(super) fn conditions(
        &self,
        namespace: &str,
        when: &[Condition],
    ) -> Option<(Vec<Principal>, Vec<Permission>)> {
        let (mut callers, mut requests) = (Vec::new(), Vec::new());
        for condition in when {
            let known = self
                .on_request(condition, &mut requests)
                .or_else(|| self.on_caller(namespace, condition, &mut callers));
            if known.is_none() && self.strict() {
                return None;
            }
        }
        Some((callers, requests))
    }

    fn on_request(&self, condition: &Condition, out: &mut Vec<Permission>) -> Option<()> {
        let make: fn(&str) -> Option<Permission> = match condition.key.as_str() {
            "destination.ip" => |value| Some(permission_of(Rule::DestinationIp(cidr(value)?))),
            "destination.port" => permission::port,
            "connection.sni" => |value| {
                Some(permission_of(Rule::RequestedServerName(
                    Pattern::parse(value).matcher(),
                )))
            },
            _ => return None,
        };
        permission::push(&condition.values, &condition.not_values, make, out)
    }

    fn on_caller(&self, namespace: &str, condition: &Condition, out: &mut Vec<Principal>) -> Option<()> {
        let (values, not_values) = (&condition.values, &condition.not_values);
        match condition.key.as_str() {
            "source.ip" => return self.addresses(values, not_values, Identifier::DirectRemoteIp, out),
            "remote.ip" => return self.addresses(values, not_values, Identifier::RemoteIp, out),
            "source.principal" => self.identity(values, not_values, &|value| self.principal(value), out),
            "source.namespace" => self.identity(values, not_values, &|value| vec![of_namespace(value)], out),
            "source.serviceAccount" => {
                self.identity(
                    values,
                    not_values,
                    &|value| self.service_account(namespace, value),
                    out,
                );
            }
            "source.trustDomain" => {
                self.identity(values, not_values, &|value| vec![of_trust_domain(value)], out);
            }
            "request.auth.principal" => return self.request_principals(values, not_values, out),
            key => match filter_metadata(key) {
                Some((filter, name)) => of_filter(filter, name, values, not_values, out),
                None => return self.on_headers_and_claims(key, condition, out),
            },
        }
        Some(())
    }

    fn on_headers_and_claims(
        &self,
        key: &str,
        condition: &Condition,
        out: &mut Vec<Principal>,
    ) -> Option<()> {
        if self.tcp {
            return None;
        }
        let (values, not_values) = (&condition.values, &condition.not_values);
        if let Some(name) = bracketed(key, "request.headers") {
            // Of a list one value is enough to be refused.
            let make = |refuses: bool| {
                let compare = if refuses {
                    matching::header_with_one
                } else {
                    matching::header
                };
                move |value: &String| principal_of(Identifier::Header(compare(name, Pattern::parse(value))))
            };
            if !values.is_empty() {
                out.push(one_of(values.iter().map(make(!self.strict())).collect()));
            }
            if !not_values.is_empty() {
                let all = not_values.iter().map(make(self.strict())).collect();
                out.push(not_principal(one_of(all)));
            }
            return Some(());
        }
        let path: Vec<&str> = match key {
            "request.auth.audiences" => vec!["aud"],
            "request.auth.presenter" => vec!["azp"],
            key => nested(key.strip_prefix("request.auth.claims")?)?,
        };
        if !values.is_empty() {
            out.push(claim(&path, values));
        }
        if !not_values.is_empty() {
            if self.strict() {
                out.push(request_principal("*"));
            }
            out.push(not_principal(claim(&path, not_values)));
        }
        Some(())
    }
}

/// What such keys begin with; what follows is the filter's name.
const EXPERIMENTAL: &str = "experimental.";

/// The filter and the name in `experimental.envoy.filters.…[NAME]`: what a filter before left in dynamic metadata.
fn filter_metadata(key: &str) -> Option<(&str, &str)> {
    let (filter, name) = key
        .strip_prefix(EXPERIMENTAL)?
        .strip_suffix(']')?
        .split_once('[')?;
    (filter.starts_with("envoy.filters.") && !name.is_empty()).then_some((filter, name))
}

/// A filter's metadata; a value in brackets is looked for in a list (Istio).
fn of_filter(filter: &str, name: &str, values: &[String], not_values: &[String], out: &mut Vec<Principal>) {
    let string = |text: &str| MatchPattern::StringMatch(Pattern::parse(text).matcher());
    let make = |value: &String| {
        let item = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let pattern = match item {
            None => string(value),
            Some(item) => MatchPattern::ListMatch(Box::new(ListMatcher {
                match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(ValueMatcher {
                    match_pattern: Some(string(item)),
                }))),
            })),
        };
        let value = ValueMatcher {
            match_pattern: Some(pattern),
        };
        metadata_of(filter, &[name], value)
    };
    if !values.is_empty() {
        out.push(one_of(values.iter().map(make).collect()));
    }
    if !not_values.is_empty() {
        out.push(not_principal(one_of(not_values.iter().map(make).collect())));
    }
}

/// A token's issuer and subject: `ISSUER/SUBJECT`, where either may be a pattern (`*` for any).
pub(super) fn request_principal(value: &str) -> Principal {
    let any = Pattern::Present;
    let (issuer, subject) = match (value, value.rsplit_once('/')) {
        ("*", _) => (any, any),
        (_, Some((issuer, subject))) if value.starts_with('*') => {
            (Pattern::parse(issuer), Pattern::Exact(subject))
        }
        (_, None) if value.starts_with('*') => (any, Pattern::parse(value)),
        (_, Some((issuer, subject))) => (Pattern::Exact(issuer), Pattern::parse(subject)),
        (_, None) if value.ends_with('*') => (Pattern::parse(value), any),
        (_, None) => (Pattern::Exact(value), Pattern::Exact("")),
    };
    both(vec![
        claim_string("iss", issuer.matcher()),
        claim_string("sub", subject.matcher()),
    ])
}

fn claim_string(name: &str, matcher: StringMatcher) -> Principal {
    metadata(
        &[name],
        ValueMatcher {
            match_pattern: Some(MatchPattern::StringMatch(matcher)),
        },
    )
}

/// A claim that is one of these values, or a list that holds one.
fn claim(path: &[&str], values: &[String]) -> Principal {
    let string = |value: &String| ValueMatcher {
        match_pattern: Some(MatchPattern::StringMatch(Pattern::parse(value).matcher())),
    };
    let alternatives = values.iter().flat_map(|value| {
        let item = list_matcher::MatchPattern::OneOf(Box::new(string(value)));
        let list = MatchPattern::ListMatch(Box::new(ListMatcher {
            match_pattern: Some(item),
        }));
        [
            string(value),
            ValueMatcher {
                match_pattern: Some(list),
            },
        ]
    });
    let or = OrMatcher {
        value_matchers: alternatives.collect(),
    };
    metadata(
        path,
        ValueMatcher {
            match_pattern: Some(MatchPattern::OrMatch(or)),
        },
    )
}

fn metadata(path: &[&str], value: ValueMatcher) -> Principal {
    let path: Vec<&str> = std::iter::once(PAYLOAD).chain(path.iter().copied()).collect();
    metadata_of(filter::JWT, &path, value)
}

fn metadata_of(filter: &str, path: &[&str], value: ValueMatcher) -> Principal {
    let segment = |key: &&str| PathSegment {
        segment: Some(Segment::Key((*key).to_owned())),
    };
    let matcher = MetadataMatcher {
        filter: filter.to_owned(),
        path: path.iter().map(segment).collect(),
        value: Some(value),
        ..Default::default()
    };
    principal_of(Identifier::SourcedMetadata(SourcedMetadata {
        metadata_matcher: Some(matcher),
        metadata_source: 0,
    }))
}

/// `X` of `name[X]`.
pub(super) fn bracketed<'a>(key: &'a str, name: &str) -> Option<&'a str> {
    key.strip_prefix(name)?
        .strip_prefix('[')?
        .strip_suffix(']')
        .filter(|inner| !inner.is_empty())
}

/// The names in `[a][b]`.
fn nested(text: &str) -> Option<Vec<&str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let names: Vec<&str> = inner.split("][").collect();
    (!names
        .iter()
        .any(|name| name.is_empty() || name.contains(['[', ']'])))
    .then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(
            filter_metadata("experimental.envoy.filters.network.mysql_proxy[db.table]"),
            Some(("envoy.filters.network.mysql_proxy", "db.table"))
        );
        assert_eq!(filter_metadata("experimental.envoy.filters.a"), None);
        assert_eq!(bracketed("request.headers[x-a]", "request.headers"), Some("x-a"));
        assert_eq!(bracketed("request.headers[]", "request.headers"), None);
        assert_eq!(nested("[a][b]"), Some(vec!["a", "b"]));
        assert_eq!(nested("[a]b]"), None);
        assert_eq!(nested("a"), None);
    }
}
