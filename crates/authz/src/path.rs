//! The one spelling of a path that rules are compared with and requests are routed by.

/// The path without query, escaped slashes and escapes that nobody needs (RFC 3986, section 6.2.2.2) decoded, dot segments removed (RFC 3986, section 5.2.4; a backslash is a slash, as in
/// browsers), repeated slashes merged. None for a path with a fragment, which is refused (ISTIO-SECURITY-2021-008).
#[must_use]
pub fn normalized(path: &str) -> Option<String> {
    if path.contains('#') {
        return None;
    }
    let bare = path.split_once('?').map_or(path, |(bare, _)| bare);
    let mut text = bare.to_owned();
    for (escaped, plain) in [("%2F", "/"), ("%5C", "/")] {
        text = text.replace(escaped, plain);
        text = text.replace(&escaped.to_ascii_lowercase(), plain);
    }
    let text = unescaped(&text.replace('\\', "/"));
    let Some(inner) = text.strip_prefix('/') else {
        return Some(text);
    };
    let mut kept: Vec<&str> = Vec::new();
    let parts: Vec<&str> = inner.split('/').collect();
    let last = parts.len().saturating_sub(1);
    for (index, part) in parts.iter().enumerate() {
        match *part {
            "." | ".." => {
                if *part == ".." {
                    kept.pop();
                }
                if index == last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    let mut out = format!("/{}", kept.join("/"));
    while out.contains("//") {
        out = out.replace("//", "/");
    }
    Some(out)
}

/// With the escapes of letters, digits and `-._~` decoded: they mean the same (RFC 3986, section 2.3).
fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part
            .get(..2)
            .filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let plain = byte
            .map(char::from)
            .filter(|c| c.is_ascii_alphanumeric() || "-._~".contains(*c));
        match plain.zip(part.get(2..)) {
            Some((plain, rest)) => {
                out.push(plain);
                out.push_str(rest);
            }
            None => {
                out.push('%');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<&str>) {
        assert_eq!(normalized(path).as_deref(), expected, "{path}");
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
        check("/a/%2e%2e/%zz%é%+4", Some("/%zz%é%+4"));
        check("*", Some("*"));
    }
}
