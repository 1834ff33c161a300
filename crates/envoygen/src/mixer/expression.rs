//! Header values of `policy` as CEL for Envoy's formatters. Each has a value for every request: an error would make the whole
//! expression nothing.
//!
//! Conditions are not CEL: its regular expressions are bounded far below those of matchers. RBAC filters evaluate them, and CEL
//! looks at their marks.

use policy::{Fact, HeaderText, Matcher};

use super::native::{RBAC_METADATA, SHADOW_POLICY};

/// The value of the first of some conditions that holds, else nothing. `mark` gives the prefix of the filter that marks a
/// condition.
pub(super) fn value(cases: &[(Matcher, HeaderText)], mark: impl Fn(&Matcher) -> String) -> String {
    let cases = cases.iter().rev();
    cases.fold(literal(""), |otherwise, (when, value)| match when {
        Matcher::Always => text(value),
        when => format!("({} ? {} : {otherwise})", marked(&mark(when)), text(value)),
    })
}

/// Whether the filter with this prefix has marked the request.
fn marked(prefix: &str) -> String {
    let (filter, key) = (
        literal(RBAC_METADATA),
        literal(&format!("{prefix}{SHADOW_POLICY}")),
    );
    let all = "metadata.filter_metadata";
    format!("({filter} in {all} && {key} in {all}[{filter}])")
}

/// A value whose condition holds, so that it is there.
fn text(value: &HeaderText) -> String {
    match value {
        HeaderText::Text(text) => literal(text),
        HeaderText::Fact(Fact::Header(name)) => format!("request.headers[{}]", literal(name)),
        HeaderText::Fact(Fact::UrlPath) => "request.url_path".to_owned(),
        HeaderText::Fact(Fact::PeerUri) => "connection.uri_san_peer_certificate".to_owned(),
    }
}

/// Text as a CEL literal that holds nothing that formats read: `%` would end a command.
fn literal(text: &str) -> String {
    let mut out = String::from("'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            '%' => out.push_str("\\u0025"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use policy::Test;

    use super::*;

    #[test]
    fn a_value_is_that_of_the_first_condition_that_is_marked() {
        let header = Matcher::Text(Fact::Header("x-a".into()), Test::Present);
        let cases = [
            (header, HeaderText::Fact(Fact::Header("x-a".into()))),
            (Matcher::Always, HeaderText::Text("100%'".into())),
        ];
        let mark = "('envoy.filters.http.rbac' in metadata.filter_metadata && \
                    'm_shadow_effective_policy_id' in metadata.filter_metadata['envoy.filters.http.rbac'])";
        assert_eq!(
            value(&cases, |_| "m_".to_owned()),
            format!(r"({mark} ? request.headers['x-a'] : '100\u0025\'')")
        );
    }
}
