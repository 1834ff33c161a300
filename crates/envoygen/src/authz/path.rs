//! Paths as rules compare them. Envoy has normalised them before (RFC 3986, section 6.2.2: dot segments, escapes of unreserved
//! characters; escaped and repeated slashes besides), but some spellings stay apart that applications read as one. A match that
//! refuses must see all of them; a match that lets in sees the one that is written.

use std::fmt::Write;

use config::security::{Action, AuthorizationPolicy, Rule as PolicyRule};
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::rbac::v3::{self as pb, Permission, permission::Rule};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};
use model::Policy;

use super::matching::{Pattern, quoted};
use super::{all_of, is_trial, permission_of};
use crate::filter;
use crate::wire::{any, plain_any, regex_match};

/// What a path has left when a dot segment with parameters was escaped: `/x/%2e%2e;/admin` comes out of Envoy 1.40 as
/// `/x/..;/admin`, which servers that know parameters of segments (Tomcat, for one) take for `/admin`. Unescaped ones are removed
/// by Envoy as other dot segments are.
const LEFT_OVER: &str = r"\C*/\.\.?(?:;|%3[bB])\C*";
/// The name of the refusal of such paths, in Envoy's logs.
const GUARD: &str = "argosy-dot-segment-with-parameters";

/// A path without query: exact, prefix, suffix, or a template with `{*}` (one segment) and `{**}` (any). Where a match refuses,
/// an escape and the character that it stands for are one (RFC 3986, section 2.1).
pub(super) fn path(value: &str, refuses: bool) -> Permission {
    if refuses && has_spellings(value) {
        return compared(regex_match(&any_spelling(value)));
    }
    if !is_template(value) {
        return compared(Pattern::parse(value).matcher());
    }
    let template = value.replace("{**}", "**").replace("{*}", "*");
    let config = UriTemplateMatchConfig {
        path_template: template,
    };
    permission_of(Rule::UriTemplate(TypedExtensionConfig {
        name: "envoy.path.match.uri_template.uri_template_matcher".to_owned(),
        typed_config: Some(plain_any(&config)),
    }))
}

/// Refuses what is [`LEFT_OVER`], where one of these policies may refuse a request by its path.
pub(super) fn guard<'a>(
    policies: impl IntoIterator<Item = &'a Policy<AuthorizationPolicy>>,
) -> Option<HttpFilter> {
    let mut policies = policies.into_iter();
    if !policies.any(|policy| {
        policy.spec.action != Action::Audit && !is_trial(policy) && reads_paths(&policy.spec.rules)
    }) {
        return None;
    }
    let refusal = pb::Policy {
        permissions: vec![compared(regex_match(LEFT_OVER))],
        principals: vec![all_of(Vec::new())],
        ..Default::default()
    };
    let config = HttpRbac {
        rules: Some(pb::Rbac {
            action: pb::rbac::Action::Deny as i32,
            policies: [(GUARD.to_owned(), refusal)].into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(filter::http(filter::HTTP_RBAC, any(&config)))
}

fn reads_paths(rules: &[PolicyRule]) -> bool {
    let operations = rules.iter().flat_map(|rule| &rule.to);
    let mut operations = operations.filter_map(|to| to.operation.as_ref());
    operations.any(|operation| !operation.paths.is_empty() || !operation.not_paths.is_empty())
}

fn compared(matcher: StringMatcher) -> Permission {
    permission_of(Rule::UrlPath(PathMatcher {
        rule: Some(path_matcher::Rule::Path(matcher)),
    }))
}

fn is_template(value: &str) -> bool {
    value.contains("{*}") || value.contains("{**}")
}

/// The parts of a value in which it is not a wildcard.
fn literals(value: &str) -> impl Iterator<Item = &str> {
    let parts: Vec<&str> = match is_template(value) {
        true => value.split('/').filter(|part| !is_template(part)).collect(),
        false => vec![
            value
                .strip_prefix('*')
                .or_else(|| value.strip_suffix('*'))
                .unwrap_or(value),
        ],
    };
    parts.into_iter()
}

/// Whether a path can spell a value in more than one way even when it is normalised.
fn has_spellings(value: &str) -> bool {
    let plain = |byte: u8| byte == b'/' || is_unreserved(byte);
    literals(value).any(|part| !part.bytes().all(plain))
}

/// A value as an expression for all spellings of it.
fn any_spelling(value: &str) -> String {
    if is_template(value) {
        let part = |part: &str| match part {
            "{*}" => "[^/]+".to_owned(),
            "{**}" => r"\C*".to_owned(),
            part => spellings(part),
        };
        return value.split('/').map(part).collect::<Vec<_>>().join("/");
    }
    match Pattern::parse(value) {
        Pattern::Present => r"\C+".to_owned(),
        Pattern::Exact(text) => spellings(text),
        Pattern::Prefix(text) => spellings(text) + r"\C*",
        Pattern::Suffix(text) => format!(r"\C*{}", spellings(text)),
    }
}

/// A text in which each character that is not unreserved may stand for itself or be escaped, in digits of either case. Escapes
/// in it are taken for their characters; a backslash is a slash, as Envoy makes it.
fn spellings(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let escaped = escaped(rest);
        spell(escaped.unwrap_or(*first), &mut out);
        rest = if escaped.is_some() {
            rest.get(3..).unwrap_or_default()
        } else {
            more
        };
    }
    out
}

fn spell(byte: u8, out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match byte {
        b'/' | b'\\' => write!(out, "/"),
        byte if is_unreserved(byte) => write!(out, "{}", quoted(&char::from(byte).to_string())),
        byte if byte.is_ascii_graphic() => write!(out, r"(?:\{}|(?i:%{byte:02x}))", char::from(byte)),
        byte => write!(out, "(?i:%{byte:02x})"),
    };
}

/// The byte that an escape at the start of a text stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(text.strip_prefix(b"%")?.get(..2)?).ok()?;
    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// RFC 3986, section 2.3: what Envoy leaves unescaped.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_paths_have_one_spelling() {
        for value in ["*", "/admin", "/a-b_c~d.e/*", "*.css", "/a/{*}/b/{**}"] {
            assert!(!has_spellings(value), "{value}");
        }
        for value in ["/v1/x:delete", "/a%2fb", "/{*}/x@y", "*+x", "/caf\u{e9}"] {
            assert!(has_spellings(value), "{value}");
        }
    }

    #[test]
    fn all_spellings_are_refused() {
        let expected = |value: &str, expression: &str| assert_eq!(any_spelling(value), expression, "{value}");
        expected("/x:y*", r"/x(?:\:|(?i:%3a))y\C*");
        expected("*+.c", r"\C*(?:\+|(?i:%2b))\.c");
        expected("/caf%C3%a9", r"/caf(?i:%c3)(?i:%a9)");
        expected("/%61%2fb\\c", "/a/b/c");
        expected("/{*}/x@y/{**}", r"/[^/]+/x(?:\@|(?i:%40))y/\C*");
        // RE2 takes them, and they mean what they should.
        let all = regex::Regex::new(&format!("^{}$", any_spelling("/a b"))).unwrap();
        assert!(all.is_match("/a%20b") && !all.is_match("/a+b"));
    }
}
