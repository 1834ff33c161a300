//! Which objects a proxy has not accepted yet: those behind what differs between the table that it should have and the
//! newest one that it has answered.
//!
//! Pure. Proxies that stand at the same tables share one comparison, so that a push to thousands costs one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use config::ObjectKey;
use xds::Table;
use xds::table::diff;

use super::counts::{Objects, Proxy};
use crate::tables::ProxyTable;

/// One proxy as the registry knows it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What it should have.
    pub wanted: ProxyTable,
    /// The newest table that it has answered all of.
    pub synced: Option<Arc<Table>>,
    /// Objects behind what it rejects, with its words.
    pub rejects: Vec<(ObjectKey, Arc<str>)>,
}

/// The parts of the wanted table, by identity, and the versions of the types that differ.
type Key = (Vec<usize>, Vec<(u64, u64)>);

/// What counting needs of each proxy.
#[must_use]
pub fn proxies(seen: &[Seen]) -> Vec<Proxy> {
    let mut compared: HashMap<Key, Objects> = HashMap::new();
    let proxy = |each: &Seen| {
        let parts = each.wanted.parts().iter().map(|part| part.objects()).collect();
        let is_synced = each
            .synced
            .as_ref()
            .is_some_and(|synced| synced.version() == each.wanted.table.version());
        let behind = (!is_synced).then(|| compared.entry(key(each)).or_insert_with(|| objects(each)).clone());
        Proxy {
            parts,
            behind,
            rejects: each.rejects.clone(),
        }
    };
    seen.iter().map(proxy).collect()
}

fn key(seen: &Seen) -> Key {
    let parts = seen
        .wanted
        .parts()
        .iter()
        .map(|part| Arc::as_ptr(part) as usize)
        .collect();
    let version = |table: &Option<Arc<Table>>, type_url| {
        table
            .as_ref()
            .map_or(0, |table| table.of_type(type_url).version())
    };
    let types = seen.wanted.table.types();
    let versions = types.map(|(type_url, table)| (version(&seen.synced, type_url), table.version()));
    (parts, versions.filter(|(has, wants)| has != wants).collect())
}

fn objects(seen: &Seen) -> Objects {
    let mut objects = HashSet::new();
    let nothing = Arc::default();
    let has = seen.synced.as_ref().unwrap_or(&nothing);
    for (type_url, wanted) in seen.wanted.table.types() {
        for resource in diff(&has.of_type(type_url), wanted).changed.iter() {
            objects.extend(seen.wanted.origins(type_url, &resource.name));
        }
    }
    Arc::new(objects)
}
