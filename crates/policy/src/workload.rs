//! A workload as policies see it: its name, labels, identity and the services that have it as an endpoint.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{Identity, Service, Snapshot, Workload};

/// Label by which a workload's name is given where instances have names of their own (Istio's).
const WORKLOAD_NAME_LABEL: &str = "service.istio.io/workload-name";

/// A service with a workload among its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// FQDN.
    pub host: String,
    /// Name of the object that declared it.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Ports at which the workload serves it; without a workload the service's own.
    pub ports: Vec<u16>,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadView {
    /// Name of the instance (WorkloadEntry, Pod).
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Trust domain of its identity.
    pub trust_domain: String,
    /// Labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// Address.
    pub ip: Option<IpAddr>,
    /// Services, by host.
    pub services: Vec<ServiceView>,
    uid: String,
    workload_name: String,
    workload_uid: String,
    principal: String,
}

impl WorkloadView {
    /// The view of `workload` in `snapshot`.
    pub fn of(snapshot: &Snapshot, workload: &Workload) -> Self {
        let services = snapshot.services().of_workload(workload).map(|service| {
            let here = service.endpoints.iter().filter(|e| e.address == workload.address);
            let mut ports: Vec<u16> = here
                .flat_map(|e| e.ports.iter().map(|(_, target)| *target))
                .collect();
            ports.sort_unstable();
            ports.dedup();
            ServiceView {
                host: service.host.clone(),
                name: service.name.clone(),
                namespace: service.namespace.clone(),
                ports,
            }
        });
        let identity = Identity::new(
            snapshot.trust_domain(),
            &workload.key.namespace,
            workload.account(),
        );
        Self::new(
            &workload.key.name,
            &identity,
            Arc::clone(&workload.labels),
            workload.ip(),
            services.collect(),
        )
    }

    /// A view of these parts.
    pub fn new(
        name: &str,
        identity: &Identity,
        labels: Arc<BTreeMap<String, String>>,
        ip: Option<IpAddr>,
        services: Vec<ServiceView>,
    ) -> Self {
        let namespace = &identity.namespace;
        let workload_name = workload_name(name, &labels);
        Self {
            name: name.to_owned(),
            namespace: namespace.clone(),
            service_account: identity.service_account.clone(),
            trust_domain: identity.trust_domain.clone(),
            ip,
            services,
            uid: format!("kubernetes://{name}.{namespace}"),
            workload_uid: format!("istio://{namespace}/workloads/{workload_name}"),
            workload_name,
            principal: identity.to_string().trim_start_matches("spiffe://").to_owned(),
            labels,
        }
    }

    /// `kubernetes://NAME.NAMESPACE`.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The name that its instances share.
    pub fn workload_name(&self) -> &str {
        &self.workload_name
    }

    /// `istio://NAMESPACE/workloads/NAME`.
    pub fn workload_uid(&self) -> &str {
        &self.workload_uid
    }

    /// Its identity without `spiffe://`: `cluster.local/ns/shop/sa/catalog`.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The service that a request means which arrives at `port` with this authority: of those that the workload
    /// serves there the one that the authority names, else the first.
    pub fn service(&self, port: Option<u16>, authority: Option<&str>) -> Option<&ServiceView> {
        let named = authority.and_then(|authority| {
            let host = host_of(authority);
            self.services_at(port).find(|service| service.is_named(&host))
        });
        named.or_else(|| self.services_at(port).next())
    }

    /// The services that the workload serves at `port`; all if none is given.
    pub(crate) fn services_at(&self, port: Option<u16>) -> impl Iterator<Item = &ServiceView> {
        let at_port = move |s: &&ServiceView| port.is_none_or(|port| s.ports.contains(&port));
        self.services.iter().filter(at_port)
    }
}

impl ServiceView {
    /// A service as its callers see it, with its own ports.
    pub fn called(service: &Service) -> Self {
        Self {
            host: service.host.clone(),
            name: service.name.clone(),
            namespace: service.namespace.clone(),
            ports: service.ports.iter().map(|port| port.number).collect(),
        }
    }

    /// Whether clients may call it `host`: the FQDN, or a shorter form that Kubernetes' DNS resolves.
    fn is_named(&self, host: &str) -> bool {
        host == self.host
            || self
                .host
                .strip_prefix(host)
                .is_some_and(|rest| rest.starts_with('.') && host.starts_with(&self.name))
    }
}

/// The host of an authority, lower case, without port.
fn host_of(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// A Pod of a Deployment is called `NAME-HASH-SUFFIX`, with the hash in a label.
fn workload_name(name: &str, labels: &BTreeMap<String, String>) -> String {
    if let Some(name) = labels.get(WORKLOAD_NAME_LABEL) {
        return name.clone();
    }
    let hash = labels.get("pod-template-hash").filter(|hash| !hash.is_empty());
    let owner = hash.and_then(|hash| name.rsplit_once(&format!("-{hash}-")));
    owner.map_or(name, |(owner, _)| owner).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> WorkloadView {
        let service = |name: &str, ports: &[u16]| ServiceView {
            host: format!("{name}.shop.svc.cluster.local"),
            name: name.into(),
            namespace: "shop".into(),
            ports: ports.into(),
        };
        let identity = Identity::new("cluster.local", "shop", "stock");
        let services = vec![service("other", &[9090]), service("stock", &[8080, 9090])];
        WorkloadView::new("stock-v1", &identity, Arc::default(), None, services)
    }

    #[test]
    fn the_service_that_a_request_means() {
        let view = view();
        let check = |port, authority, expected: Option<&str>| {
            assert_eq!(
                view.service(port, authority).map(|s| s.name.as_str()),
                expected,
                "{port:?} {authority:?}"
            );
        };
        check(Some(8080), None, Some("stock"));
        check(Some(8080), Some("other"), Some("stock"));
        check(Some(9090), Some("stock:7090"), Some("stock"));
        check(Some(9090), Some("STOCK.shop"), Some("stock"));
        check(Some(9090), Some("sto"), Some("other"));
        check(Some(1), None, None);
    }

    #[test]
    fn names_of_workloads() {
        let labels = [("pod-template-hash".to_owned(), "6d4b".to_owned())].into();
        assert_eq!(workload_name("reviews-v1-6d4b-x2x4", &labels), "reviews-v1");
        assert_eq!(workload_name("catalog-v1", &BTreeMap::new()), "catalog-v1");
        assert_eq!(view().principal(), "cluster.local/ns/shop/sa/stock");
        assert_eq!(view().uid(), "kubernetes://stock-v1.shop");
    }
}
