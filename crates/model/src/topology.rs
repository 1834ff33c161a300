//! The labels by which places are named: an endpoint has them beside its own, and so has a client, for `failoverPriority`
//! (Istio).

use std::collections::BTreeMap;

use crate::locality::Locality;
use crate::networks::NETWORK_LABEL;

/// Label of the Kubernetes node.
pub const NODE_LABEL: &str = "kubernetes.io/hostname";
/// Label of the region.
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";
/// Label of the zone.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// Label of the part of the zone.
pub const SUB_ZONE_LABEL: &str = "topology.istio.io/subzone";

/// Where something is, and its labels.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Region, zone and part of the zone.
    pub locality: &'a Locality,
    /// Network; empty if unknown.
    pub network: &'a str,
    /// Node; empty if unknown.
    pub node: &'a str,
}

impl<'a> Place<'a> {
    /// The value of a label: where it is counts, then what its labels say; empty if nothing does.
    pub fn label(&self, key: &str) -> &'a str {
        let known = match key {
            NODE_LABEL => self.node,
            REGION_LABEL => &self.locality.region,
            ZONE_LABEL => &self.locality.zone,
            SUB_ZONE_LABEL => &self.locality.sub_zone,
            NETWORK_LABEL => self.network,
            _ => "",
        };
        match (known, self.labels.get(key)) {
            ("", Some(label)) => label,
            (known, _) => known,
        }
    }
}
