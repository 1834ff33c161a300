//! DNS names, e-mail addresses and URIs: whether text is one, and when two are the same.
//!
//! International names are compared by lower case; a label in Punycode (`xn--`) is compared as written.

/// Why text is no name.
type Checked<T> = Result<T, &'static str>;

/// Whether `text` is a DNS name: labels of letters, digits, `-` and `_`, 1 to 63 bytes each, 253 in all; a dot at
/// the end is allowed (RFC 1035 2.3, RFC 5891 4.2.3).
pub(crate) fn check_dns_name(text: &str) -> Checked<()> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 {
        return Err("longer than 253 bytes");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("an empty label");
        }
        if label.len() > 63 {
            return Err("a label longer than 63 bytes");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a label that begins or ends with a hyphen");
        }
        if label
            .chars()
            .any(|c| !(c.is_alphanumeric() || c == '-' || c == '_' || !c.is_ascii() && !c.is_control()))
        {
            return Err("a character that names do not have");
        }
    }
    Ok(())
}

/// Whether two DNS names are the same: case and a dot at the end do not matter.
pub(crate) fn same_dns_name(a: &str, b: &str) -> bool {
    let (a, b) = (a.strip_suffix('.').unwrap_or(a), b.strip_suffix('.').unwrap_or(b));
    a == b || a.to_lowercase() == b.to_lowercase()
}

/// The local part, unquoted, and the domain of an e-mail address (RFC 5322 3.4.1; `<a@b>` too, but no display name).
pub(crate) fn parse_email(text: &str) -> Checked<(String, &str)> {
    let text = text.trim_matches([' ', '\t']);
    let text = match text.strip_prefix('<') {
        Some(rest) => rest.strip_suffix('>').ok_or("'<' without '>'")?,
        None => text,
    };
    if text.is_empty() {
        return Err("empty");
    }
    let (local, rest) = match text.strip_prefix('"') {
        Some(rest) => quoted_local(rest)?,
        None => {
            let (local, domain) = text.split_once('@').ok_or("no '@'")?;
            if local
                .split('.')
                .any(|atom| atom.is_empty() || !atom.chars().all(is_atom))
            {
                return Err("the part before '@' is no word");
            }
            (local.to_owned(), domain)
        }
    };
    check_dns_name(rest)?;
    Ok((local, rest))
}

fn is_atom(c: char) -> bool {
    c.is_alphanumeric() || !c.is_ascii() || "!#$%&'*+-/=?^_`{|}~".contains(c)
}

/// A quoted local part behind its first quote, and the domain.
fn quoted_local(text: &str) -> Checked<(String, &str)> {
    let mut local = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next() {
            Some('"') => break,
            Some('\\') => local.push(chars.next().ok_or("quote not closed")?),
            Some(c) if !c.is_control() => local.push(c),
            _ => return Err("quote not closed"),
        }
    }
    match chars.as_str().strip_prefix('@') {
        Some(domain) if !local.is_empty() => Ok((local, domain)),
        _ => Err("no '@' behind the quoted part"),
    }
}

/// Whether two e-mail addresses are the same: the domains' case does not matter.
pub(crate) fn same_email(a: &str, b: &str) -> Result<bool, (bool, &'static str)> {
    let (local_a, domain_a) = parse_email(a).map_err(|reason| (true, reason))?;
    let (local_b, domain_b) = parse_email(b).map_err(|reason| (false, reason))?;
    Ok(local_a == local_b && same_dns_name(domain_a, domain_b))
}

/// The parts of a URI that equality looks at.
#[derive(Debug, PartialEq)]
pub(crate) struct Uri<'a> {
    scheme: String,
    user: Option<&'a str>,
    host: &'a str,
    port: &'a str,
    /// Path, query and fragment.
    rest: &'a str,
}

/// Reads a URI or a relative reference (RFC 3986).
pub(crate) fn parse_uri(text: &str) -> Checked<Uri<'_>> {
    if text.is_empty() {
        return Err("empty");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err("a control character");
    }
    let (scheme, rest) = split_scheme(text)?;
    if scheme.is_empty() && !rest.starts_with('/') {
        let first = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if first.contains(':') {
            return Err("a colon in the first segment of a path without scheme");
        }
    }
    let (authority, rest) = match rest.strip_prefix("//") {
        Some(rest) => rest
            .split_at_checked(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
            .ok_or("malformed")?,
        None => ("", rest),
    };
    let (user, host_port) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    let (host, port) = split_port(host_port)?;
    if host.chars().any(|c| " <>\"{}|\\^`".contains(c)) {
        return Err("a character that hosts do not have");
    }
    check_escapes(rest)?;
    Ok(Uri {
        scheme: scheme.to_ascii_lowercase(),
        user,
        host,
        port,
        rest,
    })
}

