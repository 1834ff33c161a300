//! How the values of rules are compared: exact, `prefix*`, `*suffix`, `*` for present; templates for paths; hosts; networks.

use std::net::IpAddr;

/// What may stand around a value of a list (RFC 9110, section 5.6.3).
const BLANK: [char; 2] = [' ', '\t'];

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
/// Where a match refuses, neither does anything else behind a colon, more dots, or what is before an `@`, and each of several
/// hosts that commas part counts (ISTIO-SECURITY-2021-008).
pub(crate) fn host(value: &str, authority: &str, refuses: bool) -> bool {
    let (value, authority) = (value.to_ascii_lowercase(), authority.to_ascii_lowercase());
    if value == "*" {
        return !authority.is_empty();
    }
    let names_port = model::host::without_port(&value) != value;
    if refuses {
        return one_host(&value, &authority, names_port);
    }
    if names_port || value.ends_with('*') {
        return text(&value, &authority);
    }
    let bare = model::host::without_port(&authority);
    text(&value, &authority)
        || text(&value, bare)
        || bare.strip_suffix('.').is_some_and(|bare| text(&value, bare))
}

/// Whether any host that stands in an authority is what a rule's value says.
fn one_host(value: &str, authority: &str, names_port: bool) -> bool {
    let ends = |rest: &str| match names_port {
        true => rest.is_empty() || rest.starts_with(','),
        false => {
            let rest = rest.trim_start_matches('.');
            rest.is_empty() || rest.starts_with([':', ','])
        }
    };
    let rests = |at: usize| authority.get(at..);
    if let Some(suffix) = value.strip_prefix('*') {
        let mut all = (0..authority.len()).filter_map(rests);
        return all.any(|rest| rest.strip_prefix(suffix).is_some_and(ends));
    }
    let after = authority.match_indices(['@', ',']).map(|(at, _)| at + 1);
    let mut starts = std::iter::once(0)
        .chain(after)
        .filter_map(rests)
        .map(|rest| rest.trim_start_matches(BLANK));
    match value.strip_suffix('*') {
        Some(prefix) => starts.any(|rest| rest.starts_with(prefix)),
        None => starts.any(|rest| rest.strip_prefix(value).is_some_and(ends)),
    }
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
        for (value, authority, allows, denies) in [
            ("a.b", "A.b:80", true, true),
            ("a.b", "a.b.", true, true),
            ("a.b:80", "a.b", false, false),
            ("a.b:80", "x@A.b:80", false, true),
            ("*.b", "x.B:1", true, true),
            ("*.b", "x.b.b:", false, true),
            ("a.*", "A.x:1", true, true),
            ("a.*", "x,a.x", false, true),
            ("a.b", "axb", false, false),
            ("a.b", "a.b:", false, true),
            ("a.b", "a.b.:x", false, true),
            ("a.b", "a.b..", false, true),
            ("a.b", "x@a.b", false, true),
            ("a.b", "c.d, a.b", false, true),
            ("a.b", "a.b.c", false, false),
        ] {
            for (refuses, expected) in [(false, allows), (true, denies)] {
                assert_eq!(
                    host(value, authority, refuses),
                    expected,
                    "{value} {authority} {refuses}"
                );
            }
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
