//! The one spelling of a path that rules are compared with and requests are routed by.

use config::mesh::NormalizationType;

/// The path without query as applications are given it, by what MeshConfig's `pathNormalization` says:
///
/// - `NONE`: as it was sent;
/// - `BASE`: escapes that nobody needs (RFC 3986, section 6.2.2.2) decoded, characters that no URL has escaped, dot segments
///   removed (section 5.2.4; a backslash is a slash, as in browsers, and parameters as in `..;a=b` do not keep a dot segment);
/// - `MERGE_SLASHES`: and repeated slashes merged;
/// - `DECODE_AND_MERGE_SLASHES`, and without a setting: escaped slashes and backslashes decoded before all that.
///
/// None for a path that is refused, as it can be read in more than one way: with a fragment (ISTIO-SECURITY-2021-008), an
/// escaped NUL (but with `NONE`), or bytes that belong into no URL.
#[must_use]
pub fn normalized(path: &str, kind: NormalizationType) -> Option<String> {
    use NormalizationType::{DecodeAndMergeSlashes, Default, MergeSlashes, None as AsSent};
    if path.contains('#') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let bare = path.split_once('?').map_or(path, |(bare, _)| bare);
    if bare == "*" {
        return Some(bare.to_owned());
    }
    let mut text = bare.to_owned();
    if matches!(kind, DecodeAndMergeSlashes | Default) {
        for (escaped, plain) in [("%2F", "/"), ("%5C", "\\")] {
            text = text.replace(escaped, plain);
            text = text.replace(&escaped.to_ascii_lowercase(), plain);
        }
    }
    let inner = text.strip_prefix('/')?;
    if kind != AsSent {
        text = format!("/{}", without_dots(inner)?.join("/"));
    }
    while matches!(kind, MergeSlashes | DecodeAndMergeSlashes | Default) && text.contains("//") {
        text = text.replace("//", "/");
    }
    Some(text)
}

/// Whether a path still has what some servers take for a dot segment: parameters behind dots that were escaped.
pub(crate) fn has_dots_with_parameters(path: &str) -> bool {
    path.split('/').any(|part| {
        let end = part.strip_prefix("..").or_else(|| part.strip_prefix('.'));
        end.is_some_and(|end| end.starts_with(';') || end.to_ascii_lowercase().starts_with("%3b"))
    })
}

/// The segments that are left of a path without its first slash; none of a path with an escaped NUL, unless in parameters that
/// go.
fn without_dots(path: &str) -> Option<Vec<String>> {
    let mut kept = Vec::new();
    let (mut rest, mut behind_slash) = (path, true);
    loop {
        let dotted = behind_slash && (rest.starts_with(".;") || rest.starts_with("..;"));
        let end = match dotted {
            true => rest.find('/'),
            false => rest.find(['/', '\\']),
        };
        let (part, more) = rest
            .split_at_checked(end.unwrap_or(rest.len()))
            .unwrap_or((rest, ""));
        let part = match part.split_once(';') {
            Some((dots, _)) if dotted => dots.to_owned(),
            _ if part.contains("%00") => return None,
            _ => unescaped(part),
        };
        let is_dot = part == "." || part == "..";
        if part == ".." {
            kept.pop();
        }
        if !is_dot {
            kept.push(part);
        }
        behind_slash = more.starts_with('/');
        match more.get(1..) {
            Some(next) => rest = next,
            None => {
                kept.extend(is_dot.then(String::new));
                return Some(kept);
            }
        }
    }
}