fn split_scheme(text: &str) -> Checked<(&str, &str)> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Ok(("", text));
    };
    if scheme.is_empty() {
        return Err("no scheme before ':'");
    }
    let mut chars = scheme.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    if starts && chars.all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        Ok((scheme, rest))
    } else {
        Ok(("", text))
    }
}

fn split_port(host_port: &str) -> Checked<(&str, &str)> {
    let (host, tail) = match host_port.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or("'[' without ']'")?,
        None => host_port
            .split_at_checked(host_port.rfind(':').unwrap_or(host_port.len()))
            .ok_or("malformed")?,
    };
    let port = tail.strip_prefix(':').unwrap_or(tail);
    if port.chars().all(|c| c.is_ascii_digit()) {
        Ok((host, port))
    } else {
        Err("the port is no number")
    }
}

/// Every `%` is followed by two hexadecimal digits, outside of the query.
fn check_escapes(rest: &str) -> Checked<()> {
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let fragment = rest.split_once('#').map(|(_, f)| f).unwrap_or_default();
    for part in [path, fragment] {
        for after in part.split('%').skip(1) {
            let digits = after.chars().take(2).filter(char::is_ascii_hexdigit).count();
            if digits != 2 {
                return Err("'%' without two hexadecimal digits");
            }
        }
    }
    Ok(())
}

/// Whether two URIs are the same: the scheme's case does not matter, and for http and https neither does the host's.
pub(crate) fn same_uri(a: &str, b: &str) -> Result<bool, (bool, &'static str)> {
    let a = parse_uri(a).map_err(|reason| (true, reason))?;
    let b = parse_uri(b).map_err(|reason| (false, reason))?;
    let web = matches!(a.scheme.as_str(), "http" | "https");
    let same_host = if web {
        same_dns_name(a.host, b.host)
    } else {
        a.host == b.host
    };
    Ok(same_host && (&a.scheme, a.user, a.port, a.rest) == (&b.scheme, b.user, b.port, b.rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names() {
        for good in [
            "foo",
            "foo.Bar.baz.",
            "xn--bcher-kva.example",
            "bücher.example",
            "_sip.example",
        ] {
            assert_eq!(check_dns_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a..b", "-foo.-bar", "foo-", "a b", "a/b"] {
            assert!(check_dns_name(bad).is_err(), "{bad}");
        }
        assert!(check_dns_name(&format!("{}.x", "a".repeat(64))).is_err());
        assert!(same_dns_name("FOO.bar", "foo.bar."));
        assert!(!same_dns_name("foo.bar", "bar.foo"));
    }

    #[test]
    fn emails() {
        assert_eq!(parse_email("\"a b\"@x.io"), Ok(("a b".into(), "x.io")));
        assert_eq!(parse_email("<a.b@x.io>"), Ok(("a.b".into(), "x.io")));
        for bad in [
            "",
            "a",
            "a@",
            "@x",
            "a@b@c",
            "a b@x",
            "\"a@x",
            "a@-x",
            "Name <a@x>",
        ] {
            assert!(parse_email(bad).is_err(), "{bad}");
        }
        assert_eq!(same_email("a@X.io", "a@x.IO"), Ok(true));
        assert_eq!(same_email("A@x.io", "a@x.io"), Ok(false));
    }

    #[test]
    fn uris() {
        for good in [
            "http://istio.io",
            "urn:foo",
            "www.istio.io",
            "/a/b?c=%zz",
            "http://[::1]:80/",
            "a/b:c",
        ] {
            assert!(parse_uri(good).is_ok(), "{good}");
        }
        for bad in ["", ":/", "1:2", "http://a:b/", "/%zz", "http://[::1", "a\nb"] {
            assert!(parse_uri(bad).is_err(), "{bad}");
        }
        assert_eq!(same_uri("HTTP://foo.Bar.baz.", "http://foo.bar.baz"), Ok(true));
        assert_eq!(same_uri("http://a:80", "http://a:81"), Ok(false));
        assert_eq!(same_uri("http://a/X", "http://a/x"), Ok(false));
    }
}
