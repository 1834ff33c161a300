//! Workloads and services as Mixer looks them up: by address, by name, by identity, by host. Made from a snapshot, off the
//! request's path, and immutable. It knows nothing of rules.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::Snapshot;
use policy::{ServiceView, WorkloadView};

/// All workloads and services at one moment.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    by_ip: HashMap<IpAddr, Vec<Arc<WorkloadView>>>,
    by_principal: HashMap<String, Vec<Arc<WorkloadView>>>,
    services: HashMap<String, Vec<ServiceView>>,
}

impl Mesh {
    /// The workloads and services of a snapshot.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let workloads = snapshot.workloads().iter();
        let mut mesh = Self::of(workloads.map(|workload| WorkloadView::of(snapshot, workload)));
        for service in snapshot.services().iter() {
            let view = ServiceView {
                host: service.host.clone(),
                name: service.name.clone(),
                namespace: service.namespace.clone(),
                ports: service.ports.iter().map(|port| port.number).collect(),
            };
            mesh.services.entry(service.host.clone()).or_default().push(view);
        }
        mesh
    }

    /// A mesh of these workloads alone.
    pub(crate) fn of(workloads: impl IntoIterator<Item = WorkloadView>) -> Self {
        let mut mesh = Self::default();
        for workload in workloads {
            let workload = Arc::new(workload);
            if let Some(ip) = workload.ip {
                mesh.by_ip
                    .entry(ip.to_canonical())
                    .or_default()
                    .push(workload.clone());
            }
            let principal = workload.principal().to_owned();
            mesh.by_principal.entry(principal).or_default().push(workload);
        }
        mesh
    }

    /// How many workloads there are.
    pub(crate) fn len(&self) -> usize {
        self.by_principal.values().map(Vec::len).sum()
    }

    /// The one workload at an address; none if several share it.
    pub(crate) fn at(&self, ip: IpAddr) -> Option<&WorkloadView> {
        only(self.by_ip.get(&ip.to_canonical())?.iter())
    }

    /// The one workload at an address that has this identity.
    pub(crate) fn at_with(&self, ip: IpAddr, principal: &str) -> Option<&WorkloadView> {
        let here = self.by_ip.get(&ip.to_canonical())?.iter();
        only(here.filter(|workload| workload.principal() == principal))
    }

    /// The workload of this name that has this identity.
    pub(crate) fn named(&self, namespace: &str, name: &str, principal: &str) -> Option<&WorkloadView> {
        let own = self.by_principal.get(principal)?.iter();
        only(own.filter(|workload| workload.namespace == namespace && workload.name == name))
    }

    /// The one workload that has this identity; none if several share it.
    pub(crate) fn only_with(&self, principal: &str) -> Option<&WorkloadView> {
        only(self.by_principal.get(principal)?.iter())
    }

    /// The service of this host: that of `namespace` if it has one, else the first.
    pub(crate) fn service(&self, host: &str, namespace: Option<&str>) -> Option<&ServiceView> {
        let all = self.services.get(host)?;
        let own = all
            .iter()
            .find(|service| Some(service.namespace.as_str()) == namespace);
        own.or_else(|| all.first())
    }
}

fn only<'a>(mut workloads: impl Iterator<Item = &'a Arc<WorkloadView>>) -> Option<&'a WorkloadView> {
    let first = workloads.next()?;
    workloads.next().is_none().then_some(&**first)
}
