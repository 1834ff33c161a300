//! Endpoints of a Kubernetes Service from its EndpointSlices, one set of slices for each family of addresses.

use std::net::IpAddr;
use std::sync::Arc;

use config::Object;
use config::kube::{self, ServiceSpec};

use super::Sources;
use crate::locality::Locality;
use crate::service::{Endpoint, Health, Service};
use crate::workload::{Address, Workload};

impl Sources<'_> {
    /// Adds the endpoints of the service's slices; says whether there are slices at all.
    pub(super) fn add_slices(&self, service: &mut Service, spec: &ServiceSpec) -> bool {
        let found = self.slices.of(&service.namespace, &service.name);
        let dual = spec.cluster_ips.len() > 1 || spec.ip_families.len() > 1;
        let mut any = false;
        for (object, slice) in found {
            any = true;
            if slice.address_type == "FQDN" {
                continue;
            }
            let ports: Vec<(u16, u16)> = service
                .ports
                .iter()
                .filter_map(|port| {
                    let target = slice.ports.iter().find(|p| p.name == port.name)?.port?;
                    Some((port.number, u16::try_from(target).ok()?))
                })
                .collect();
            let sticky = service.keeps_sessions();
            for one in &slice.endpoints {
                let addresses = one.addresses.iter().filter_map(|address| address.parse().ok());
                for address in addresses {
                    let health = health(&one.conditions, sticky);
                    let found = self.endpoint_at(object, one, address, dual);
                    service.endpoints.extend(found.map(|endpoint| Endpoint {
                        ports: ports.clone(),
                        health,
                        ..endpoint
                    }));
                }
            }
        }
        any
    }

    /// An endpoint at an address. A Pod with addresses of both families is one endpoint of a dual stack service, known by its
    /// first address.
    fn endpoint_at(
        &self,
        object: &Object,
        one: &kube::Endpoint,
        address: IpAddr,
        dual: bool,
    ) -> Option<Endpoint> {
        let workload = self.workload_at(object, one, address);
        let dual = workload.filter(|w| dual && !w.additional.is_empty());
        if dual.is_some_and(|w| w.ip() != Some(address)) {
            return None;
        }
        let node = workload.map_or(&one.node_name, |w| &w.node);
        Some(Endpoint {
            address: Address::Ip(address),
            additional: dual.map(|w| w.additional.clone()).unwrap_or_default(),
            ports: Vec::new(),
            labels: workload.map(|w| Arc::clone(&w.labels)).unwrap_or_default(),
            namespace: object.meta.namespace.clone(),
            workload: workload.map(|w| w.key.name.clone()).unwrap_or_default(),
            workload_name: workload.map(|w| w.workload_name().to_owned()).unwrap_or_default(),
            service_account: workload.map(|w| w.account().to_owned()),
            mtls: workload.is_some_and(Workload::accepts_mtls),
            network: match workload {
                Some(workload) => workload.network.clone(),
                None => self
                    .platform
                    .rules
                    .of(Some(address))
                    .unwrap_or_default()
                    .to_owned(),
            },
            locality: workload.map_or_else(|| self.locality(one), |w| w.locality.clone()),
            node: node.clone(),
            weight: 1,
            health: Health::Healthy,
            origin: object.key(),
        })
    }

    /// The workload that a slice means: the Pod that it names, else whichever of its namespace has the address.
    fn workload_at(&self, object: &Object, one: &kube::Endpoint, address: IpAddr) -> Option<&Workload> {
        let namespace = &object.meta.namespace;
        let target = one.target_ref.as_ref().filter(|target| target.kind == "Pod");
        let named = target.and_then(|target| self.workloads.pod(namespace, &target.name));
        let named = named.filter(|workload| workload.ips().any(|ip| ip == address));
        named.or_else(|| {
            let here = self.workloads.at(address);
            here.into_iter().find(|w| w.key.namespace == *namespace)
        })
    }

    /// Where an endpoint without a known Pod is: its node's place, else the zone that the slice says.
    fn locality(&self, one: &kube::Endpoint) -> Locality {
        let of_node = self.platform.locality(&one.node_name);
        if of_node.is_empty() {
            let zone = one.zone.clone();
            return Locality {
                zone,
                ..Locality::default()
            };
        }
        of_node
    }
}

/// An absent `ready` means ready. What is not ready and ends gets no new requests, but with persistent sessions it keeps
/// those that it has as long as it serves (Istio; Kubernetes, EndpointSlice conditions).
fn health(conditions: &kube::EndpointConditions, sticky: bool) -> Health {
    if conditions.ready.unwrap_or(true) {
        return Health::Healthy;
    }
    match (
        conditions.terminating.unwrap_or(false),
        conditions.serving.unwrap_or(true),
    ) {
        (true, true) if sticky => Health::Draining,
        (true, _) => Health::Terminating,
        (false, _) => Health::Unhealthy,
    }
}
