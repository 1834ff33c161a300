//! Host names as Istio writes them: short names, FQDNs and leading wildcards (`*`, `*.example.com`), always in
//! lower case. It knows nothing of services.

use std::cmp::Ordering;

/// Resolves a host of a VirtualService or DestinationRule relative to the object's namespace: a name without a dot becomes
/// `NAME.NAMESPACE.svc.DOMAIN`; anything else is taken as it is (Istio, "short names").
pub fn resolve(host: &str, namespace: &str, domain: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.is_empty() || host == "*" || host.contains('.') {
        return host;
    }
    fqdn(&host, namespace, domain)
}

/// The FQDN of a Kubernetes Service.
pub fn fqdn(name: &str, namespace: &str, domain: &str) -> String {
    format!("{name}.{namespace}.svc.{domain}")
}

/// Whether `host` starts with a wildcard.
pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether two hosts, each perhaps with a leading wildcard, have a name in common.
pub fn overlaps(a: &str, b: &str) -> bool {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        (Some(suffix), None) => b.ends_with(suffix),
        (None, Some(suffix)) => a.ends_with(suffix),
        (None, None) => a == b,
    }
}

/// Whether every name that `inner` stands for is also one of `outer`.
pub fn subset_of(inner: &str, outer: &str) -> bool {
    match outer.strip_prefix('*') {
        None => inner == outer,
        Some(suffix) => inner.strip_prefix('*').unwrap_or(inner).ends_with(suffix),
    }
}

/// The names that `a` and `b` have in common, as the more specific of the two; `None` if they have none.
pub fn intersect<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    if subset_of(a, b) {
        Some(a)
    } else if subset_of(b, a) {
        Some(b)
    } else {
        None
    }
}

/// Orders hosts from most to least specific: exact names first, then longer wildcards before shorter ones, then by
/// alphabet; the order in which Istio prefers one rule's host over another's.
pub fn by_specificity(a: &str, b: &str) -> Ordering {
    is_wildcard(a)
        .cmp(&is_wildcard(b))
        .then_with(|| {
            if is_wildcard(a) {
                b.len().cmp(&a.len())
            } else {
                Ordering::Equal
            }
        })
        .then_with(|| a.cmp(b))
}

/// The name without a port: `a.example:80` is `a.example`, `[::1]:80` is `[::1]`.
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            if host.contains(':') && !host.ends_with(']') {
                authority
            } else {
                host
            }
        }
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_get_the_namespace_and_domain() {
        for (host, expected) in [
            ("catalog", "catalog.shop.svc.cluster.local"),
            ("Catalog", "catalog.shop.svc.cluster.local"),
            ("catalog.shop", "catalog.shop"),
            ("*", "*"),
            ("*.example.com", "*.example.com"),
            ("", ""),
        ] {
            assert_eq!(resolve(host, "shop", "cluster.local"), expected);
        }
    }

    #[test]
    fn wildcards_overlap_and_contain() {
        for (a, b, over, sub) in [
            ("a.b.com", "*.b.com", true, true),
            ("*.b.com", "a.b.com", true, false),
            ("*.a.b.com", "*.b.com", true, true),
            ("*", "a.com", true, false),
            ("a.com", "*", true, true),
            ("b.com", "*.b.com", false, false),
            ("a.com", "b.com", false, false),
            ("a.com", "a.com", true, true),
        ] {
            assert_eq!(overlaps(a, b), over, "{a} overlaps {b}");
            assert_eq!(subset_of(a, b), sub, "{a} within {b}");
        }
        assert_eq!(intersect("*.b.com", "a.b.com"), Some("a.b.com"));
        assert_eq!(intersect("*", "*.b.com"), Some("*.b.com"));
        assert_eq!(intersect("c.com", "*.b.com"), None);
    }

    #[test]
    fn specific_hosts_come_first() {
        let mut hosts = ["*", "*.b.com", "z.com", "*.a.b.com", "a.com"];
        hosts.sort_by(|a, b| by_specificity(a, b));
        assert_eq!(hosts, ["a.com", "z.com", "*.a.b.com", "*.b.com", "*"]);
    }

    #[test]
    fn ports_are_cut_off() {
        for (authority, host) in [
            ("a.com:80", "a.com"),
            ("a.com", "a.com"),
            ("[::1]:80", "[::1]"),
            ("::1", "::1"),
            ("a.com:", "a.com:"),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }
}
