//! The patterns of AuthorizationPolicies: exact, `prefix*`, `*suffix`, and `*` for present.

use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;

use crate::wire::{exact, prefix, regex_match, suffix};

/// A pattern of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern<'a> {
    /// Any value, but there must be one.
    Present,
    /// The whole value.
    Exact(&'a str),
    /// The value's beginning.
    Prefix(&'a str),
    /// The value's end.
    Suffix(&'a str),
}

impl<'a> Pattern<'a> {
    pub(super) fn parse(text: &'a str) -> Pattern<'a> {
        if text == "*" {
            Pattern::Present
        } else if let Some(rest) = text.strip_prefix('*') {
            Pattern::Suffix(rest)
        } else if let Some(rest) = text.strip_suffix('*') {
            Pattern::Prefix(rest)
        } else {
            Pattern::Exact(text)
        }
    }

    /// As a comparison of strings.
    pub(super) fn matcher(self) -> StringMatcher {
        match self {
            // `.` takes no byte that is not UTF-8, and a rule must see those too.
            Pattern::Present => regex_match(r"\C+"),
            Pattern::Exact(text) => exact(text),
            Pattern::Prefix(text) => prefix(text),
            Pattern::Suffix(text) => suffix(text),
        }
    }
}

/// A header compared with a pattern.
pub(super) fn header(name: &str, pattern: Pattern<'_>) -> HeaderMatcher {
    let specifier = match pattern {
        Pattern::Present => HeaderMatchSpecifier::PresentMatch(true),
        pattern => HeaderMatchSpecifier::StringMatch(pattern.matcher()),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

/// A header of which one value matches, values that commas part counted each (RFC 9110, section 5.3: a list may come in one line
/// or in several, which [`crate::lines`] has made one).
pub(super) fn header_with_one(name: &str, pattern: Pattern<'_>) -> HeaderMatcher {
    let (before, after) = (r"(?:\C*,)?[ \t]*", r"[ \t]*(?:,\C*)?");
    let expression = match pattern {
        Pattern::Present => return header(name, pattern),
        Pattern::Exact(text) => format!("{before}{}{after}", quoted(text)),
        Pattern::Prefix(text) => format!(r"{before}{}\C*", quoted(text)),
        Pattern::Suffix(text) => format!(r"\C*{}{after}", quoted(text)),
    };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(regex_match(&expression))),
        ..Default::default()
    }
}

/// The request's host compared with a pattern: case, a port and a final dot make no difference, unless the pattern names a
/// port itself. Where a match refuses, neither do other spellings that servers take for the same host (RFC 3986, section 3.2):
/// an empty port or one that is no number, several final dots, something before an `@`; and each of several `Host` lines,
/// which Envoy joins by commas, counts (ISTIO-SECURITY-2021-008).
pub(super) fn host(pattern: &str, refuses: bool) -> HeaderMatcher {
    let named_port = model::host::without_port(pattern) != pattern;
    let (before, end) = match (refuses, named_port) {
        (false, false) => ("", r"\.?(:[0-9]+)?"),
        (false, true) => ("", ""),
        (true, false) => (r"(?:\C*[@,])?[ \t]*", r"\.*(?:[:,]\C*)?"),
        (true, true) => (r"(?:\C*[@,])?[ \t]*", r"(?:,\C*)?"),
    };
    let expression = match Pattern::parse(pattern) {
        Pattern::Present => return header(":authority", Pattern::Present),
        Pattern::Exact(text) => format!("(?i){before}{}{end}", quoted(text)),
        Pattern::Prefix(text) => format!(r"(?i){before}{}\C*", quoted(text)),
        Pattern::Suffix(text) => format!(r"(?i)\C*{}{end}", quoted(text)),
    };
    HeaderMatcher {
        name: ":authority".to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(regex_match(&expression))),
        ..Default::default()
    }
}

/// `text` as a regular expression that matches it alone (RE2's QuoteMeta).
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        assert_eq!(Pattern::parse("*"), Pattern::Present);
        assert_eq!(Pattern::parse("/a*"), Pattern::Prefix("/a"));
        assert_eq!(Pattern::parse("*.css"), Pattern::Suffix(".css"));
        assert_eq!(Pattern::parse("/a"), Pattern::Exact("/a"));
    }

    #[test]
    fn hosts_are_quoted() {
        let expression = |pattern: &str, refuses| host(pattern, refuses).header_match_specifier.unwrap();
        for (pattern, refuses, expected) in [
            ("a.b", false, r"(?i)a\.b\.?(:[0-9]+)?"),
            ("a.b:80", false, r"(?i)a\.b\:80"),
            ("a.b", true, r"(?i)(?:\C*[@,])?[ \t]*a\.b\.*(?:[:,]\C*)?"),
            ("a.b:80", true, r"(?i)(?:\C*[@,])?[ \t]*a\.b\:80(?:,\C*)?"),
        ] {
            let expected = HeaderMatchSpecifier::StringMatch(regex_match(expected));
            assert_eq!(expression(pattern, refuses), expected);
        }
    }
}
