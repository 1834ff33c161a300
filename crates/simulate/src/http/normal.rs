//! Paths as a connection manager normalises them before anything looks at them.

use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::PathWithEscapedSlashesAction as Escaped,
};

/// What becomes of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// It stays.
    Same,
    /// It is replaced.
    Other(String),
    /// The request is answered with this status.
    Refused(u16),
}

pub(super) fn path(manager: &HttpConnectionManager, whole: &str) -> Path {
    // Envoy, `http_reject_path_with_fragment`: nobody sends one, and readers differ in what it means.
    if whole.contains('#') {
        return Path::Refused(400);
    }
    let at = whole.find('?').unwrap_or(whole.len());
    let (bare, rest) = whole.split_at_checked(at).unwrap_or((whole, ""));
    let mut out = bare.to_owned();
    let escaped =
        Escaped::try_from(manager.path_with_escaped_slashes_action).unwrap_or(Escaped::KeepUnchanged);
    let unescaped = unescape(&out);
    if unescaped != out {
        match escaped {
            Escaped::RejectRequest => return Path::Refused(400),
            Escaped::UnescapeAndRedirect => return Path::Refused(307),
            Escaped::UnescapeAndForward => out = unescaped,
            _ => {}
        }
    }
    if manager.normalize_path.as_ref().is_some_and(|on| on.value) {
        out = dots(&out);
    }
    if manager.merge_slashes {
        while out.contains("//") {
            out = out.replace("//", "/");
        }
    }
    if out == bare {
        Path::Same
    } else {
        Path::Other(out + rest)
    }
}

fn unescape(path: &str) -> String {
    path.replace("%2F", "/")
        .replace("%2f", "/")
        .replace("%5C", "\\")
        .replace("%5c", "\\")
}

/// The path with escapes of letters, digits and `-._~` decoded (RFC 3986, section 6.2.2.2), and what no URL has escaped.
fn plain(path: &str) -> String {
    let mut out = String::new();
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        let hex = rest.get(1..3).filter(|_| c == '%');
        let byte = hex
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .map(char::from);
        let taken = match byte {
            Some(plain) if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => {
                out.push(plain);
                3
            }
            _ if "\"<>^`{|}".contains(c) => {
                out += &format!("%{:02X}", u32::from(c));
                1
            }
            _ => {
                out.push(c);
                c.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

/// RFC 3986, section 5.2.4, with backslashes as slashes (as browsers and Envoy take them).
fn dots(path: &str) -> String {
    let path = plain(&path.replace('\\', "/"));
    let Some(inner) = path.strip_prefix('/') else {
        return path;
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = inner.split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::google::protobuf::BoolValue;

    #[test]
    fn paths() {
        let all = HttpConnectionManager {
            normalize_path: Some(BoolValue { value: true }),
            merge_slashes: true,
            path_with_escaped_slashes_action: Escaped::UnescapeAndForward as i32,
            ..Default::default()
        };
        let cases = [
            ("/a/b", None),
            ("/a//b", Some("/a/b")),
            ("/a/../b?x=//", Some("/b?x=//")),
            ("/a/./", Some("/a/")),
            ("/a/..", Some("/")),
            ("/a%2Fb", Some("/a/b")),
            ("/../a", Some("/a")),
            ("/%61%2Db%20", Some("/a-b%20")),
            ("/a/%2e%2E/b^", Some("/b%5E")),
        ];
        for (given, expected) in cases {
            let expected = expected.map_or(Path::Same, |path| Path::Other(path.to_owned()));
            assert_eq!(path(&all, given), expected, "{given}");
        }
        assert_eq!(path(&HttpConnectionManager::default(), "/a//%2Fb/.."), Path::Same);
        assert_eq!(path(&all, "/a#b"), Path::Refused(400));
    }
}
