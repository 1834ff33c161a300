//! Routes of connections: VirtualServices' `tcp` and `tls` parts.

use std::net::IpAddr;

use config::networking::{L4MatchAttributes, RouteDestination, TcpRoute, TlsMatchAttributes};
use ipnet::IpNet;
use model::{Service, VirtualService, host};

use crate::route::RouteContext;

/// Clusters with weights.
pub(crate) type Weighted = Vec<(String, u32)>;

/// TLS connections of these names go to these clusters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SniRoute {
    pub(crate) hosts: Vec<String>,
    /// Destinations; none for those of the service.
    pub(crate) subnets: Vec<IpNet>,
    pub(crate) clusters: Weighted,
}

/// Connections to these destinations go to these clusters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TcpPart {
    /// None for those of the service.
    pub(crate) subnets: Vec<IpNet>,
    pub(crate) clusters: Weighted,
}

/// Conditions that TCP and TLS routes have in common.
struct Condition<'a> {
    port: u32,
    gateways: &'a [String],
    source_labels: &'a std::collections::BTreeMap<String, String>,
    source_namespace: &'a str,
}

impl RouteContext<'_> {
    /// Where a VirtualService sends TCP connections, in order, up to the first that takes all of them.
    pub(crate) fn tcp_routes(&self, vs: &VirtualService) -> Vec<TcpPart> {
        let mut out = Vec::new();
        for route in vs
            .spec
            .tcp
            .iter()
            .filter(|route| !route.route.is_empty() && self.tcp_applies(route))
        {
            let conditions: Vec<_> = route.r#match.iter().filter(|m| self.one_applies(m)).collect();
            let all = conditions.is_empty() || conditions.iter().any(|m| m.destination_subnets.is_empty());
            let subnets = conditions.iter().flat_map(|m| subnets(&m.destination_subnets));
            out.push(TcpPart {
                subnets: if all { Vec::new() } else { subnets.collect() },
                clusters: self.weighted_clusters(&route.route),
            });
            if all {
                break;
            }
        }
        out
    }

    fn one_applies(&self, m: &L4MatchAttributes) -> bool {
        self.l4_applies(&Condition {
            port: m.port,
            gateways: &m.gateways,
            source_labels: &m.source_labels,
            source_namespace: &m.source_namespace,
        })
    }

    fn tcp_applies(&self, route: &TcpRoute) -> bool {
        route.r#match.is_empty() || route.r#match.iter().any(|m| self.one_applies(m))
    }

    /// Where a VirtualService sends TLS connections, by name, in order.
    pub(crate) fn tls(&self, vs: &VirtualService) -> Vec<SniRoute> {
        let mut out = Vec::new();
        for route in &vs.spec.tls {
            for condition in route.r#match.iter().filter(|m| self.tls_applies(m)) {
                out.push(SniRoute {
                    hosts: condition.sni_hosts.clone(),
                    subnets: subnets(&condition.destination_subnets).collect(),
                    clusters: self.weighted_clusters(&route.route),
                });
            }
        }
        out
    }

    fn tls_applies(&self, condition: &TlsMatchAttributes) -> bool {
        self.l4_applies(&Condition {
            port: condition.port,
            gateways: &condition.gateways,
            source_labels: &condition.source_labels,
            source_namespace: &condition.source_namespace,
        })
    }

    fn l4_applies(&self, condition: &Condition<'_>) -> bool {
        let scope = self.view.scope;
        (condition.port == 0 || condition.port == u32::from(self.port))
            && (condition.gateways.is_empty() || condition.gateways.iter().any(|g| g == self.gateway))
            && model::selects(condition.source_labels, &scope.labels)
            && (condition.source_namespace.is_empty() || condition.source_namespace == scope.namespace)
    }

    fn weighted_clusters(&self, routes: &[RouteDestination]) -> Weighted {
        let only = routes.len() == 1;
        let clusters = routes.iter().filter_map(|to| {
            let weight = if only { 1 } else { u32::try_from(to.weight).ok()? };
            Some((self.cluster(to.destination.as_ref()?), weight))
        });
        clusters.collect()
    }

    /// The VirtualServices about a service.
    pub(crate) fn l4_services<'v>(
        &self,
        service: &Service,
        all: impl Iterator<Item = &'v VirtualService>,
    ) -> impl Iterator<Item = &'v VirtualService> {
        all.filter(|vs| vs.spec.hosts.iter().any(|h| host::subset_of(&service.host, h)))
    }
}

/// Prefixes as a VirtualService writes them; one address is a prefix of full length.
fn subnets(texts: &[String]) -> impl Iterator<Item = IpNet> {
    texts.iter().filter_map(|text| match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address)),
        Err(_) => text.parse().ok(),
    })
}
