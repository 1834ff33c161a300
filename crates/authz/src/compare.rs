//! How the values of rules are compared: exact, `prefix*`, `*suffix`, `*` for present; templates for paths; hosts; networks.

use std::net::IpAddr;

/// Whether a text is what a rule's value says; `*` wants it not empty.
pub(crate) fn text(value: &str, text: &str) -> bool {
    if value == "*" {
        !text.is_empty()
    } else if let Some(suffix) = value.strip_prefix('*') {
        text.ends_with(suffix)
    } else if let Some(prefix) = value.strip_suffix('*') {
        text.starts_with(prefix)
    } else {
        value == text
    }
}

/// Whether a path is what a rule's value says: as [`text`], or by a template with `{*}` for one segment and `{**}` for all that
/// follows.
pub(crate) fn path(value: &str, path: &str) -> bool {
    if !value.contains("{*}") && !value.contains("{**}") {
        return text(value, path);
    }
    let mut parts = path.split('/');
    for want in value.split('/') {
        match (want, parts.next()) {
            // At least the slash before it must be there.
            ("{**}", Some(_)) => return true,
            ("{*}", Some(part)) if !part.is_empty() => {}
            (want, Some(part)) if want == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

/// Whether a host is what a rule's value says: case, a port and a final dot make no difference, unless the value names a port.
pub(crate) fn host(value: &str, authority: &str) -> bool {
    let (value, authority) = (value.to_ascii_lowercase(), authority.to_ascii_lowercase());
    if value == "*" {
        return !authority.is_empty();
    }
    if model::host::without_port(&value) != value || value.ends_with('*') {
        return text(&value, &authority);
    }
    let bare = model::host::without_port(&authority);
    text(&value, &authority) || text(&value, bare) || text(&value, bare.trim_end_matches('.'))
}

/// Whether an address is in a range, or is the one address given. What is no range holds none.
pub(crate) fn network(value: &str, address: IpAddr) -> bool {
    match value.parse::<ipnet::IpNet>() {
        Ok(network) => network.contains(&address),
        Err(_) => value.parse() == Ok(address),
    }
}

/// Whether a header is what a rule's value says. Lines of one name are one value, with commas between them (RFC 9110, section
/// 5.3); where a match refuses, each of the values that commas part counts as well (ISTIO-SECURITY-2021-008).
pub(crate) fn header(value: &str, lines: &[String], refuses: bool) -> bool {
    let sent = lines.join(",");
    value == "*" || text(value, &sent) || (refuses && one(value, &sent))
}

/// Whether one of the values that commas part is what a rule's value says, spaces around it aside. The rule's value may have
/// commas of its own.
fn one(value: &str, whole: &str) -> bool {
    const BLANK: [char; 2] = [' ', '\t'];
    let ends = |rest: &str| {
        let rest = rest.trim_start_matches(BLANK);
        rest.is_empty() || rest.starts_with(',')
    };
    if let Some(suffix) = value.strip_prefix('*') {
        let mut found = whole.match_indices(suffix);
        return found.any(|(at, found)| whole.get(at + found.len()..).is_some_and(ends));
    }
    let starts = std::iter::once(0).chain(whole.match_indices(',').map(|(at, _)| at + 1));
    let mut rests = starts
        .filter_map(|at| whole.get(at..))
        .map(|rest| rest.trim_start_matches(BLANK));
    match value.strip_suffix('*') {
        Some(prefix) => rests.any(|rest| rest.starts_with(prefix)),
        None => rests.any(|rest| rest.strip_prefix(value).is_some_and(ends)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        for (value, text, expected) in [
            ("/a/{*}", "/a/b", true),
            ("/a/{*}", "/a/", false),
            ("/a/{*}", "/a/b/c", false),
            ("/a/{**}", "/a/b/c", true),
            ("/{*}/x/{**}", "/q/x/", true),
            ("/{*}/x/{**}", "/q/x", false),
            ("/{**}", "/", true),
        ] {
            assert_eq!(path(value, text), expected, "{value} {text}");
        }
    }

    #[test]
    fn hosts() {
        for (value, authority, expected) in [
            ("a.b", "A.b:80", true),
            ("a.b", "a.b.", true),
            ("a.b:80", "a.b", false),
            ("*.b", "x.B:1", true),
            ("a.*", "A.x:1", true),
            ("a.b", "axb", false),
        ] {
            assert_eq!(host(value, authority), expected, "{value} {authority}");
        }
    }

    #[test]
    fn values_of_headers() {
        let two = ["user".to_owned(), "admin".to_owned()];
        assert!(header("admin", &two, true) && !header("admin", &two, false));
        assert!(header("user,admin", &two, false) && header("user*", &two, false));
        let one = ["user, admin".to_owned()];
        assert!(header("admin", &one, true) && !header("admin", &one, false));
        assert!(header("user, admin", &one, false));
        assert!(header("*", &["".to_owned()], false));
    }
}
