//! What a client sees: for a sidecar, each egress listener's services and VirtualServices; for a router, everything that is
//! exported to it. It knows nothing of Envoy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::mesh::MeshOutboundTrafficPolicyMode;
use config::networking::{
    Destination, IstioEgressListener, OutboundTrafficPolicy, OutboundTrafficPolicyMode,
};
use model::{
    DestinationRule, ExportTo, MESH_GATEWAY, Protocol, Resolution, Service, Sidecar, Snapshot,
    VirtualService, host,
};

use crate::cluster::Effective;
use crate::scope::Outbound;

/// Longest chain of aliases that is followed.
const MAX_ALIASES: usize = 8;

/// What one egress listener reaches.
#[derive(Debug, Clone)]
pub(crate) struct Egress {
    /// The listener's settings; none for the listener that stands for all services.
    pub(crate) listener: Option<IstioEgressListener>,
    /// One service for each host, by host.
    pub(crate) services: Vec<Arc<Service>>,
    /// In their order of precedence.
    pub(crate) virtual_services: Vec<Arc<VirtualService>>,
}

/// What a client sees.
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) scope: &'a Outbound,
    pub(crate) sidecar: Option<Arc<Sidecar>>,
    pub(crate) egress: Vec<Egress>,
    /// All services that routes may lead to, by host: the listeners' and those that VirtualServices name.
    pub(crate) reachable: BTreeMap<String, Arc<Service>>,
}

