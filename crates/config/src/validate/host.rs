//! Hosts as Istio's API writes them: DNS names, names with wildcards, names within a namespace, addresses. Each check gives
//! the words for what is wrong.

use std::collections::{BTreeMap, HashMap};

use crate::path::At;
use crate::syntax;

/// What is wrong with a text, if anything.
pub(super) type Fault = Option<String>;

/// Reports a fault.
pub(super) fn report(fault: Fault, at: &At<'_>) {
    if let Some(fault) = fault {
        at.error(fault);
    }
}

/// A fully qualified or short DNS name, without wildcard.
pub(super) fn dns_name(name: &str) -> Fault {
    length(name).or_else(|| labels(name, name))
}

/// A DNS name whose first label may be `*`, or begin with it.
pub(super) fn wildcard(name: &str) -> Fault {
    if let Some(fault) = length(name) {
        return Some(fault);
    }
    let (first, rest) = name
        .split_once('.')
        .map_or((name, None), |(first, rest)| (first, Some(rest)));
    let plain = first
        .strip_prefix("*-")
        .or_else(|| first.strip_prefix('*'))
        .unwrap_or(first);
    if first != "*" && !(first.len() <= 63 && syntax::is_host_label(plain)) {
        return Some(format!("{name:?} is not a DNS name: {first:?} is not a label"));
    }
    rest.filter(|rest| !rest.is_empty())
        .and_then(|rest| labels(rest, name))
}

fn length(name: &str) -> Fault {
    match name.len() {
        0 => Some("a host must not be empty".to_owned()),
        1..=255 => None,
        size => Some(format!("a host has at most 255 characters, not {size}")),
    }
}

/// The labels of a name, a dot at its end allowed.
fn labels(part: &str, whole: &str) -> Fault {
    let last = part.rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!(
            "{whole:?} is not a DNS name: its last label {last:?} is a number"
        ));
    }
    let part = part.strip_suffix('.').unwrap_or(part);
    let bad = part.split('.').find(|label| !syntax::is_host_label(label))?;
    Some(format!("{whole:?} is not a DNS name: {bad:?} is not a label"))
}

/// A wildcard is a whole label, or the whole name.
pub(super) fn partial_wildcard(name: &str) -> Fault {
    let partial = name.contains('*') && name != "*" && !name.starts_with("*.");
    partial.then(|| format!("{name:?} has a wildcard for a part of a label; use *. for whole labels"))
}

/// Where a host entry `NAMESPACE/HOST` stands, which decides on the details.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The namespace may be left out, be `*` or `.`.
    Gateway,
    /// The namespace must be given; `~` stands before one that is left out.
    Sidecar,
}

/// `NAMESPACE/HOST`, as Gateways and Sidecars list hosts.
pub(super) fn within_namespace(entry: &str, owner: Owner, at: &At<'_>) {
    let Some((namespace, host)) = entry.split_once('/') else {
        return match owner {
            Owner::Gateway => host_part(entry, at),
            Owner::Sidecar => {
                at.error_help(
                    format!("{entry:?} must be NAMESPACE/HOST"),
                    "write ./HOST for hosts of the own namespace",
                );
            }
        };
    };
    let name = match owner {
        Owner::Gateway => namespace,
        Owner::Sidecar => namespace.strip_prefix('~').unwrap_or(namespace),
    };
    let none = owner == Owner::Sidecar && namespace == "~";
    if !none && !matches!(name, "*" | ".") && !syntax::is_host_label(name) {
        at.error(format!(
            "{entry:?} has no namespace before its slash: {namespace:?} is none; use a name, * or ."
        ));
    }
    match host.is_empty() {
        true => at.error(format!("{entry:?} has no host after its slash")),
        false => host_part(host, at),
    }
}

fn host_part(host: &str, at: &At<'_>) {
    if host == "*" || syntax::ip(host).is_some() {
        return;
    }
    if let Some(fault) = wildcard(host).or_else(|| partial_wildcard(host)) {
        return at.error(fault);
    }
    if !host.contains('.') {
        at.error_help(
            format!("{host:?} is a short name"),
            "write the full name, such as NAME.NAMESPACE.svc.cluster.local",
        );
    }
}

/// Names of gateways: `NAME`, `NAMESPACE/NAME`, or `mesh`.
pub(super) fn gateways(names: &[String], at: &At<'_>) {
    at.each("gateways", names, |name, at| match name.split_once('/') {
        None if name.is_empty() => {
            at.error("the name of a gateway must not be empty; for sidecars write mesh");
        }
        Some((namespace, gateway)) => {
            for (part, what) in [(namespace, "namespace"), (gateway, "gateway")] {
                if !syntax::is_host_label(part) {
                    at.error(format!("{part:?} is not the name of a {what}"));
                }
            }
        }
        None => {
            report(dns_name(name), at);
            if let Some((gateway, rest)) = name.split_once('.') {
                let namespace = rest.split('.').next().unwrap_or_default();
                at.warning(format!(
                    "{name:?} is the old form of a gateway's name; write {namespace}/{gateway}"
                ));
            }
        }
    });
}

/// The path of a Unix socket, absolute, or abstract with `@` before it; `address` is what follows `unix://`.
pub(super) fn unix_path(address: &str) -> Fault {
    let fine = (address.starts_with('@') && address.len() > 1)
        || (address.starts_with('/') && !address.ends_with('/'));
    (!fine).then(|| {
        format!("{address:?} must be the absolute path of a Unix socket, or @NAME for an abstract one")
    })
}

