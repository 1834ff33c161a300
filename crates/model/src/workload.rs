//! Workloads: the instances that run a service's code, one for each WorkloadEntry or Pod. It knows nothing of the services that
//! select them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::kube::Pod;
use config::networking::WorkloadEntry;
use config::{Kind, Object, ObjectKey, Owner, Spec};

use crate::locality::{LOCALITY_LABEL, Locality};
use crate::platform::Platform;
use crate::service::Health;

/// Label that says whether a workload's proxy accepts mutual TLS (`istio`) or has none.
pub const TLS_MODE_LABEL: &str = "security.istio.io/tlsMode";
/// Label by which a workload's name is given where instances have names of their own (Istio's).
pub const WORKLOAD_NAME_LABEL: &str = "service.istio.io/workload-name";

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// A DNS name, for services that are resolved by DNS; empty for an endpoint that is reached through its network's
    /// gateways only.
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

    /// The IP address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Address::Ip(ip) => Some(*ip),
            _ => None,
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
    /// Its other addresses (dual stack).
    pub additional: Vec<IpAddr>,
    /// Ports by name: of a WorkloadEntry by the services' port names, which override a service's target ports; of a Pod by
    /// its containers' port names, which target ports name.
    pub ports: BTreeMap<String, u16>,
    /// The containers of a Pod by the port that they say to listen on; of several the first.
    pub containers: BTreeMap<u16, String>,
    /// What made it: a Pod's Deployment, StatefulSet and so on, a WorkloadEntry's WorkloadGroup. None for one of its own.
    pub owner: Option<Owner>,
    /// Labels of the entry's spec and metadata; metadata wins, as in Istio.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Kubernetes service account, the last part of the identity; empty means `default`.
    pub service_account: String,
    /// Network; workloads of one network reach each other directly.
    pub network: String,
    /// Where it is.
    pub locality: Locality,
    /// Name of the Kubernetes node that it runs on; empty if unknown.
    pub node: String,
    /// Share of the load, at least 1.
    pub weight: u32,
    /// Whether it takes requests.
    pub health: Health,
}

impl Workload {
    /// The workload that an object is: a WorkloadEntry, or a Pod that has an address and has not ended.
    pub(crate) fn of(object: &Object, platform: &Platform) -> Option<Workload> {
        match &object.spec {
            Spec::WorkloadEntry(entry) => Some(Workload {
                owner: object.meta.controller.as_deref().cloned(),
                ..Workload::new(object.key(), &object.meta.labels, entry, platform)
            }),
            Spec::Pod(pod) => Workload::of_pod(object, pod, platform),
            _ => None,
        }
    }

    /// The workload that a WorkloadEntry describes.
    pub(crate) fn new(
        key: ObjectKey,
        meta_labels: &BTreeMap<String, String>,
        entry: &WorkloadEntry,
        platform: &Platform,
    ) -> Workload {
        let mut labels = entry.labels.clone();
        labels.extend(meta_labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        let ports = entry
            .ports
            .iter()
            .filter_map(|(name, port)| Some((name.clone(), u16::try_from(*port).ok()?)));
        let address = Address::parse(&entry.address);
        let network = match entry.network.as_str() {
            "" => platform.network(address.ip(), &labels),
            given => given.to_owned(),
        };
        let locality = match (entry.locality.as_str(), labels.get(LOCALITY_LABEL)) {
            ("", Some(label)) => Locality::of_label(label),
            (given, _) => Locality::parse(given),
        };
        Workload {
            key,
            address,
            additional: Vec::new(),
            ports: ports.collect(),
            containers: BTreeMap::new(),
            owner: None,
            labels: Arc::new(labels),
            service_account: entry.service_account.clone(),
            network,
            locality,
            node: String::new(),
            weight: entry.weight.max(1),
            health: Health::Healthy,
        }
    }

    fn of_pod(object: &Object, pod: &Pod, platform: &Platform) -> Option<Workload> {
        if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed") {
            return None;
        }
        let ip: IpAddr = pod.status.pod_ip.parse().ok()?;
        let others = pod
            .status
            .pod_ips
            .iter()
            .filter_map(|other| other.ip.parse().ok());
        let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
        let named = ports.filter(|port| !port.name.is_empty());
        let mut conditions = pod.status.conditions.iter();
        let ready = conditions
            .find(|c| c.r#type == "Ready")
            .is_none_or(|c| c.status == "True");
        let labels = &object.meta.labels;
        Some(Workload {
            key: object.key(),
            address: Address::Ip(ip),
            additional: others.filter(|other| *other != ip).collect(),
            ports: named
                .filter_map(|p| Some((p.name.clone(), u16::try_from(p.container_port).ok()?)))
                .collect(),
            containers: containers(pod),
            owner: Owner::of_pod(object.meta.controller.as_deref(), labels, &object.meta.name),
            labels: Arc::new(labels.clone()),
            service_account: pod.spec.service_account_name.clone(),
            network: platform.network(Some(ip), labels),
            locality: match labels.get(LOCALITY_LABEL) {
                Some(label) => Locality::of_label(label),
                None => platform.locality(&pod.spec.node_name),
            },
            node: pod.spec.node_name.clone(),
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

    /// The name that its instances share: by its label, else that of what made the Pod, else its own. A WorkloadGroup gives its
    /// entries no name (Istio: the label does).
    pub fn workload_name(&self) -> &str {
        let label = self.labels.get(WORKLOAD_NAME_LABEL);
        let owner = self.owner.as_ref().filter(|_| self.key.kind == Kind::Pod);
        label.or(owner.map(|owner| &owner.name)).unwrap_or(&self.key.name)
    }

    /// The IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address.ip()
    }

    /// All its IP addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.ip().into_iter().chain(self.additional.iter().copied())
    }

    /// Whether an endpoint's address is one of its own.
    pub fn is_at(&self, address: &Address) -> bool {
        self.address == *address || address.ip().is_some_and(|ip| self.additional.contains(&ip))
    }

    /// Whether its proxy accepts mutual TLS: by its label, else what is no Pod does if it has a service account (Istio's rule
    /// for WorkloadEntries).
    pub fn accepts_mtls(&self) -> bool {
        match self.labels.get(TLS_MODE_LABEL) {
            Some(mode) => mode == "istio",
            None => self.key.kind != Kind::Pod && !self.service_account.is_empty(),
        }
    }
}

fn containers(pod: &Pod) -> BTreeMap<u16, String> {
    let mut containers = BTreeMap::new();
    for container in &pod.spec.containers {
        let ports = container.ports.iter();
        for port in ports.filter_map(|port| u16::try_from(port.container_port).ok()) {
            containers.entry(port).or_insert_with(|| container.name.clone());
        }
    }
    containers
}
