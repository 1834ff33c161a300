//! Envoy's string matchers.

use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use regex::Regex;

/// Largest regular expression that is compiled, in bytes of its program (as `regex`'s default).
const MAX_REGEX: usize = 10 << 20;

/// Whether a text matches; none where that cannot be said here.
pub(crate) fn matches(matcher: &StringMatcher, text: &str) -> Option<bool> {
    let fold = |s: &str| {
        if matcher.ignore_case {
            s.to_ascii_lowercase()
        } else {
            s.to_owned()
        }
    };
    let own = fold(text);
    Some(match matcher.match_pattern.as_ref()? {
        MatchPattern::Exact(value) => own == fold(value),
        MatchPattern::Prefix(value) => own.starts_with(&fold(value)),
        MatchPattern::Suffix(value) => own.ends_with(&fold(value)),
        MatchPattern::Contains(value) => own.contains(&fold(value)),
        MatchPattern::SafeRegex(regex) => return full_match(regex, text),
        MatchPattern::Custom(_) => return None,
    })
}

/// Whether the whole text matches a regular expression; none if it is not one.
pub(crate) fn full_match(matcher: &RegexMatcher, text: &str) -> Option<bool> {
    compile(&format!("^(?:{})$", matcher.regex)).map(|regex| regex.is_match(text))
}

/// Compiles RE2's syntax.
pub(crate) fn compile(pattern: &str) -> Option<Regex> {
    let read = re2::parse_of_proxy(pattern).ok()?;
    regex::RegexBuilder::new(read.rust())
        .size_limit(MAX_REGEX)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: MatchPattern, ignore_case: bool, text: &str, expected: bool) {
        let matcher = StringMatcher {
            ignore_case,
            match_pattern: Some(pattern),
        };
        assert_eq!(matches(&matcher, text), Some(expected), "{matcher:?} on {text}");
    }

    #[test]
    fn patterns() {
        check(MatchPattern::Exact("a".into()), false, "A", false);
        check(MatchPattern::Exact("a".into()), true, "A", true);
        check(MatchPattern::Prefix("ab".into()), false, "abc", true);
        check(MatchPattern::Suffix("bc".into()), false, "abc", true);
        check(MatchPattern::Contains("b".into()), false, "abc", true);
        let regex = |r: &str| {
            MatchPattern::SafeRegex(RegexMatcher {
                regex: r.into(),
                ..Default::default()
            })
        };
        check(regex("a|b"), false, "ab", false);
        check(regex("a.*"), false, "abc", true);
        check(regex(r"(?:\C*,)?b"), false, "a\n,b", true);
        check(regex(r"\\C*"), false, r"\CC", true);
    }
}
