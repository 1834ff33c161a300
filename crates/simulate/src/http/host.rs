//! Virtual hosts (Envoy, "VirtualHost.domains": exact, longest `*suffix`, longest `prefix*`, `*`).

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

use crate::call::without_port;

pub(super) fn choose<'a>(routes: &'a RouteConfiguration, host: &str) -> Option<&'a VirtualHost> {
    let host = if routes.ignore_port_in_host_matching {
        without_port(host)
    } else {
        host
    };
    let host = host.to_ascii_lowercase();
    let best = routes
        .virtual_hosts
        .iter()
        .flat_map(|vh| vh.domains.iter().map(move |domain| (vh, domain)))
        .filter_map(|(vh, domain)| Some((rank(&domain.to_ascii_lowercase(), &host)?, vh)));
    // Of equals the first counts; Envoy refuses configurations that have them.
    best.reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, vh)| vh)
}

/// How specific a domain that has the host is: by kind, then by length.
fn rank(domain: &str, host: &str) -> Option<(u8, usize)> {
    if domain == "*" {
        return Some((0, 0));
    }
    if domain == host {
        return (!host.is_empty()).then_some((3, 0));
    }
    if let Some(suffix) = domain.strip_prefix('*') {
        return (host.len() > suffix.len() && host.ends_with(suffix)).then_some((2, suffix.len()));
    }
    let prefix = domain.strip_suffix('*')?;
    (host.len() > prefix.len() && host.starts_with(prefix)).then_some((1, prefix.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_exact_to_any() {
        let host = |name: &str, domains: &[&str]| VirtualHost {
            name: name.into(),
            domains: domains.iter().map(|d| (*d).to_owned()).collect(),
            ..Default::default()
        };
        let routes = RouteConfiguration {
            virtual_hosts: vec![
                host("any", &["*"]),
                host("start", &["a.*"]),
                host("far", &["*.com"]),
                host("near", &["*.b.com", "[::1]"]),
                host("exact", &["a.b.com", "10.0.0.1"]),
            ],
            ignore_port_in_host_matching: true,
            ..Default::default()
        };
        let cases = [
            ("a.b.com", "exact"),
            ("A.B.com:80", "exact"),
            ("x.b.com", "near"),
            ("b.com", "far"),
            ("a.org", "start"),
            ("x.org", "any"),
            ("", "any"),
            ("[::1]:8080", "near"),
            ("10.0.0.1:1", "exact"),
        ];
        for (given, expected) in cases {
            assert_eq!(choose(&routes, given).unwrap().name, expected, "{given}");
        }
    }
}