/// A segment with the escapes of letters, digits and `-._~` decoded, for they mean the same (RFC 3986, section 2.3), and what no
/// URL has escaped. A `%` that begins no escape is escaped where decoding would make it begin one.
fn unescaped(segment: &str) -> String {
    let mut out = String::new();
    let mut lone = Vec::new();
    let mut rest = segment;
    while let Some(c) = rest.chars().next() {
        let digits = rest
            .get(1..3)
            .filter(|two| c == '%' && two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .map(char::from);
        match byte {
            Some(plain) if plain.is_ascii_alphanumeric() || "-._~".contains(plain) => out.push(plain),
            Some(_) => out.push_str(rest.get(..3).unwrap_or_default()),
            None if "\"<>^`{|}".contains(c) => out.push_str(&format!("%{:02X}", u32::from(c))),
            None => {
                lone.extend((c == '%').then_some(out.len()));
                out.push(c);
            }
        }
        let taken = if byte.is_some() { 3 } else { c.len_utf8() };
        rest = rest.get(taken..).unwrap_or_default();
    }
    for at in lone.into_iter().rev() {
        let next = out.get(at + 1..at + 3);
        if next.is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            out.insert_str(at + 1, "25");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<&str>) {
        for kind in [
            NormalizationType::Default,
            NormalizationType::DecodeAndMergeSlashes,
        ] {
            assert_eq!(normalized(path, kind).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_mesh_may_want_less() {
        let all = [
            NormalizationType::None,
            NormalizationType::Base,
            NormalizationType::MergeSlashes,
        ];
        for (path, expected) in [
            ("/a%2fb?x", ["/a%2fb"; 3]),
            ("/%61%5Cb", ["/%61%5Cb", "/a%5Cb", "/a%5Cb"]),
            ("/a//b\\c", ["/a//b\\c", "/a//b/c", "/a/b/c"]),
            ("/x//../b/.", ["/x//../b/.", "/x/b/", "/x/b/"]),
            ("/x/..%2fb", ["/x/..%2fb"; 3]),
            ("/\"", ["/\"", "/%22", "/%22"]),
        ] {
            for (kind, expected) in all.into_iter().zip(expected) {
                assert_eq!(normalized(path, kind).as_deref(), Some(expected), "{path}");
            }
        }
        assert_eq!(normalized("/a%00", all[0]).as_deref(), Some("/a%00"));
        assert_eq!(normalized("/a%00", all[1]), None);
    }

    #[test]
    fn one_spelling() {
        check("/a/b?x=/c", Some("/a/b"));
        check("/a%2Fb%5cc", Some("/a/b/c"));
        check("//a///b", Some("/a/b"));
        check("/a/../b/./c/..", Some("/b/"));
        check("/a/%2e%2E/b", Some("/b"));
        check("/../..", Some("/"));
        check("/a#b", None);
        check("/A", Some("/A"));
        check("/%41%7e%2561%20%4", Some("/A~%2561%20%4"));
        check("/a/%2e%2e/%zz%+4", Some("/%zz%+4"));
        check("*", Some("*"));
        check("admin", None);
        check("/é", None);
    }

    // What Envoy 1.40 makes of them; crates/envoygen/tests/decisions asks it.
    #[test]
    fn spellings_that_attackers_try() {
        check("/x/..;/admin", Some("/admin"));
        check("/x/..;a=b;c\\d/admin", Some("/admin"));
        check("/x/.;/admin/..;", Some("/x/"));
        check("/x/%2e%2e;/admin", Some("/x/..;/admin"));
        check("/x\\..;/admin", Some("/x/..;/admin"));
        check("/admin%00", None);
        check("/x/..%00/admin", None);
        check("/x/..;%00/admin", Some("/admin"));
        check("/a?%00", Some("/a"));
        check("/%25%32%46admin", Some("/%252Fadmin"));
        check("/%%32Fadmin", Some("/%252Fadmin"));
        check("/%2%46admin", Some("/%252Fadmin"));
        check("/%%%32F%4%31", Some("/%%252F%2541"));
        check("/.../admin./", Some("/.../admin./"));
        check("/a\"{b", Some("/a%22%7Bb"));
    }

    #[test]
    fn dots_with_parameters_are_seen() {
        for (path, expected) in [
            ("/x/..;/admin", true),
            ("/x/.;a", true),
            ("/x/..%3Bb/c", true),
            ("/x/...;/c", false),
            ("/x/.a;/c", false),
            ("/x;a=../c", false),
        ] {
            assert_eq!(has_dots_with_parameters(path), expected, "{path}");
        }
    }
}
