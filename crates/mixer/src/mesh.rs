//! Workloads and services as Mixer looks them up: by address, by name, by identity, by host. Made from a snapshot, off the
//! request's path, and immutable. It knows nothing of rules.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{Gateway, Snapshot, Workload};
use policy::{ServiceView, WorkloadView};

/// All workloads and services at one moment.
#[derive(Debug, Default)]
pub(crate) struct Mesh {
    by_ip: HashMap<IpAddr, Vec<Arc<WorkloadView>>>,
    by_principal: HashMap<String, Vec<Arc<WorkloadView>>>,
    services: HashMap<String, Vec<ServiceView>>,
    /// Namespace and name of the workloads that open the servers of Gateways.
    gateways: HashSet<(String, String)>,
}

impl Mesh {
    /// The workloads and services of a snapshot.
    pub(crate) fn new(snapshot: &Snapshot) -> Self {
        let workloads = snapshot.workloads().iter();
        let mut mesh = Self::of(workloads.map(|workload| WorkloadView::of(snapshot, workload)));
        for service in snapshot.services().iter() {
            let view = ServiceView::called(service);
            mesh.services.entry(service.host.clone()).or_default().push(view);
        }
        for workload in snapshot.workloads().iter() {
            let mut gateways = snapshot.gateways().iter();
            if gateways.any(|gateway| opens(gateway, snapshot, workload)) {
                mesh.gateways
                    .insert((workload.key.namespace.clone(), workload.key.name.clone()));
            }
        }
        mesh
    }

    /// A mesh of these workloads alone.
    pub(crate) fn of(workloads: impl IntoIterator<Item = WorkloadView>) -> Self {
        let mut mesh = Self::default();
        for workload in workloads {
            let workload = Arc::new(workload);
            for ip in workload.ips() {
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

    /// Whether a Gateway is for this workload, so that it may ask about requests to services of others.
    pub(crate) fn is_gateway(&self, workload: &WorkloadView) -> bool {
        let name = (workload.namespace.clone(), workload.name.clone());
        self.gateways.contains(&name)
    }

    /// The service of this host in this namespace.
    pub(crate) fn service_in(&self, namespace: &str, host: &str) -> Option<&ServiceView> {
        let mut all = self.services.get(host)?.iter();
        all.find(|service| service.namespace == namespace)
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

/// Whether a workload opens a Gateway's servers: by its labels, or as an endpoint of a Service that the Gateway is for.
fn opens(gateway: &Gateway, snapshot: &Snapshot, workload: &Workload) -> bool {
    match &gateway.services {
        None => gateway.selects(&workload.labels),
        Some(hosts) => {
            let mut own = snapshot.services().of_workload(workload);
            own.any(|service| service.namespace == gateway.key.namespace && hosts.contains(&service.host))
        }
    }
}

fn only<'a>(mut workloads: impl Iterator<Item = &'a Arc<WorkloadView>>) -> Option<&'a WorkloadView> {
    let first = workloads.next()?;
    workloads.next().is_none().then_some(&**first)
}
