//! How the values of rules are compared: exact, `prefix*`, `*suffix`, `*` for present; templates for paths; hosts; networks.

use std::collections::BTreeSet;
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
/// follows. Where a match refuses, an escape and the character that it stands for are one (RFC 3986, section 2.1).
pub(crate) fn path(value: &str, path: &str, refuses: bool) -> bool {
    if refuses {
        return !path.is_empty() && any_spelling(value, path.as_bytes());
    }
    if !is_template(value) {
        return text(value, path);
    }
    let fills = |part: &str| part.bytes().all(may_fill);
    let mut parts = path.split('/');
    for want in value.split('/') {
        match (want, parts.next()) {
            // At least the slash before it must be there.
            ("{**}", Some(part)) => return fills(part) && parts.all(fills),
            ("{*}", Some(part)) if !part.is_empty() && fills(part) => {}
            (want, Some(part)) if want == part => {}
            _ => return false,
        }
    }
    parts.next().is_none()
}

fn is_template(value: &str) -> bool {
    value.contains("{*}") || value.contains("{**}")
}

/// Whether a byte may be in what stands for a wildcard of a template that lets in (Envoy's `uri_template`, after RFC 3986's
/// `pchar` without `*`).
fn may_fill(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

/// What the value of a rule that refuses is made of.
#[derive(Clone, Copy)]
enum Piece {
    /// A byte as it is.
    Plain(u8),
    /// A byte as it is, or escaped.
    Either(u8),
    /// A slash or backslash, escaped or not.
    Slash,
    /// A segment of a template.
    Segment,
    /// Whatever.
    Rest,
}

impl Piece {
    /// Where the piece may end in a path that it begins in there.
    fn ends(self, path: &[u8], at: usize) -> Vec<usize> {
        let rest = path.get(at..).unwrap_or_default();
        let forms = |plain: &[u8], escaped: &[u8]| {
            let is = |byte: Option<u8>, of: &[u8]| byte.is_some_and(|byte| of.contains(&byte));
            let plain = is(rest.first().copied(), plain).then_some(at + 1);
            let escaped = is(escape(rest), escaped).then_some(at + 3);
            plain.into_iter().chain(escaped).collect()
        };
        match self {
            Piece::Plain(byte) => forms(&[byte], &[]),
            Piece::Either(byte) => forms(&[byte], &[byte]),
            Piece::Slash => forms(b"/\\", b"/\\"),
            Piece::Segment => {
                let length = rest.iter().take_while(|byte| **byte != b'/').count();
                (at + 1..=at + length).collect()
            }
            Piece::Rest => (at..=path.len()).collect(),
        }
    }
}

/// As [`path`] for a match that refuses.
fn any_spelling(value: &str, path: &[u8]) -> bool {
    let mut places = BTreeSet::from([0]);
    for piece in pieces(value) {
        places = places.into_iter().flat_map(|at| piece.ends(path, at)).collect();
    }
    places.contains(&path.len())
}

fn pieces(value: &str) -> Vec<Piece> {
    if is_template(value) {
        let part = |part: &str| match part {
            "{*}" => vec![Piece::Segment],
            "{**}" => vec![Piece::Rest],
            part => literal(part),
        };
        let parts: Vec<Vec<Piece>> = value.split('/').map(part).collect();
        return parts.join(&Piece::Plain(b'/'));
    }
    if let Some(suffix) = value.strip_prefix('*') {
        [vec![Piece::Rest], literal(suffix)].concat()
    } else if let Some(prefix) = value.strip_suffix('*') {
        [literal(prefix), vec![Piece::Rest]].concat()
    } else {
        literal(value)
    }
}

/// The bytes that a value spells. Which slashes an escaped one becomes, and whether escapes of unreserved characters (RFC 3986,
/// section 2.3) are decoded, is what the mesh normalises: all forms are meant.
fn literal(value: &str) -> Vec<Piece> {
    let (mut out, mut rest) = (Vec::new(), value.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        let escaped = escape(rest);
        out.push(match (escaped, escaped.unwrap_or(*first)) {
            (Some(_), b'/') | (_, b'\\') => Piece::Slash,
            (None, byte) if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) => Piece::Plain(byte),
            (_, byte) => Piece::Either(byte),
        });
        rest = if escaped.is_some() {
            rest.get(3..).unwrap_or_default()
        } else {
            more
        };
    }
    out
}

/// The byte that an escape at the start of a text stands for.
fn escape(text: &[u8]) -> Option<u8> {
    let hex = text.strip_prefix(b"%")?.get(..2)?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (high, low) = (digit(*hex.first()?)?, digit(*hex.last()?)?);
    u8::try_from(high * 16 + low).ok()
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
            for refuses in [false, true] {
                assert_eq!(path(value, text, refuses), expected, "{value} {text}");
            }
        }
    }

    #[test]
    fn escapes_hide_nothing_from_what_refuses() {
        for (value, text, allows, denies) in [
            ("/v1/x:delete", "/v1/x:delete", true, true),
            ("/v1/x:delete", "/v1/x%3adelete", false, true),
            ("/v1/x%3Adelete", "/v1/x:delete", false, true),
            ("/caf%C3%A9", "/caf%c3%A9", false, true),
            ("/café*", "/caf%c3%A9/x", false, true),
            ("*:delete", "/x%3Adelete", false, true),
            ("/a b", "/a%20b", false, true),
            ("/%61%2Fb", "/a/b", false, true),
            ("/%61%2Fb", "/%61%2fb", false, true),
            ("/a%2fb", "/a%2fb", true, true),
            ("/a%2fb", "/a\\b", false, true),
            ("/a\\b", "/a%5cb", false, true),
            ("*%5Cb", "/a%5cb", false, true),
            ("/a%2fb*", "/a%2Fbc", false, true),
            ("/{*}/a%2Fb", "/x/a%2fb", false, true),
            ("/{*}/a%2Fb", "/x/a/b", false, true),
            ("/{*}/b", "/x*/b", false, true),
            ("/a/{**}", "/a/[b]/c", false, true),
            ("/a%2fb", "/ab", false, false),
            ("/admin", "/%61dmin", false, false),
            ("/a%25b", "/a%2525b", false, false),
            ("/a%b", "/a%25b", false, true),
            ("/{*}/x@y", "/1/x%40y", false, true),
            ("/{*}/x@y", "/1/x%41y", false, false),
            ("/a+b", "/a%2Bc", false, false),
        ] {
            for (refuses, expected) in [(false, allows), (true, denies)] {
                assert_eq!(path(value, text, refuses), expected, "{value} {text} {refuses}");
            }
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