impl<'a> View<'a> {
    pub(crate) fn sidecar(snapshot: &'a Snapshot, scope: &'a Outbound) -> View<'a> {
        let sidecar = scope
            .sidecar
            .as_ref()
            .and_then(|key| snapshot.sidecar(key))
            .cloned();
        let visible: Vec<Arc<VirtualService>> = visible(snapshot, scope, |vs| vs.is_for(MESH_GATEWAY));
        let listeners = sidecar
            .as_ref()
            .map(|s| s.spec.egress.as_slice())
            .unwrap_or_default();
        let egress: Vec<Egress> = if listeners.is_empty() {
            let services = snapshot
                .services()
                .all_seen_from(&scope.namespace)
                .cloned()
                .collect();
            vec![Egress {
                listener: None,
                services,
                virtual_services: visible,
            }]
        } else {
            listeners
                .iter()
                .map(|listener| Egress::new(snapshot, scope, listener, &visible))
                .collect()
        };
        let mut view = View {
            snapshot,
            scope,
            sidecar,
            egress,
            reachable: BTreeMap::new(),
        };
        view.reach();
        view
    }

    /// A router's view: all services exported to its namespace, and the VirtualServices of `gateways`.
    pub(crate) fn router(
        snapshot: &'a Snapshot,
        scope: &'a Outbound,
        gateways: &BTreeSet<String>,
    ) -> View<'a> {
        let of_gateways = |vs: &VirtualService| vs.spec.gateways.iter().any(|g| gateways.contains(g));
        let virtual_services = visible(snapshot, scope, of_gateways);
        let services = snapshot
            .services()
            .all_seen_from(&scope.namespace)
            .cloned()
            .collect();
        let egress = vec![Egress {
            listener: None,
            services,
            virtual_services,
        }];
        let mut view = View {
            snapshot,
            scope,
            sidecar: None,
            egress,
            reachable: BTreeMap::new(),
        };
        view.reach();
        view
    }

    fn reach(&mut self) {
        for egress in &self.egress {
            for service in &egress.services {
                self.reachable.insert(service.host.clone(), Arc::clone(service));
            }
        }
        for vs in self.egress.iter().flat_map(|egress| &egress.virtual_services) {
            for destination in destinations(vs) {
                let known = self.reachable.get(&destination.host).cloned();
                if let Some(service) = known.or_else(|| self.service_of(&destination.host, vs)) {
                    let concrete = self.concrete(&service);
                    self.reachable.entry(concrete.host.clone()).or_insert(concrete);
                    self.reachable.entry(destination.host.clone()).or_insert(service);
                }
            }
        }
    }

    /// The service that a VirtualService means by a host: one of its own namespace if the client sees that, else whichever
    /// the client sees.
    fn service_of(&self, host: &str, vs: &VirtualService) -> Option<Arc<Service>> {
        let services = self.snapshot.services();
        let near = services.get(host, &vs.key.namespace);
        let near = near.filter(|service| service.export_to.visible_in(&self.scope.namespace));
        near.or_else(|| services.seen_from(host, &self.scope.namespace))
            .cloned()
    }

    /// What an alias leads to; other services lead to themselves.
    fn concrete(&self, service: &Arc<Service>) -> Arc<Service> {
        let mut at = Arc::clone(service);
        for _ in 0..MAX_ALIASES {
            let Resolution::Alias(target) = &at.resolution else {
                break;
            };
            let services = self.snapshot.services();
            match services.seen_from(target, &self.scope.namespace) {
                Some(next) => at = Arc::clone(next),
                None => break,
            }
        }
        at
    }

    /// What holds for connections to clusters: the policy of the first.
    pub(crate) fn policy(&self, clusters: &[(String, u32)]) -> Effective {
        let found = clusters.first().and_then(|(name, _)| {
            let mut parts = name.split('|').skip(1);
            let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
            let rule = self.rule(self.service(host)?).map(|rule| &**rule);
            let mesh = self.snapshot.mesh();
            Some(Effective::new(rule, subset, port.parse().ok()?, mesh))
        });
        found.unwrap_or_default()
    }

    /// The DestinationRule for a service.
    pub(crate) fn rule(&self, service: &Service) -> Option<&'a Arc<DestinationRule>> {
        let rules = self.snapshot.destination_rules();
        rules.find(
            &service.host,
            &service.namespace,
            &self.scope.namespace,
            &self.scope.labels,
        )
    }

    /// The service that a route's destination names; for an alias the one that it leads to.
    pub(crate) fn service(&self, host: &str) -> Option<&Arc<Service>> {
        let named = self.reachable.get(host)?;
        match &named.resolution {
            Resolution::Alias(_) => self.reachable.get(&self.concrete(named).host),
            _ => Some(named),
        }
    }

    /// The Sidecar's policy for traffic to unknown hosts.
    fn outbound_policy(&self) -> Option<&OutboundTrafficPolicy> {
        self.sidecar.as_ref()?.spec.outbound_traffic_policy.as_ref()
    }

    /// Whether traffic for unknown hosts is let through: by the Sidecar's policy, else by the mesh's.
    pub(crate) fn allows_any(&self) -> bool {
        let mesh = self.snapshot.mesh().outbound_traffic_policy.as_ref();
        match self.outbound_policy() {
            Some(own) => own.mode != OutboundTrafficPolicyMode::RegistryOnly,
            None => mesh.is_none_or(|mesh| mesh.mode != MeshOutboundTrafficPolicyMode::RegistryOnly),
        }
    }

    /// Where traffic for unknown hosts goes, if not where it wants to.
    pub(crate) fn egress_proxy(&self) -> Option<&Destination> {
        self.outbound_policy()?.egress_proxy.as_ref()
    }
}

impl Egress {
    /// Whether its requests name any service with its port: a forward proxy's port, or a Unix socket, which has none.
    pub(crate) fn forwards(&self) -> bool {
        let port = self.listener.as_ref().and_then(|listener| listener.port.as_ref());
        port.is_some_and(|port| port.number == 0 || Protocol::parse(&port.protocol) == Protocol::HttpProxy)
    }

    fn new(
        snapshot: &Snapshot,
        scope: &Outbound,
        listener: &IstioEgressListener,
        visible: &[Arc<VirtualService>],
    ) -> Egress {
        let hosts = Imports::new(listener, scope);
        let imports = |namespace: &str, host: &str, wide: bool| hosts.take(namespace, host, wide);
        let seen = snapshot.services().iter().filter(|service| {
            (service.export_to.visible_in(&scope.namespace) || service.namespace == scope.namespace)
                && imports(&service.namespace, &service.host, false)
        });
        let virtual_services = visible
            .iter()
            .filter(|vs| {
                vs.spec
                    .hosts
                    .iter()
                    .any(|host| imports(&vs.key.namespace, host, true))
            })
            .cloned()
            .collect();
        Egress {
            listener: Some(listener.clone()),
            services: one_per_host(seen, scope),
            virtual_services,
        }
    }
}

