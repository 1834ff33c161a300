//! The one spelling of a path that rules are compared with and requests are routed by.

/// The path without query, escaped slashes decoded, dot segments removed (RFC 3986, section 5.2.4; a backslash is a slash, as in
/// browsers), repeated slashes merged. None for a path with a fragment, which is refused (ISTIO-SECURITY-2021-008).
#[must_use]
pub fn normalized(path: &str) -> Option<String> {
    if path.contains('#') {
        return None;
    }
    let bare = path.split_once('?').map_or(path, |(bare, _)| bare);
    let mut text = bare.to_owned();
    for (escaped, plain) in [("%2F", "/"), ("%5C", "/"), ("%2E", ".")] {
        text = text.replace(escaped, plain);
        text = text.replace(&escaped.to_ascii_lowercase(), plain);
    }
    let text = text.replace('\\', "/");
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
        check("*", Some("*"));
    }
}
