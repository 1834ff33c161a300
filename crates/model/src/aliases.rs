//! Services of type ExternalName: other names of hosts. A chain of them leads to its end; one that leads back to itself leads
//! nowhere, as Kubernetes' DNS has it.

use std::collections::{BTreeMap, BTreeSet};

use imbl::OrdMap;

use crate::service::{Resolution, Service, ServiceId};

/// All aliases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Aliases {
    targets: OrdMap<ServiceId, String>,
    of: OrdMap<String, Vec<String>>,
}

impl Aliases {
    /// Takes services as they are now (or that they are gone). Gives the hosts whose aliases are others than before.
    pub(crate) fn set<'a>(
        &mut self,
        services: impl Iterator<Item = (&'a ServiceId, Option<&'a Service>)>,
    ) -> BTreeSet<String> {
        let mut changed = false;
        for (id, service) in services {
            let target = match service.map(|service| &service.resolution) {
                Some(Resolution::Alias(target)) => Some(target.clone()),
                _ => None,
            };
            if self.targets.get(id) != target.as_ref() {
                changed = true;
                match target {
                    Some(target) => self.targets.insert(id.clone(), target),
                    None => self.targets.remove(id),
                };
            }
        }
        if changed { self.resolve() } else { BTreeSet::new() }
    }

    fn resolve(&mut self) -> BTreeSet<String> {
        let by_host: BTreeMap<&str, &str> = self
            .targets
            .iter()
            .map(|(id, target)| (id.host.as_str(), target.as_str()))
            .collect();
        let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (alias, target) in &by_host {
            if let Some(end) = end(&by_host, alias, target) {
                of.entry(end.to_owned()).or_default().push((*alias).to_owned());
            }
        }
        let hosts = self.of.keys().chain(of.keys()).cloned();
        let changed = hosts.filter(|host| self.of.get(host) != of.get(host)).collect();
        self.of = of.into_iter().collect();
        changed
    }

    /// The aliases of a host, sorted.
    pub(crate) fn of(&self, host: &str) -> Vec<String> {
        self.of.get(host).cloned().unwrap_or_default()
    }
}

/// Where a chain of aliases ends; `None` for a circle.
fn end<'a>(by_host: &BTreeMap<&str, &'a str>, alias: &'a str, target: &'a str) -> Option<&'a str> {
    let mut seen = BTreeSet::from([alias]);
    let mut at = target;
    while let Some(next) = by_host.get(at) {
        if !seen.insert(at) {
            return None;
        }
        at = next;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_end_and_circles_do_not() {
        let by_host = BTreeMap::from([("a", "b"), ("b", "c"), ("x", "y"), ("y", "x"), ("z", "z")]);
        for (alias, expected) in [
            ("a", Some("c")),
            ("b", Some("c")),
            ("x", None),
            ("y", None),
            ("z", None),
        ] {
            assert_eq!(end(&by_host, alias, by_host[alias]), expected, "{alias}");
        }
    }
}