/// The hosts of an egress listener: those that it takes, and those that it leaves out all the same.
struct Imports {
    /// Namespace and pattern; no namespace stands for all.
    taken: Vec<(Option<String>, String)>,
    left_out: Vec<(Option<String>, String)>,
}

impl Imports {
    /// `NAMESPACE/HOST`; behind `~` what is left out, where no namespace means any (Istio, "IstioEgressListener").
    fn new(listener: &IstioEgressListener, scope: &Outbound) -> Imports {
        let read = |namespace: &str, host: &str| {
            let namespace = match namespace {
                "" | "*" => None,
                "." => Some(scope.namespace.clone()),
                named => Some(named.to_owned()),
            };
            (namespace, host.to_ascii_lowercase())
        };
        let (mut taken, mut left_out) = (Vec::new(), Vec::new());
        for (namespace, host) in listener.hosts.iter().filter_map(|entry| entry.split_once('/')) {
            match namespace.strip_prefix('~') {
                Some(namespace) => left_out.push(read(namespace, host)),
                None => taken.push(read(namespace, host)),
            }
        }
        Imports { taken, left_out }
    }

    /// Whether a host of a namespace is taken; with `wide` also one that stands for more than what is.
    fn take(&self, namespace: &str, host: &str, wide: bool) -> bool {
        let within = |own: &Option<String>| own.as_ref().is_none_or(|own| own == namespace);
        let covers =
            |(own, pattern): &(Option<String>, String)| within(own) && host::subset_of(host, pattern);
        let part = |(own, pattern): &(Option<String>, String)| within(own) && host::subset_of(pattern, host);
        let taken = self
            .taken
            .iter()
            .any(|entry| covers(entry) || (wide && part(entry)));
        taken && !self.left_out.iter().any(covers)
    }
}

/// Of several services with one host the client's own, else the first.
fn one_per_host<'s>(services: impl Iterator<Item = &'s Arc<Service>>, scope: &Outbound) -> Vec<Arc<Service>> {
    let mut by_host: BTreeMap<&str, &Arc<Service>> = BTreeMap::new();
    for service in services {
        let slot = by_host.entry(service.host.as_str()).or_insert(service);
        if service.namespace == scope.namespace {
            *slot = service;
        }
    }
    by_host.into_values().cloned().collect()
}

/// Those VirtualServices that are exported to the client, in their order of precedence: first those that are its namespace's
/// alone, then those that name it, then those for everybody, each by age (Istio, `VirtualServicesForGateway`).
fn visible(
    snapshot: &Snapshot,
    scope: &Outbound,
    wanted: impl Fn(&VirtualService) -> bool,
) -> Vec<Arc<VirtualService>> {
    let all = snapshot.virtual_services().iter();
    let seen = all.filter(|vs| vs.export_to.visible_in(&scope.namespace) && wanted(vs));
    let mut seen: Vec<_> = seen.cloned().collect();
    seen.sort_by_key(|vs| match &vs.export_to {
        ExportTo::Namespaces(_) if vs.key.namespace == scope.namespace => 0,
        ExportTo::Namespaces(_) => 1,
        ExportTo::Everywhere => 2,
    });
    seen
}

/// Every destination that a VirtualService names.
pub(crate) fn destinations(vs: &VirtualService) -> impl Iterator<Item = &Destination> {
    let http = vs.spec.http.iter().flat_map(|route| {
        let weighted = route.route.iter().filter_map(|to| to.destination.as_ref());
        let mirrors = route
            .mirrors
            .iter()
            .filter_map(|mirror| mirror.destination.as_ref());
        weighted.chain(&route.mirror).chain(mirrors)
    });
    let tls = vs.spec.tls.iter().flat_map(|route| &route.route);
    let tcp = vs.spec.tcp.iter().flat_map(|route| &route.route);
    http.chain(tls.chain(tcp).filter_map(|to| to.destination.as_ref()))
}
