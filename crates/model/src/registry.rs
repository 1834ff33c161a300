//! Where services come from, and what has to be made again when that changes: objects that declare services, their
//! EndpointSlices, the addresses that they were given, and other names of them.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::{Finding, Kind, Object, ObjectKey};
use imbl::{OrdMap, OrdSet};

use crate::aliases::Aliases;
use crate::allocate::Allocation;
use crate::declared::{Declared, ids};
use crate::host;
use crate::networks::{NetworkRules, Networks};
use crate::platform::Platform;
use crate::service::{Service, ServiceId, TrafficDistribution};
use crate::service_build::{self, Sources};
use crate::services::{self, Services};
use crate::slices::Slices;
use crate::snapshot::{DNS_DOMAIN, Objects};
use crate::workload::Workload;
use crate::workloads::Workloads;

/// Where services come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    declared: Declared,
    slices: Slices,
    allocation: Allocation,
    aliases: Aliases,
    /// Services that may be gateways of networks.
    gateways: OrdSet<ServiceId>,
    /// Services whose clients look at nodes.
    by_node: OrdSet<ServiceId>,
    findings: OrdMap<ObjectKey, Vec<Finding>>,
}

/// What services are made from beside the registry.
pub(crate) struct Around<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) mesh: &'a MeshConfig,
    pub(crate) platform: &'a Platform,
    pub(crate) workloads: &'a Workloads,
}

impl Registry {
    /// Takes an object that services are made from. Adds the services that have to be made again to `dirty`.
    pub(crate) fn set(
        &mut self,
        key: &ObjectKey,
        before: Option<&Arc<Object>>,
        now: Option<&Arc<Object>>,
        dirty: &mut BTreeSet<ServiceId>,
    ) {
        let (old, new) = (before.map(|o| &**o), now.map(|o| &**o));
        match key.kind {
            Kind::EndpointSlice => {
                let touched = self.slices.set(key, old, now);
                dirty.extend(touched.map(|name| {
                    ServiceId::new(
                        host::fqdn(&name, &key.namespace, DNS_DOMAIN),
                        key.namespace.clone(),
                    )
                }));
            }
            Kind::Service | Kind::ServiceEntry => {
                dirty.extend(self.declared.set(old, new, DNS_DOMAIN));
                if key.kind == Kind::ServiceEntry {
                    dirty.extend(self.allocation.set(old, new));
                    self.find(key, new);
                }
            }
            _ => {}
        }
    }

    fn find(&mut self, key: &ObjectKey, entry: Option<&Object>) {
        let found = match entry.map(|object| (object, &object.spec)) {
            Some((object, config::Spec::ServiceEntry(entry))) => service_build::findings(object, entry),
            _ => Vec::new(),
        };
        if found.is_empty() {
            self.findings.remove(key);
        } else {
            self.findings.insert(key.clone(), found);
        }
    }

    /// Adds the services that may have a workload as an endpoint.
    pub(crate) fn touched_by(
        &self,
        workload: &Workload,
        services: &Services,
        objects: &Objects,
        dirty: &mut BTreeSet<ServiceId>,
    ) {
        let here = workload.ips().flat_map(|ip| services.at(ip));
        let namespace = &workload.key.namespace;
        dirty.extend(here.filter(|id| id.namespace == *namespace).cloned());
        for key in self.declared.selecting(namespace, &workload.labels) {
            dirty.extend(
                objects
                    .get(key)
                    .into_iter()
                    .flat_map(|object| ids(object, DNS_DOMAIN)),
            );
        }
    }

    /// The services that a namespace's objects declare.
    pub(crate) fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a ServiceId> {
        self.declared.in_namespace(namespace)
    }

    /// Makes services again. What comes out as it was stays the same value.
    pub(crate) fn rebuild(
        &mut self,
        services: &mut Services,
        dirty: BTreeSet<ServiceId>,
        around: &Around<'_>,
    ) {
        let mut made: Vec<(ServiceId, Option<Service>)> = Vec::with_capacity(dirty.len());
        for id in dirty {
            let service = self.make(&id, around);
            made.push((id, service));
        }
        let renamed = self
            .aliases
            .set(made.iter().map(|(id, service)| (id, service.as_ref())));
        for (id, service) in made {
            self.put(services, &id, service);
        }
        for host in renamed {
            let named: Vec<_> = services.of_host(&host).map(|service| service.id()).collect();
            for id in named {
                let service = self.make(&id, around);
                self.put(services, &id, service);
            }
        }
    }

    fn put(&mut self, services: &mut Services, id: &ServiceId, service: Option<Service>) {
        let service = service.map(|mut service| {
            service.aliases = self.aliases.of(&id.host);
            service
        });
        let gateway = service.as_ref().is_some_and(NetworkRules::may_be_gateway);
        mark(&mut self.gateways, id, gateway);
        let by_node = service
            .as_ref()
            .is_some_and(|s| s.node_local || s.traffic_distribution == TrafficDistribution::PreferSameNode);
        mark(&mut self.by_node, id, by_node);
        services.set(id, service);
    }

    fn make(&self, id: &ServiceId, around: &Around<'_>) -> Option<Service> {
        let allocated = |id: &ServiceId| self.allocation.of(id);
        let sources = Sources {
            domain: DNS_DOMAIN,
            trust_domain: &around.mesh.trust_domain,
            default_export: &around.mesh.default_service_export_to,
            workloads: around.workloads,
            platform: around.platform,
            slices: &self.slices,
            allocated: &allocated,
        };
        let objects = self.declared.of(id).filter_map(|key| around.objects.get(key));
        services::merge(
            objects
                .filter_map(|object| sources.service(object, &id.host))
                .collect(),
        )
    }

    /// The gateways of networks.
    pub(crate) fn networks(&self, rules: &NetworkRules, services: &Services) -> Networks {
        rules.gateways(self.gateways.iter().filter_map(|id| services.all.get(id)))
    }

    /// Whether clients of any service look at nodes.
    pub(crate) fn reads_nodes(&self) -> bool {
        !self.by_node.is_empty()
    }

    /// What of ServiceEntries cannot be used.
    pub(crate) fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.values().flatten()
    }
}

fn mark(set: &mut OrdSet<ServiceId>, id: &ServiceId, is: bool) {
    if is {
        set.insert(id.clone());
    } else {
        set.remove(id);
    }
}
