//! Which addresses may be called. Names are resolved here and only here, so that what was checked is what is called, whatever a
//! name's server says the next time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Resolves names to addresses that may be called.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    allowed: Arc<[IpNet]>,
}

/// A name leads nowhere that may be called.
#[derive(Debug, thiserror::Error)]
#[error(
    "{host} is at {address}, a private, link-local or loopback address; if it may be called, allow it by --jwks-allow-private"
)]
pub(super) struct Forbidden {
    host: String,
    address: IpAddr,
}

impl Guard {
    pub(super) fn new(allowed: &[IpNet]) -> Self {
        Self {
            allowed: allowed.into(),
        }
    }

    /// Whether an address may be called.
    fn admits(&self, address: IpAddr) -> bool {
        is_public(address) || self.allowed.iter().any(|range| range.contains(&address))
    }

    /// Checks the host of a URL if it is an address; names are checked when they are resolved.
    pub(super) fn check(&self, host: &str) -> Result<(), Forbidden> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        match literal.parse() {
            Ok(address) if !self.admits(address) => Err(Forbidden {
                host: host.to_owned(),
                address,
            }),
            _ => Ok(()),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let (good, bad): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| guard.admits(a.ip()));
            let usable: Result<Addrs, Box<dyn std::error::Error + Send + Sync>> = match bad.first() {
                Some(bad) if good.is_empty() => Err(Box::new(Forbidden {
                    host,
                    address: bad.ip(),
                })),
                _ => Ok(Box::new(good.into_iter())),
            };
            usable
        })
    }
}

/// Whether anybody may be meant by an address: it is none that is for special purposes (IANA's registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0, ..) | (100, 64..=127, _) | (192, 0, 0) | (198, 18..=19, _)
    ) || a >= 240;
    !(special
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let documentation = (first, second) == (0x2001, 0xdb8);
    // Of all of them only 2000::/3 is in use for anybody.
    (0x2000..=0x3fff).contains(&first) && !documentation
}

/// The IPv4 address that an IPv6 address stands for: mapped, NAT64, 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(v4(g, h)),
        (0x2002, high, low, ..) => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses() {
        for text in [
            "8.8.8.8",
            "172.32.0.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:db8::1",
            "fec0::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_alone() {
        let guard = Guard::new(&["127.9.0.0/16".parse().unwrap()]);
        assert!(guard.check("127.9.1.1").is_ok());
        assert!(guard.check("127.8.1.1").is_err());
        assert!(guard.check("[::1]").is_err());
        assert!(
            guard.check("keys.example").is_ok(),
            "names are checked by their addresses"
        );
    }

    #[tokio::test]
    async fn names_are_checked_by_their_addresses() {
        let resolve = |allowed: &[IpNet]| Guard::new(allowed).resolve("localhost".parse().unwrap());
        let error = resolve(&[]).await.err().unwrap().to_string();
        assert!(
            error.contains("loopback") && error.contains("--jwks-allow-private"),
            "{error}"
        );
        let all = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        assert!(resolve(&all).await.is_ok());
    }
}
