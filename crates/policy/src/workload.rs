//! A workload as policies see it: its name, labels, identity and the services that have it as an endpoint.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use model::{Identity, Service, Snapshot, WORKLOAD_NAME_LABEL, Workload};

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
    /// Labels of the workload that serves it, by which versions are told apart; none as callers see it.
    pub labels: Option<Arc<BTreeMap<String, String>>>,
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
    /// Address; the first where it has one of each family.
    pub ip: Option<IpAddr>,
    /// The others.
    pub additional: Vec<IpAddr>,
    /// Services, by host.
    pub services: Vec<ServiceView>,
    uid: String,
    workload_name: String,
    workload_uid: String,
    pub(crate) owner: Option<String>,
    /// By port.
    pub(crate) containers: BTreeMap<u16, String>,
    principal: String,
}

impl WorkloadView {
    /// The view of `workload` in `snapshot`.
    pub fn of(snapshot: &Snapshot, workload: &Workload) -> Self {
        let services = snapshot.services().of_workload(workload).map(|service| {
            let here = service.endpoints.iter().filter(|e| workload.is_at(&e.address));
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
                labels: Some(Arc::clone(&workload.labels)),
            }
        });
        let identity = Identity::new(
            snapshot.trust_domain(),
            &workload.key.namespace,
            workload.account(),
        );
        let labels = Arc::clone(&workload.labels);
        let namespace = &identity.namespace;
        let name = workload.workload_name();
        Self {
            additional: workload.additional.clone(),
            workload_uid: workload_uid(namespace, name),
            workload_name: name.to_owned(),
            owner: workload.owner.as_ref().map(|owner| owner.url(namespace)),
            containers: workload.containers.clone(),
            ..Self::new(
                &workload.key.name,
                &identity,
                labels,
                workload.ip(),
                services.collect(),
            )
        }
    }

    /// A view of these parts: of a workload with one address that nothing made.
    pub fn new(
        name: &str,
        identity: &Identity,
        labels: Arc<BTreeMap<String, String>>,
        ip: Option<IpAddr>,
        services: Vec<ServiceView>,
    ) -> Self {
        let namespace = &identity.namespace;
        let workload_name = labels
            .get(WORKLOAD_NAME_LABEL)
            .map_or(name, String::as_str)
            .to_owned();
        Self {
            name: name.to_owned(),
            namespace: namespace.clone(),
            service_account: identity.service_account.clone(),
            trust_domain: identity.trust_domain.clone(),
            ip,
            additional: Vec::new(),
            services,
            uid: format!("kubernetes://{name}.{namespace}"),
            workload_uid: workload_uid(namespace, &workload_name),
            workload_name,
            owner: None,
            containers: BTreeMap::new(),
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

    /// What made it: `kubernetes://apis/apps/v1/namespaces/NAMESPACE/deployments/NAME`; none if nothing did.
    pub fn owner(&self) -> Option<&str> {
        self.owner.as_deref()
    }

    /// The container that says to listen on a port.
    pub fn container(&self, port: u16) -> Option<&str> {
        self.containers.get(&port).map(String::as_str)
    }

    /// All its addresses.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.ip.into_iter().chain(self.additional.iter().copied())
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
            labels: None,
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

fn workload_uid(namespace: &str, name: &str) -> String {
    format!("istio://{namespace}/workloads/{name}")
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
            labels: None,
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
    fn names_of_a_workload_that_nothing_made() {
        assert_eq!((view().workload_name(), view().owner()), ("stock-v1", None));
        assert_eq!(view().principal(), "cluster.local/ns/shop/sa/stock");
        assert_eq!(view().uid(), "kubernetes://stock-v1.shop");
    }
}
