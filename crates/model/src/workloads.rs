//! All workloads, found by name, by IP address and by labels.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use crate::export::selects;
use crate::workload::Workload;

/// The mesh's workloads.
#[derive(Debug, Clone, Default)]
pub struct Workloads {
    all: BTreeMap<(String, String), Workload>,
    by_ip: HashMap<IpAddr, Vec<(String, String)>>,
    by_label: HashMap<(String, String, String), Vec<(String, String)>>,
}

impl Workloads {
    /// Indexes workloads; of two with one name the first stays.
    pub(crate) fn build(all: impl Iterator<Item = Workload>) -> Workloads {
        let mut out = Workloads::default();
        for workload in all {
            let id = (workload.key.namespace.clone(), workload.key.name.clone());
            out.all.entry(id).or_insert(workload);
        }
        for (id, workload) in &out.all {
            if let Some(ip) = workload.ip() {
                out.by_ip.entry(ip).or_default().push(id.clone());
            }
            for (key, value) in workload.labels.iter() {
                let label = (id.0.clone(), key.clone(), value.clone());
                out.by_label.entry(label).or_default().push(id.clone());
            }
        }
        out
    }

    /// The workload of this name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Workload> {
        self.all.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// All of them, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Workload> {
        self.all.values()
    }

    /// Those with this address (several only if the platform reuses addresses).
    pub fn at(&self, ip: IpAddr) -> impl Iterator<Item = &Workload> {
        self.by_ip
            .get(&ip)
            .into_iter()
            .flatten()
            .filter_map(|id| self.all.get(id))
    }

    /// Those of a namespace that carry all labels of `selector`, which must not be empty.
    pub fn select<'a>(
        &'a self,
        namespace: &str,
        selector: &'a BTreeMap<String, String>,
    ) -> impl Iterator<Item = &'a Workload> {
        let rarest = selector
            .iter()
            .map(|(k, v)| {
                self.by_label
                    .get(&(namespace.to_owned(), k.clone(), v.clone()))
                    .map_or(&[][..], Vec::as_slice)
            })
            .min_by_key(|ids| ids.len());
        let found = rarest.into_iter().flatten().filter_map(|id| self.all.get(id));
        found.filter(|workload| selects(selector, &workload.labels))
    }
}