/// `HOST:PORT`, the host a DNS name or an IP address, in brackets for IPv6.
pub(super) fn host_port(address: &str) -> Fault {
    let Some((host, port)) = address.rsplit_once(':') else {
        return Some(format!("{address:?} must be HOST:PORT"));
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if !port.parse::<u32>().is_ok_and(syntax::is_port) {
        return Some(format!(
            "{port:?} in {address:?} is not a port number from 1 to 65535"
        ));
    }
    if inner.is_some_and(syntax::is_ipv6) || syntax::ip(host).is_some_and(|ip| ip.is_ipv4()) {
        return None;
    }
    dns_name(host).map(|_| format!("{host:?} in {address:?} is neither a DNS name nor an IP address"))
}

/// Names of hosts, with wildcards or without, that other names are compared with: in time that grows with the names' length and
/// not with their number. `*` stands at the start and for any text.
#[derive(Default)]
pub(super) struct Names<'a> {
    exact: HashMap<&'a str, usize>,
    /// What follows the `*`, by length.
    suffixes: BTreeMap<usize, HashMap<&'a str, usize>>,
    /// All of them without the `*`, from their ends.
    reversed: BTreeMap<Vec<u8>, usize>,
    names: Vec<&'a str>,
}

impl<'a> Names<'a> {
    /// Adds a name; one that was added before stays where it is.
    pub(super) fn add(&mut self, name: &'a str) {
        let index = self.names.len();
        self.names.push(name);
        let body = name.strip_prefix('*').unwrap_or(name);
        match name.starts_with('*') {
            true => {
                let same = self.suffixes.entry(body.len()).or_default();
                same.entry(body).or_insert(index);
            }
            false => _ = self.exact.entry(name).or_insert(index),
        }
        self.reversed.entry(reverse(body)).or_insert(index);
    }

    /// The first name of which all hosts that `part` means are.
    pub(super) fn around(&self, part: &str) -> Option<&'a str> {
        let body = part.strip_prefix('*').unwrap_or(part);
        let exact = self.exact.get(part).copied().filter(|_| !part.starts_with('*'));
        self.first(exact.into_iter().chain(self.suffixes_of(body)))
    }

    /// A name that means some host that `name` means too.
    pub(super) fn overlapping(&self, name: &str) -> Option<&'a str> {
        let Some(body) = name.strip_prefix('*') else {
            return self.around(name);
        };
        let end = reverse(body);
        let mut from = self.reversed.range(end.clone()..);
        let ending = from.next().filter(|(name, _)| name.starts_with(&end));
        let ending = ending.map(|(_, index)| *index);
        self.first(ending.into_iter().chain(self.suffixes_of(body)))
    }

    /// The wildcards that mean a host of this name.
    fn suffixes_of(&self, body: &str) -> impl Iterator<Item = usize> {
        self.suffixes.range(..=body.len()).filter_map(|(length, names)| {
            let end = body.get(body.len() - length..)?;
            names.get(end).copied()
        })
    }

    fn first(&self, found: impl Iterator<Item = usize>) -> Option<&'a str> {
        self.names.get(found.min()?).copied()
    }
}

fn reverse(name: &str) -> Vec<u8> {
    name.bytes().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same_hosts() {
        let overlaps = |earlier: &[&'static str], name: &str| {
            let mut names = Names::default();
            earlier.iter().copied().for_each(|name| names.add(name));
            (names.overlapping(name), names.around(name))
        };
        for (earlier, name, overlapping, around) in [
            ("a.b", "a.b", true, true),
            ("a.b", "b", false, false),
            ("a.b", "*.b", true, false),
            ("a.b", "*", true, false),
            ("*", "a.b", true, true),
            ("*.b", "a.b", true, true),
            ("*.b", "*.a.b", true, true),
            ("*.a.b", "*.b", true, false),
            ("*.a.b", "*.c.b", false, false),
            ("*-x.b", "a-x.b", true, true),
            ("*.b", "b", false, false),
        ] {
            let found = overlaps(&["z.z.z", earlier, "y.y"], name);
            let expected = |is: bool| is.then_some(earlier);
            assert_eq!(found.1, expected(around), "{earlier} around {name}");
            assert_eq!(found.0.is_some(), overlapping, "{earlier} and {name}");
        }
        assert_eq!(overlaps(&[], "*"), (None, None));
    }

    #[test]
    fn wildcards() {
        for good in [
            "*",
            "*.example.com",
            "a",
            "a.b.c",
            "*x",
            "*-x.y",
            "UPPER.com",
            "a.",
            "1.com",
            "reviews",
        ] {
            assert_eq!(wildcard(good), None, "{good}");
        }
        for bad in [
            "",
            "a..b",
            "a.*",
            "a_b",
            "*.*",
            "1.2.3.4",
            "-a",
            "a b",
            "a/b",
            &"a.".repeat(130),
            "**",
        ] {
            assert!(wildcard(bad).is_some(), "{bad}");
        }
        assert!(dns_name("*.a").is_some() && dns_name("a.b.").is_none());
    }

    #[test]
    fn addresses() {
        for good in ["a:1", "zipkin.istio-system:9411", "1.2.3.4:80", "[::1]:80"] {
            assert_eq!(host_port(good), None, "{good}");
        }
        for bad in ["a", "a:0", "a:x", ":80", "::1:80", "a:65536"] {
            assert!(host_port(bad).is_some(), "{bad}");
        }
        for good in ["/a", "/a/b", "@a"] {
            assert_eq!(unix_path(good), None, "{good}");
        }
        for bad in ["", "@", "a", "/a/", "/"] {
            assert!(unix_path(bad).is_some(), "{bad}");
        }
    }
}
