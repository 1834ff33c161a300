//! All workloads, found by name, by IP address, by node and by labels. A persistent structure: the next snapshot shares what did
//! not change.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::Kind;
use imbl::{OrdMap, OrdSet};

use crate::export::selects;
use crate::workload::Workload;

/// Namespace, name and kind.
pub(crate) type WorkloadId = (String, String, Kind);

/// The mesh's workloads.
#[derive(Debug, Clone, Default)]
pub struct Workloads {
    pub(crate) all: OrdMap<WorkloadId, Arc<Workload>>,
    by_ip: OrdSet<(IpAddr, WorkloadId)>,
    /// By namespace, label and value.
    by_label: OrdSet<(String, String, String, WorkloadId)>,
    /// Pods by node.
    by_node: OrdSet<(String, WorkloadId)>,
}

/// Comes before every workload of the same first part.
const FIRST: WorkloadId = (String::new(), String::new(), Kind::VirtualService);

impl Workloads {
    /// Takes a workload in place of the one of this id, or that it is gone. Gives the one that was there.
    pub(crate) fn set(&mut self, id: &WorkloadId, workload: Option<Workload>) -> Option<Arc<Workload>> {
        let old = self.all.remove(id);
        if let Some(old) = &old {
            old.ips()
                .for_each(|ip| drop(self.by_ip.remove(&(ip, id.clone()))));
            for (key, value) in old.labels.iter() {
                self.by_label
                    .remove(&(id.0.clone(), key.clone(), value.clone(), id.clone()));
            }
            self.by_node.remove(&(old.node.clone(), id.clone()));
        }
        if let Some(new) = workload {
            new.ips().for_each(|ip| drop(self.by_ip.insert((ip, id.clone()))));
            for (key, value) in new.labels.iter() {
                self.by_label
                    .insert((id.0.clone(), key.clone(), value.clone(), id.clone()));
            }
            if !new.node.is_empty() {
                self.by_node.insert((new.node.clone(), id.clone()));
            }
            self.all.insert(id.clone(), Arc::new(new));
        }
        old
    }

    /// The workload of this name; of a WorkloadEntry and a Pod with one name the WorkloadEntry.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Workload> {
        let first = (namespace.to_owned(), name.to_owned(), Kind::VirtualService);
        let (id, found) = self.all.range(first..).next()?;
        (id.0 == namespace && id.1 == name).then_some(&**found)
    }

    /// The Pod of this name.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&Workload> {
        let id = (namespace.to_owned(), name.to_owned(), Kind::Pod);
        self.all.get(&id).map(|workload| &**workload)
    }

    /// All of them, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Workload> {
        self.all.values().map(|workload| &**workload)
    }

    /// Those with this address (several only if the platform reuses addresses).
    pub fn at(&self, ip: IpAddr) -> impl Iterator<Item = &Workload> {
        let here = self
            .by_ip
            .range((ip, FIRST)..)
            .take_while(move |(at, _)| *at == ip);
        here.filter_map(|(_, id)| self.all.get(id))
            .map(|workload| &**workload)
    }

    /// The ids of the Pods on a node.
    pub(crate) fn on_node(&self, node: &str) -> Vec<WorkloadId> {
        let here = self.by_node.range((node.to_owned(), FIRST)..);
        here.take_while(|(at, _)| at == node)
            .map(|(_, id)| id.clone())
            .collect()
    }

    /// Those of a namespace that carry all labels of `selector`, which must not be empty.
    pub fn select<'a>(
        &'a self,
        namespace: &str,
        selector: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Workload> {
        let with = |key: &str, value: &str| {
            let first = (namespace.to_owned(), key.to_owned(), value.to_owned(), FIRST);
            let range = self.by_label.range(first..);
            let (namespace, key, value) = (namespace.to_owned(), key.to_owned(), value.to_owned());
            range.take_while(move |(ns, k, v, _)| *ns == namespace && *k == key && *v == value)
        };
        // All ranges are walked in step, so that the rarest label bounds the search.
        let mut ranges: Vec<_> = selector.iter().map(|(k, v)| with(k, v)).collect();
        let mut counted: Vec<Vec<&WorkloadId>> = vec![Vec::new(); ranges.len()];
        let rarest = 'walk: loop {
            for (range, ids) in ranges.iter_mut().zip(&mut counted) {
                match range.next() {
                    Some((_, _, _, id)) => ids.push(id),
                    None => break 'walk std::mem::take(ids),
                }
            }
            if counted.is_empty() {
                break Vec::new();
            }
        };
        let found = rarest.into_iter().filter_map(|id| self.all.get(id));
        found
            .map(|workload| &**workload)
            .filter(|workload| selects(selector, &workload.labels))
    }
}
