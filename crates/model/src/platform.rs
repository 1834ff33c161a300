//! What the platform says about where things are: nodes' localities, namespaces' defaults, the networks of addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::{Object, Spec};
use imbl::OrdMap;

use crate::locality::Locality;
use crate::networks::{NETWORK_LABEL, NetworkRules};
use crate::service::TrafficDistribution;

/// Labels of a Node that say its region, the newer first.
const REGION_LABELS: [&str; 2] = [
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/region",
];
/// Labels of a Node that say its zone, the newer first.
const ZONE_LABELS: [&str; 2] = [
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/zone",
];
/// Label of a Node that says in which part of the zone it is (Istio's).
const SUB_ZONE_LABEL: &str = "topology.istio.io/subzone";

/// Nodes, namespaces and networks, as far as services and workloads take from them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Platform {
    nodes: OrdMap<String, Locality>,
    namespaces: OrdMap<String, TrafficDistribution>,
    pub(crate) rules: Arc<NetworkRules>,
}

impl Platform {
    /// A platform of which only the networks are known.
    pub(crate) fn new(rules: NetworkRules) -> Platform {
        Platform {
            rules: Arc::new(rules),
            ..Platform::default()
        }
    }

    /// Takes a Node, or that it is gone; says whether that means anything.
    pub(crate) fn set_node(&mut self, name: &str, node: Option<&Object>) -> bool {
        let locality = node.map(node_locality).filter(|locality| !locality.is_empty());
        if self.nodes.get(name) == locality.as_ref() {
            return false;
        }
        match locality {
            Some(locality) => self.nodes.insert(name.to_owned(), locality),
            None => self.nodes.remove(name),
        };
        true
    }

    /// Takes a Namespace, or that it is gone; says whether that means anything for its services.
    pub(crate) fn set_namespace(&mut self, name: &str, namespace: Option<&Object>) -> bool {
        let found =
            namespace.and_then(|namespace| TrafficDistribution::annotated(&namespace.meta.annotations));
        if self.namespaces.get(name).copied() == found {
            return false;
        }
        match found {
            Some(distribution) => self.namespaces.insert(name.to_owned(), distribution),
            None => self.namespaces.remove(name),
        };
        true
    }

    /// Where a node is; nowhere if it is not known.
    pub(crate) fn locality(&self, node: &str) -> Locality {
        self.nodes.get(node).cloned().unwrap_or_default()
    }

    /// What a namespace's annotation says for its services.
    pub(crate) fn traffic_distribution(&self, namespace: &str) -> Option<TrafficDistribution> {
        self.namespaces.get(namespace).copied()
    }

    /// The network of a workload: its label's, else the mesh's rules' (Istio's order).
    pub(crate) fn network(&self, ip: Option<IpAddr>, labels: &BTreeMap<String, String>) -> String {
        match labels.get(NETWORK_LABEL) {
            Some(label) => label.clone(),
            None => self.rules.of(ip).unwrap_or_default().to_owned(),
        }
    }
}

fn node_locality(node: &Object) -> Locality {
    let labels = match &node.spec {
        Spec::Node(_) => &node.meta.labels,
        _ => return Locality::default(),
    };
    let first = |names: &[&str]| {
        let found = names.iter().find_map(|name| labels.get(*name));
        found.cloned().unwrap_or_default()
    };
    Locality {
        region: first(&REGION_LABELS),
        zone: first(&ZONE_LABELS),
        sub_zone: first(&[SUB_ZONE_LABEL]),
    }
}
