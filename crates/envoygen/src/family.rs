//! Families of IP addresses that a proxy has: what it listens on, and which of a service's addresses it can be sent to.

use std::net::IpAddr;

/// All addresses of IPv4, and of IPv6.
const ANY_V4: &str = "0.0.0.0";
const ANY_V6: &str = "::";

/// The families of a proxy's own addresses. One whose addresses nobody knows counts as of IPv4 (Istio).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Dual,
}

impl Families {
    /// The families of these addresses.
    pub(crate) fn of(ips: impl IntoIterator<Item = IpAddr>) -> Families {
        let (mut v4, mut v6) = (false, false);
        for ip in ips {
            v4 |= ip.is_ipv4();
            v6 |= ip.is_ipv6();
        }
        match (v4, v6) {
            (true, true) => Families::Dual,
            (false, true) => Families::V6,
            _ => Families::V4,
        }
    }

    /// Whether an address is of one of them.
    pub(crate) fn has(self, ip: IpAddr) -> bool {
        match self {
            Families::V4 => ip.is_ipv4(),
            Families::V6 => ip.is_ipv6(),
            Families::Dual => true,
        }
    }

    /// What stands for all addresses: of IPv4 where the proxy has both.
    pub(crate) fn any(self) -> &'static str {
        match self {
            Families::V4 | Families::Dual => ANY_V4,
            Families::V6 => ANY_V6,
        }
    }

    /// The machine itself.
    pub(crate) fn loopback(self) -> &'static str {
        match self {
            Families::V4 | Families::Dual => "127.0.0.1",
            Families::V6 => "::1",
        }
    }

    /// What a listener on `address` binds beside it, so that callers of both families reach it.
    pub(crate) fn beside(self, address: &str) -> Option<&'static str> {
        (self == Families::Dual && address == ANY_V4).then_some(ANY_V6)
    }
}

/// Whether an address stands for all of a family.
pub(crate) fn is_any(address: &str) -> bool {
    address == ANY_V4 || address == ANY_V6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ips: &[&str], expected: Families, any: &str, beside: Option<&str>) {
        let families = Families::of(ips.iter().map(|ip| ip.parse().unwrap()));
        assert_eq!(families, expected, "{ips:?}");
        assert_eq!((families.any(), families.beside(families.any())), (any, beside));
    }

    #[test]
    fn families_of_addresses() {
        check(&[], Families::V4, "0.0.0.0", None);
        check(&["10.0.0.1"], Families::V4, "0.0.0.0", None);
        check(&["fd00::1"], Families::V6, "::", None);
        check(&["fd00::1", "10.0.0.1"], Families::Dual, "0.0.0.0", Some("::"));
        assert_eq!(
            Families::Dual.beside("10.0.0.1"),
            None,
            "one address is one address"
        );
        assert!(!Families::V4.has("fd00::1".parse().unwrap()));
    }
}
