//! Headers that are sent in several lines. Envoy's RBAC filter compares each line by itself and is content with one; the
//! application may read another. So the lines of each header that somebody decides by are joined by commas before (RFC 9110,
//! section 5.3: that means the same), and rules, authorizers and the application see one value (ISTIO-SECURITY-2021-008).

use std::collections::BTreeSet;
use std::fmt::Write;

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation::Action};
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as Filter, Mutations,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

use crate::filter;
use crate::wire::plain_any;

/// The filter of this name that makes one line of each of these headers (in lower case) where it is sent; none for no headers.
pub(crate) fn joined(filter: &str, headers: &BTreeSet<String>) -> Option<HttpFilter> {
    let mutations = Mutations {
        request_mutations: headers.iter().map(|name| join(name)).collect(),
        ..Default::default()
    };
    let config = Filter {
        mutations: Some(mutations),
        ..Default::default()
    };
    (!headers.is_empty()).then(|| filter::http(filter, plain_any(&config)))
}

fn join(name: &str) -> HeaderMutation {
    let header = HeaderValue {
        key: name.to_owned(),
        value: value(name),
        ..Default::default()
    };
    HeaderMutation {
        action: Some(Action::Append(HeaderValueOption {
            header: Some(header),
            append_action: HeaderAppendAction::OverwriteIfExists as i32,
            // An empty header is not the same as none.
            keep_empty_value: true,
            ..Default::default()
        })),
    }
}

/// The format of a header's lines, joined by commas: what CEL has for a header.
pub(crate) fn value(name: &str) -> String {
    format!("%CEL(request.headers['{}'])%", escaped(name))
}

/// A name within a text of CEL within a format: names of headers may have quotes and `%`.
fn escaped(name: &str) -> String {
    name.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            // Writing to a String never fails.
            other => _ = write!(out, "\\x{other:02x}"),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_the_expression() {
        assert_eq!(value("x-role_1.a"), "%CEL(request.headers['x-role_1.a'])%");
        assert_eq!(escaped("a'%)"), r"a\x27\x25\x29");
    }
}
