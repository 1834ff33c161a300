//! Paths as rules compare them. Envoy has normalised them before (RFC 3986, section 6.2.2: dot segments, escapes of unreserved
//! characters; escaped and repeated slashes besides), but some spellings stay apart that applications read as one. A match that
//! refuses must see all of them; a match that lets in sees the one that is written.

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

/// Most pieces of an expression: so many of the longest, and a proxy still takes it (`re2.max_program_size.error_level`).
const MOST_PIECES: usize = 2_000;
/// The slash in all its forms. Which of them reach an application depends on MeshConfig's `pathNormalization`.
const SLASHES: &str = r"(?:/|\\|(?i:%2f|%5c))";

/// A path without query: exact, prefix, suffix, or a template with `{*}` (one segment) and `{**}` (any). Where a match refuses,
/// an escape of the value and the character that it stands for are one (RFC 3986, section 2.1), as are a character of it that
/// has a meaning in URLs and its escape: whatever the mesh normalises. Letters and digits of the value stand for themselves alone,
/// so that under `NONE` `/%61dmin` gets around `/admin`: there, that is another path to applications too. A template is an
/// expression: Envoy's own templates take no `*`, `[` or `"` in a segment, which applications do.
pub(super) fn path(value: &str, refuses: bool) -> Permission {
    if refuses && (is_template(value) || has_spellings(value)) {
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

/// A value as an expression for all spellings of it. Of one that is too long the start must do: it refuses more, never less.
fn any_spelling(value: &str) -> String {
    let mut pieces = pieces(value);
    if pieces.len() > MOST_PIECES {
        pieces.truncate(MOST_PIECES);
        pieces.push(r"\C*".to_owned());
    }
    pieces.concat()
}

fn pieces(value: &str) -> Vec<String> {
    let any = || vec![r"\C*".to_owned()];
    if is_template(value) {
        let part = |part: &str| match part {
            "{*}" => vec!["[^/]+".to_owned()],
            "{**}" => any(),
            part => spellings(part),
        };
        let parts: Vec<Vec<String>> = value.split('/').map(part).collect();
        return parts.join(&"/".to_owned());
    }
    match Pattern::parse(value) {
        Pattern::Present => vec![r"\C+".to_owned()],
        Pattern::Exact(text) => spellings(text),
        Pattern::Prefix(text) => [spellings(text), any()].concat(),
        Pattern::Suffix(text) => [any(), spellings(text)].concat(),
    }
}

/// A text, byte for byte. What is escaped in it, and what is neither unreserved nor a slash, may stand for itself or be escaped,
/// in digits of either case; a backslash and an escaped slash are any slash. Each text is a spelling of itself.
fn spellings(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let escaped = escaped(rest);
        out.push(match escaped {
            None if *first == b'/' => "/".to_owned(),
            None if is_unreserved(*first) => quoted(&char::from(*first).to_string()),
            _ => any_form(escaped.unwrap_or(*first)),
        });
        rest = if escaped.is_some() {
            rest.get(3..).unwrap_or_default()
        } else {
            more
        };
    }
    out
}

/// A byte as itself or escaped.
fn any_form(byte: u8) -> String {
    match byte {
        b'/' | b'\\' => SLASHES.to_owned(),
        byte if byte.is_ascii_graphic() => {
            let plain = quoted(&char::from(byte).to_string());
            format!("(?:{plain}|(?i:%{byte:02x}))")
        }
        byte => format!(r"(?:\x{byte:02x}|(?i:%{byte:02x}))"),
    }
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
        expected("/caf%C3%a9", r"/caf(?:\xc3|(?i:%c3))(?:\xa9|(?i:%a9))");
        expected("/%61%2fb\\c", &format!("/(?:a|(?i:%61)){SLASHES}b{SLASHES}c"));
        expected("/a/{*}/b_c", r"/a/[^/]+/b_c");
        expected("/{*}/x@y/{**}", r"/[^/]+/x(?:\@|(?i:%40))y/\C*");
        // RE2 takes them, and they mean what they should.
        let all = regex::Regex::new(&format!("^{}$", any_spelling("/a b"))).unwrap();
        assert!(all.is_match("/a%20b") && !all.is_match("/a+b"));
    }

    /// Whether a policy that refuses by this value refuses this path.
    fn refuses(value: &str, path: &str) -> bool {
        let expression = re2::parse_of_proxy(&any_spelling(value)).unwrap();
        let whole = format!("^(?:{})$", expression.rust());
        regex::Regex::new(&whole).unwrap().is_match(path)
    }

    #[test]
    fn no_normalisation_hides_a_path_from_what_refuses() {
        // What comes out of NONE, BASE, MERGE_SLASHES, and DECODE_AND_MERGE_SLASHES.
        for (value, sent) in [
            ("/a%2fb", ["/a%2fb", "/a%2Fb", "/a%2fb", "/a/b"]),
            ("/a%5Cb*", ["/a%5cb/x", "/a%5Cb", "/a%5cb", "/a/b"]),
            ("*\\b", ["/a\\b", "/a/b", "/x%5cb", "/x/b"]),
            ("/%61%7Eb", ["/%61%7eb", "/a~b", "/a%7Eb", "/a~b"]),
            ("/x:%61", ["/x%3A%61", "/x%3aa", "/x:a", "/x%3Aa"]),
            ("/{*}/a%2fb", ["/x/a%2Fb", "/x/a%2fb", "/x/a%5cb", "/x/a/b"]),
            ("/{*}/b", ["/\"[*]\"/b", "/[*]/b", "/a*/b", "/a%22/b"]),
        ] {
            for path in sent {
                assert!(refuses(value, path), "{value} {path}");
            }
        }
        for (value, other) in [
            ("/a%2fb", "/ab"),
            ("/%61", "/b"),
            ("/a/b:c", "/a%2fb:c"),
            ("/{*}/b", "//b"),
        ] {
            assert!(!refuses(value, other), "{value} {other}");
        }
    }

    #[test]
    fn a_long_value_is_one_that_a_proxy_takes() {
        for value in [
            "%2f".repeat(40_000),
            format!("*{}", ":".repeat(40_000)),
            "/x%2f{*}".repeat(9_000),
        ] {
            let expression = re2::parse_of_proxy(&any_spelling(&value)).unwrap();
            assert!(expression.instructions() <= re2::MAX_INSTRUCTIONS);
        }
    }

    proptest::proptest! {
        #[test]
        fn a_value_is_a_spelling_of_itself(text in "/([ -)+-z|~]|%2[Ff]|%5c|%61|%25){0,12}") {
            assert!(refuses(&text, &text), "{text}");
            assert!(refuses(&format!("{text}*"), &format!("{text}x")), "{text}*");
            assert!(refuses(&format!("*{text}"), &format!("x{text}")), "*{text}");
        }
    }
}
