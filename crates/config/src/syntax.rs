//! The syntax of names, hosts, addresses and the like that many kinds share. Each check comes with the words for what it
//! demands.

use std::net::{IpAddr, Ipv6Addr};

/// What [`is_dns_label`] demands.
pub(crate) const DNS_LABEL: &str =
    "a DNS label: up to 63 lower-case letters, digits and hyphens, a letter or digit at both ends";
/// What [`is_dns_subdomain`] demands.
pub(crate) const DNS_SUBDOMAIN: &str = "a DNS name: up to 253 lower-case letters, digits, hyphens and dots, a letter or digit at both ends of each part";
/// What [`is_label_key`] demands.
pub(crate) const LABEL_KEY: &str = "a label key: up to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends, with an optional DNS prefix and '/'";
/// What [`is_label_value`] demands.
pub(crate) const LABEL_VALUE: &str =
    "a label value: empty, or up to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends";

/// Whether all characters satisfy `inner`, and the first and the last are ASCII letters or digits.
fn framed(text: &str, limit: usize, inner: impl Fn(u8) -> bool) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= limit && ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|&byte| inner(byte))
}

/// RFC 1123 label in lower case.
pub(crate) fn is_dns_label(text: &str) -> bool {
    framed(text, 63, |b| {
        b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
    })
}

/// RFC 1123 subdomain in lower case.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|part| {
            framed(part, 253, |b| {
                b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
            })
        })
}

/// Kubernetes' qualified name.
pub(crate) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    prefix.is_none_or(is_dns_subdomain)
        && framed(name, 63, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Kubernetes' label value.
pub(crate) fn is_label_value(text: &str) -> bool {
    text.is_empty() || framed(text, 63, |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// What [`is_port_name`] demands.
pub(crate) const PORT_NAME: &str = "a port's name: up to 15 lower-case letters, digits and single hyphens, with a letter, and no hyphen at an end";

/// A name of a service as IANA has them (RFC 6335, section 5.1), which Kubernetes demands of ports that are named.
pub(crate) fn is_port_name(text: &str) -> bool {
    text.len() <= 15
        && is_dns_label(text)
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.contains("--")
}

/// RFC 1123 label in either case.
pub(crate) fn is_host_label(text: &str) -> bool {
    framed(text, 63, |b| b.is_ascii_alphanumeric() || b == b'-')
}

/// A port number that can be listened on or dialled.
pub(crate) fn is_port(port: u32) -> bool {
    (1..=65535).contains(&port)
}

/// An IP address.
pub(crate) fn ip(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// An IP address, or an address range `ADDRESS/BITS`.
pub(crate) fn is_ip_or_range(text: &str) -> bool {
    match text.split_once('/') {
        None => ip(text).is_some(),
        Some((address, bits)) => {
            let limit = match ip(address) {
                Some(IpAddr::V4(_)) => 32,
                Some(IpAddr::V6(_)) => 128,
                None => return false,
            };
            !bits.is_empty()
                && bits.bytes().all(|b| b.is_ascii_digit())
                && bits.parse::<u8>().is_ok_and(|bits| bits <= limit)
        }
    }
}

/// An IPv6 address.
pub(crate) fn is_ipv6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(is_dns_label("a-1") && is_dns_label(&"a".repeat(63)));
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)] {
            assert!(!is_dns_label(bad), "{bad}");
        }
        assert!(is_dns_subdomain("a.b-c.d"));
        for bad in ["", ".a", "a.", "a..b", "a-.b", &"a.".repeat(130)] {
            assert!(!is_dns_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn labels() {
        for good in ["app", "app.kubernetes.io/name", "A_b.c-d"] {
            assert!(is_label_key(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "-a", "Upper.io/x", "a b"] {
            assert!(!is_label_key(bad), "{bad}");
        }
        assert!(
            is_label_value("") && is_label_value("v1.2_3") && !is_label_value("a*") && !is_label_value("-")
        );
    }

    #[test]
    fn addresses() {
        for good in ["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"] {
            assert!(is_ip_or_range(good), "{good}");
        }
        for bad in [
            "10.0.0",
            "10.0.0.0/33",
            "::/129",
            "a/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
        ] {
            assert!(!is_ip_or_range(bad), "{bad}");
        }
    }
}
