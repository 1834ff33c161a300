//! Workloads: the instances that run a service's code, one for each WorkloadEntry or Pod. It knows nothing of the services that
//! select them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::ObjectKey;
use config::kube::Pod;
use config::networking::WorkloadEntry;

use crate::service::Health;

/// Label that says whether a workload's proxy accepts mutual TLS (`istio`) or has none.
pub const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name, for services that are resolved by DNS.
    Host(String),
    /// A Unix socket's path.
    Unix(String),
}

impl Address {
    /// Reads a WorkloadEntry's address.
    pub fn parse(text: &str) -> Address {
        match (text.strip_prefix("unix://"), text.parse()) {
            (Some(path), _) => Address::Unix(path.to_owned()),
            (None, Ok(ip)) => Address::Ip(ip),
            (None, Err(_)) => Address::Host(text.to_ascii_lowercase()),
        }
    }
}

/// Where an endpoint is, from `region/zone/subzone`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone in the region.
    pub zone: String,
    /// Part of the zone.
    pub sub_zone: String,
}

impl Locality {
    /// Reads `region/zone/subzone`; missing parts are empty.
    pub fn parse(text: &str) -> Locality {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality {
            region: next(),
            zone: next(),
            sub_zone: next(),
        }
    }
}

/// One instance of a service's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The object it came from.
    pub key: ObjectKey,
    /// Where it listens.
    pub address: Address,
    /// Ports by name, which override a service's target ports.
    pub ports: BTreeMap<String, u16>,
    /// Labels of the entry's spec and metadata; metadata wins, as in Istio.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Kubernetes service account, the last part of the identity; empty means `default`.
    pub service_account: String,
    /// Network; workloads of one network reach each other directly.
    pub network: String,
    /// Where it is.
    pub locality: Locality,
    /// Share of the load, at least 1.
    pub weight: u32,
    /// Whether it takes requests.
    pub health: Health,
}

impl Workload {
    /// The workload that a WorkloadEntry describes.
    pub fn new(key: ObjectKey, meta_labels: &BTreeMap<String, String>, entry: &WorkloadEntry) -> Workload {
        let mut labels = entry.labels.clone();
        labels.extend(meta_labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        let ports = entry
            .ports
            .iter()
            .filter_map(|(name, port)| Some((name.clone(), u16::try_from(*port).ok()?)));
        Workload {
            key,
            address: Address::parse(&entry.address),
            ports: ports.collect(),
            labels: Arc::new(labels),
            service_account: entry.service_account.clone(),
            network: entry.network.clone(),
            locality: Locality::parse(&entry.locality),
            weight: entry.weight.max(1),
            health: Health::Healthy,
        }
    }

    /// The workload that a Pod is, once it has an address.
    pub fn of_pod(key: ObjectKey, labels: &BTreeMap<String, String>, pod: &Pod) -> Option<Workload> {
        let address = Address::Ip(pod.status.pod_ip.parse().ok()?);
        let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
        let named = ports.filter(|port| !port.name.is_empty());
        let ready = pod
            .status
            .conditions
            .iter()
            .find(|c| c.r#type == "Ready")
            .is_none_or(|c| c.status == "True");
        Some(Workload {
            key,
            address,
            ports: named
                .filter_map(|p| Some((p.name.clone(), u16::try_from(p.container_port).ok()?)))
                .collect(),
            labels: Arc::new(labels.clone()),
            service_account: pod.spec.service_account_name.clone(),
            network: String::new(),
            locality: Locality::default(),
            weight: 1,
            health: if ready { Health::Healthy } else { Health::Unhealthy },
        })
    }

    /// The service account, `default` if none is named (Kubernetes' rule).
    pub fn account(&self) -> &str {
        if self.service_account.is_empty() {
            "default"
        } else {
            &self.service_account
        }
    }

    /// The IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.address {
            Address::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    /// Whether its proxy accepts mutual TLS.
    pub fn accepts_mtls(&self) -> bool {
        self.labels
            .get(TLS_MODE_LABEL)
            .is_some_and(|mode| mode == "istio")
    }
}
