//! What differs between the resources that Pilot wants a proxy to have (its page `/debug/resources`) and those of the Envoy's
//! dump. Pure. Pilot gives each resource a version of its own, and Envoy keeps it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::proxy_config::dump::{Dump, Entry, State, list, text};
use crate::show::plain;

/// One type of resources.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kind {
    name: &'static str,
    /// How many both have.
    count: usize,
    pub(super) differences: Vec<Difference>,
}

/// One resource that is not the same at both.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    resource: String,
    what: &'static str,
    /// The objects that it comes from.
    objects: Vec<String>,
}

const MISSING: &str = "Envoy does not have it";
const OLD: &str = "Envoy has another version";
const REMOVED: &str = "Pilot has it no more; Envoy still has";

/// Compares type by type. Endpoints are left out: Envoy keeps no version of theirs.
pub(super) fn between(wanted: &Value, dump: &Dump) -> Vec<Kind> {
    [
        ("Clusters", "/cds", &dump.clusters),
        ("Listeners", "/lds", &dump.listeners),
        ("Routes", "/rds", &dump.routes),
    ]
    .map(|(name, pointer, entries)| kind(name, list(wanted, pointer), entries))
    .into()
}

fn kind<'a>(name: &'static str, wanted: impl Iterator<Item = &'a Value>, entries: &[Entry]) -> Kind {
    let current = entries
        .iter()
        .filter(|one| matches!(one.state, State::Active | State::Warming));
    // A warming one is the newer one, and comes last.
    let mut has: BTreeMap<&str, &str> = current.map(|one| (&*one.name, &*one.version)).collect();
    let (mut count, mut differences) = (0, Vec::new());
    for one in wanted {
        let resource = text(one, "/name");
        let what = match has.remove(resource) {
            None => MISSING,
            Some(version) if version != text(one, "/version") => OLD,
            Some(_) => {
                count += 1;
                continue;
            }
        };
        let objects = list(one, "/objects")
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        differences.push(Difference {
            resource: resource.to_owned(),
            what,
            objects,
        });
    }
    differences.extend(has.into_keys().map(|resource| Difference {
        resource: resource.to_owned(),
        what: REMOVED,
        objects: Vec::new(),
    }));
    Kind {
        name,
        count,
        differences,
    }
}

/// For people.
pub(super) fn text_of(kinds: &[Kind]) -> String {
    let mut out = String::new();
    for kind in kinds {
        match kind.differences.as_slice() {
            [] => {
                let _ = writeln!(out, "{} match ({})", kind.name, kind.count);
            }
            differences => {
                let _ = writeln!(out, "{} differ ({} match)", kind.name, kind.count);
                for one in differences {
                    let from = match one.objects.as_slice() {
                        [] => String::new(),
                        objects => format!(" (from {})", objects.join(", ")),
                    };
                    let line = format!("  {}: {}{from}", one.resource, one.what);
                    let _ = writeln!(out, "{}", plain(&line));
                }
            }
        }
    }
    out
}

/// For programs.
pub(super) fn json(kinds: &[Kind]) -> Value {
    let difference =
        |one: &Difference| json!({"resource": one.resource, "difference": one.what, "objects": one.objects});
    let kind = |kind: &Kind| {
        let differences: Vec<Value> = kind.differences.iter().map(difference).collect();
        json!({"type": kind.name, "matching": kind.count, "differences": differences})
    };
    kinds.iter().map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, version: &str, state: State) -> Entry {
        Entry {
            name: name.to_owned(),
            state,
            version: version.to_owned(),
            config: Value::Null,
        }
    }

    #[test]
    fn names_and_versions_decide() {
        let resource = |name: &str, version: &str| json!({"name": name, "version": version, "objects": ["VirtualService shop/web"]});
        let wanted = json!({
            "cds": [resource("same", "1"), resource("old", "2"), resource("new", "1"), resource("warm", "2")],
            "rds": [resource("8080", "7")],
        });
        let dump = Dump {
            clusters: vec![
                entry("same", "1", State::Active),
                entry("old", "1", State::Active),
                entry("gone", "1", State::Active),
                entry("prometheus", "", State::Static),
                entry("warm", "1", State::Active),
                entry("warm", "2", State::Warming),
            ],
            routes: vec![entry("8080", "7", State::Active)],
            ..Dump::default()
        };
        assert_eq!(
            text_of(&between(&wanted, &dump)),
            "Clusters differ (2 match)\n  \
               old: Envoy has another version (from VirtualService shop/web)\n  \
               new: Envoy does not have it (from VirtualService shop/web)\n  \
               gone: Pilot has it no more; Envoy still has\n\
             Listeners match (0)\n\
             Routes match (1)\n"
        );
    }
}
