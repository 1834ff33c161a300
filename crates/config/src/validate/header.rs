//! Headers: their names where they are matched and where they are changed, and values with Envoy's `%COMMAND%`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::commands;
use crate::networking::{HeaderOperations, Headers};
use crate::path::At;

/// Characters of a header's name (RFC 9110, 5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Beginning of the name under which a route matches a claim of a verified token.
const CLAIMS: &str = "@request.auth.claims";

/// Whether a header's name stands for a claim of the request's token.
pub(super) fn is_claim(name: &str) -> bool {
    name.get(..CLAIMS.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(CLAIMS))
        && name
            .get(CLAIMS.len()..)
            .is_some_and(|rest| rest.starts_with(['.', '[']))
}

/// A header's name in a match.
pub(super) fn match_name(name: &str, at: &At<'_>) {
    let pseudo = matches!(name, ":method" | ":scheme" | ":authority" | ":path" | ":status");
    if !pseudo && !is_claim(name) && !is_token(name) {
        at.error(format!("{name:?} is not a header's name"));
    }
}

/// A header's name in a CORS policy; `*` stands for all.
pub(super) fn cors_name(name: &str, at: &At<'_>) {
    if name != "*" && !is_token(name) {
        at.error(format!("{name:?} is not a header's name"));
    }
}

/// Whether a name means the request's authority.
pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// Changes of headers in both directions.
pub(super) fn operations(headers: Option<&Headers>, at: &At<'_>) {
    let Some(headers) = headers else { return };
    let at = at.key("headers");
    at.some("request", headers.request.as_ref(), |changes, at| {
        direction(changes, true, at)
    });
    at.some("response", headers.response.as_ref(), |changes, at| {
        direction(changes, false, at)
    });
}

fn direction(changes: &HeaderOperations, request: bool, at: &At<'_>) {
    for (key, values) in [("set", &changes.set), ("add", &changes.add)] {
        written(values, request, &at.key(key));
    }
    at.each("remove", &changes.remove, |name, at| {
        changed_name(name, false, at)
    });
}

fn written(values: &BTreeMap<String, String>, request: bool, at: &At<'_>) {
    for (name, value) in values {
        let at = at.key(name);
        changed_name(name, request, &at);
        if let Some(fault) = value_fault(value) {
            at.error(fault);
        }
    }
}

/// A header that is changed: not one of HTTP's own, but for the authority of a request.
fn changed_name(name: &str, authority_allowed: bool, at: &At<'_>) {
    if name.is_empty() {
        at.error("a header's name must not be empty");
    } else if (name.starts_with(':') || is_authority(name)) && !(authority_allowed && is_authority(name)) {
        at.error_help(
            format!("{name:?} cannot be changed here"),
            "use rewrite.authority for the request's host",
        );
    }
}

/// Why a header's value cannot be used: control characters, or a `%COMMAND%` that Envoy cannot read.
pub(super) fn value_fault(value: &str) -> Option<String> {
    if value.chars().any(|c| c.is_ascii_control() && c != '\t') {
        return Some(format!("{value:?} has control characters"));
    }
    command_fault(value).map(|problem| format!("in {value:?} {problem}"))
}

/// Why Envoy cannot read the `%COMMAND%`s of a text: a header's value, a log's format, the value of a span's tag.
pub(super) fn command_fault(value: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        rest = match after.strip_prefix('%') {
            Some(after) => after,
            None => match commands::take(after) {
                Ok(after) => after,
                Err(problem) => return Some(format!("a % {problem}")),
            },
        };
    }
    None
}

/// Checks the `%COMMAND%`s of a log's format. `REQ_WITHOUT_QUERY` is a command in logs alone, where Istio and Argosy give Envoy
/// the formatter for it.
pub(super) fn format_string(value: &str, at: &At<'_>) {
    if let Some(fault) = command_fault(&value.replace("%REQ_WITHOUT_QUERY(", "%REQ(")) {
        at.error(format!(
            "{fault}; Envoy would refuse every listener with this log"
        ));
    }
}

/// The same of named values, which may be nested.
pub(super) fn format_values(values: &serde_json::Map<String, Value>, at: &At<'_>) {
    for (name, value) in values {
        format_value(value, &at.key(name));
    }
}

fn format_value(value: &Value, at: &At<'_>) {
    match value {
        Value::String(text) => format_string(text, at),
        Value::Object(values) => format_values(values, at),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                format_value(value, &at.index(index));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for good in [
            "",
            "a",
            "100%%",
            "%START_TIME%",
            "%REQ(x-y)%",
            "a %UPSTREAM_METADATA([\"a\", \"b\"])% b",
            "%REQ(x):5%",
        ] {
            assert_eq!(value_fault(good), None, "{good}");
        }
        for bad in ["100%", "%START", "%REQ(x%", "a\nb", "%REQ(x)y%", "%NO_SUCH%"] {
            assert!(value_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn logs_have_a_command_more() {
        assert!(command_fault("%REQ_WITHOUT_QUERY(:path)%").is_some());
        let faults = |format: &str| {
            let report = crate::path::Report::default();
            format_string(format, &At::root(&report));
            report.into_issues().len()
        };
        assert_eq!(faults("%REQ_WITHOUT_QUERY(:path):9% %PROTOCOL% 100%%"), 0);
        assert_eq!((faults("%PROTOCOL"), faults("%NO_SUCH_THING%")), (1, 1));
    }

    #[test]
    fn claims() {
        assert!(is_claim("@request.auth.claims.sub") && is_claim("@request.auth.claims[a][b]"));
        assert!(!is_claim("@request.auth.claims") && !is_claim("x-claims"));
    }
}
