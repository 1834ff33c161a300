//! Conditions of `policy` as principals of Envoy's RBAC, which has a matcher for each of their facts.

use envoy_types::pb::envoy::config::rbac::v3::{
    Principal,
    principal::{Authenticated, Identifier, Set},
};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};
use policy::{Fact, Matcher, Test};

use crate::wire::{cidr, exact, prefix, regex_match, suffix};

/// A condition as a principal.
pub(super) fn principal(matcher: &Matcher) -> Identifier {
    match matcher {
        Matcher::Always => Identifier::Any(true),
        Matcher::Never => not(Identifier::Any(true)),
        Matcher::All(parts) => Identifier::AndIds(set(parts.iter().map(principal))),
        Matcher::Any(parts) => Identifier::OrIds(set(parts.iter().map(principal))),
        Matcher::Not(inner) => not(principal(inner)),
        Matcher::Text(fact, test) => of_text(fact, test),
        Matcher::SourceIp(networks) if networks.is_empty() => not(Identifier::Any(true)),
        Matcher::SourceIp(networks) => {
            let networks = networks.iter().filter_map(|network| cidr(&network.to_string()));
            Identifier::OrIds(set(networks.map(Identifier::DirectRemoteIp)))
        }
    }
}

fn set(identifiers: impl Iterator<Item = Identifier>) -> Set {
    Set {
        ids: identifiers.map(wrapped).collect(),
    }
}

fn wrapped(identifier: Identifier) -> Principal {
    Principal {
        identifier: Some(identifier),
    }
}

fn not(identifier: Identifier) -> Identifier {
    Identifier::NotId(Box::new(wrapped(identifier)))
}

fn of_text(fact: &Fact, test: &Test) -> Identifier {
    match fact {
        Fact::Header(name) => Identifier::Header(HeaderMatcher {
            name: name.clone(),
            header_match_specifier: Some(match test {
                Test::Present => HeaderMatchSpecifier::PresentMatch(true),
                test => HeaderMatchSpecifier::StringMatch(string(test)),
            }),
            ..Default::default()
        }),
        Fact::UrlPath => Identifier::UrlPath(PathMatcher {
            rule: Some(path_matcher::Rule::Path(string(test))),
        }),
        Fact::PeerUri => Identifier::Authenticated(Authenticated {
            principal_name: Some(string(test)),
        }),
    }
}

fn string(test: &Test) -> StringMatcher {
    match test {
        Test::Present => regex_match("(?s:.)*"),
        Test::Exact(text) => exact(text),
        Test::Prefix(text) => prefix(text),
        Test::Suffix(text) => suffix(text),
        Test::Regex(pattern) => regex_match(pattern),
    }
}
