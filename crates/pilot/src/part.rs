//! One part of what a scope's proxies should have: resources, the objects that each came from, and what could not be
//! generated. The next snapshot's part shares what did not change.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use config::{Finding, ObjectKey};
use envoygen::Output;
use imbl::OrdMap;
use xds::{Table, TypeUrl};

/// The objects behind each resource of one type, by its name.
type Origins = OrdMap<Arc<str>, Arc<[ObjectKey]>>;

/// Resources of one part of a scope, and the objects that they came from.
#[derive(Debug)]
pub struct Part {
    pub(crate) table: Arc<Table>,
    origins: BTreeMap<&'static str, Origins>,
    /// All objects in `origins`, made when first asked for.
    objects: OnceLock<Arc<HashSet<ObjectKey>>>,
    pub(crate) findings: Arc<[Finding]>,
}

impl Part {
    /// A part made anew. What equals the resources of `previous` is shared with it.
    pub(crate) fn new(output: Output, previous: Option<&Self>) -> Self {
        let mut table = Table::builder();
        let mut origins: BTreeMap<&'static str, Origins> = BTreeMap::new();
        let nothing = Origins::new();
        for resource in output.resources {
            let name: Arc<str> = resource.name.as_str().into();
            let before = previous.and_then(|previous| previous.origins.get(resource.type_url));
            let before = before.unwrap_or(&nothing).get_key_value(&name);
            let same = before.filter(|(_, objects)| ***objects == *resource.origins);
            let (name, objects) = match same {
                Some((name, objects)) => (name.clone(), objects.clone()),
                None => (name, resource.origins.into()),
            };
            table.insert(TypeUrl::fixed(resource.type_url), name.clone(), resource.bytes);
            origins
                .entry(resource.type_url)
                .or_default()
                .insert(name, objects);
        }
        let table = Arc::new(table.build(previous.map(|previous| &*previous.table)));
        Self {
            table,
            origins,
            objects: OnceLock::new(),
            findings: output.findings.into(),
        }
    }

    /// This part with some of its resources made anew. One that it has not got, or has from other objects, stays as
    /// it is.
    pub(crate) fn with(&self, output: Output) -> Self {
        let (mut table, mut origins) = (self.table.clone(), self.origins.clone());
        let mut by_type: BTreeMap<&'static str, Vec<_>> = BTreeMap::new();
        for resource in output.resources {
            let Some(known) = origins.get_mut(resource.type_url) else {
                continue;
            };
            let name = known.get_key_value(resource.name.as_str());
            let Some((name, before)) = name.map(|(name, before)| (name.clone(), before.clone())) else {
                continue;
            };
            if !before.iter().any(|object| resource.origins.contains(object)) {
                continue;
            }
            if *before != *resource.origins {
                known.insert(name.clone(), resource.origins.into());
            }
            let upserts = by_type.entry(resource.type_url).or_default();
            upserts.push((name, resource.bytes));
        }
        for (type_url, upserts) in by_type {
            table = Arc::new(table.with(&TypeUrl::fixed(type_url), upserts, [""; 0]));
        }
        Self {
            table,
            origins,
            objects: OnceLock::new(),
            findings: self.findings.clone(),
        }
    }

    /// The objects that its resources came from.
    #[must_use]
    pub fn objects(&self) -> Arc<HashSet<ObjectKey>> {
        let all = self.origins.values().flat_map(Origins::values);
        let all = || Arc::new(all.flat_map(|objects| objects.iter()).cloned().collect());
        self.objects.get_or_init(all).clone()
    }

    /// The objects that one resource came from.
    pub(crate) fn origins(&self, type_url: &str, name: &str) -> Option<&[ObjectKey]> {
        self.origins.get(type_url)?.get(name).map(|objects| &**objects)
    }
}
