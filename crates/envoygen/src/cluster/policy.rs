//! The traffic policy that holds for one port of one subset: the mesh's defaults, the DestinationRule's, the port's and the
//! subset's put together.

use config::mesh::MeshConfig;
use config::networking::{
    ClientTlsSettings, ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection, PortTrafficPolicy,
    ProxyProtocol, RetryBudget, SimpleLb, TrafficPolicy, TunnelSettings,
};
use model::DestinationRule;

/// The load balancer that forwards to the connection's original destination.
pub(crate) const SIMPLE_PASSTHROUGH: SimpleLb = SimpleLb::Passthrough;

/// What holds for a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Effective {
    pub(crate) load_balancer: Option<LoadBalancerSettings>,
    pub(crate) connection_pool: Option<ConnectionPoolSettings>,
    pub(crate) outlier_detection: Option<OutlierDetection>,
    pub(crate) tls: Option<ClientTlsSettings>,
    pub(crate) tunnel: Option<TunnelSettings>,
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    pub(crate) retry_budget: Option<RetryBudget>,
}

impl Effective {
    /// A port's settings stand in place of the whole policy; blocks that are absent then are the mesh's. A subset's policy
    /// replaces what comes out block by block, or, where it has settings for the port, all blocks that ports have (Istio,
    /// "TrafficPolicy").
    pub(crate) fn new(
        rule: Option<&DestinationRule>,
        subset: &str,
        port: u16,
        mesh: &MeshConfig,
    ) -> Effective {
        let policy = rule.and_then(|rule| rule.traffic_policy.as_ref());
        let (mut whole, _) = policy.map(|policy| of_policy(policy, port)).unwrap_or_default();
        if let Some(defaults) = &mesh.default_traffic_policy {
            whole.connection_pool = whole.connection_pool.or_else(|| defaults.connection_pool.clone());
            whole.outlier_detection = whole
                .outlier_detection
                .or_else(|| defaults.outlier_detection.clone());
        }
        let own = rule
            .and_then(|rule| rule.subset(subset))
            .and_then(|subset| subset.traffic_policy.as_ref());
        match own.map(|policy| of_policy(policy, port)) {
            None => whole,
            Some((own, true)) => Effective {
                tunnel: whole.tunnel,
                proxy_protocol: whole.proxy_protocol,
                retry_budget: whole.retry_budget,
                ..own
            },
            Some((own, false)) => Effective {
                load_balancer: own.load_balancer.or(whole.load_balancer),
                connection_pool: own.connection_pool.or(whole.connection_pool),
                outlier_detection: own.outlier_detection.or(whole.outlier_detection),
                tls: own.tls.or(whole.tls),
                tunnel: own.tunnel.or(whole.tunnel),
                proxy_protocol: own.proxy_protocol.or(whole.proxy_protocol),
                retry_budget: own.retry_budget.or(whole.retry_budget),
            },
        }
    }

    pub(crate) fn simple_lb(&self) -> SimpleLb {
        self.load_balancer
            .as_ref()
            .and_then(|lb| lb.simple)
            .unwrap_or_default()
    }
}

/// A policy for a port, and whether it has settings of the port's own.
fn of_policy(policy: &TrafficPolicy, port: u16) -> (Effective, bool) {
    let own = |settings: &&PortTrafficPolicy| {
        settings
            .port
            .as_ref()
            .is_some_and(|selector| selector.number == u32::from(port))
    };
    match policy.port_level_settings.iter().find(own) {
        Some(settings) => {
            let own = Effective {
                load_balancer: settings.load_balancer.clone(),
                connection_pool: settings.connection_pool.clone(),
                outlier_detection: settings.outlier_detection.clone(),
                tls: settings.tls.clone(),
                ..Effective::default()
            };
            (own, true)
        }
        None => {
            let whole = Effective {
                load_balancer: policy.load_balancer.clone(),
                connection_pool: policy.connection_pool.clone(),
                outlier_detection: policy.outlier_detection.clone(),
                tls: policy.tls.clone(),
                tunnel: policy.tunnel.clone(),
                proxy_protocol: policy.proxy_protocol.clone(),
                retry_budget: policy.retry_budget.clone(),
            };
            (whole, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn effective(policy: &str, subset: &str, port: u16) -> Effective {
        let own = match subset {
            "" => String::new(),
            policy => format!(", trafficPolicy: {policy}"),
        };
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: shop}}\nspec:\n  host: a\n  trafficPolicy: {policy}\n  subsets: [{{name: v1, labels: {{v: a}}{own}}}]\n"
        );
        let objects = config::parse("x.yaml", text.as_bytes(), "default").objects;
        let snapshot = model::Snapshot::build(objects.into_iter().map(Arc::new));
        let host = "a.shop.svc.cluster.local";
        let none = std::collections::BTreeMap::new();
        let rule = snapshot.destination_rules().find(host, "shop", "shop", &none);
        let mesh = MeshConfig::default().with_defaults();
        Effective::new(rule.map(|rule| &**rule), "v1", port, &mesh)
    }

    #[test]
    fn ports_replace_and_subsets_override() {
        let whole = "{loadBalancer: {simple: RANDOM}, tls: {mode: DISABLE}, retryBudget: {percent: 5}, portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}]}";
        let at = |subset: &str, port| effective(whole, subset, port);
        let plain = at("", 80);
        assert_eq!(plain.simple_lb(), SimpleLb::Random);
        assert!(plain.tls.is_some() && plain.retry_budget.is_some());
        let own = at("", 81);
        assert_eq!(own.simple_lb(), SimpleLb::RoundRobin);
        assert!(
            own.tls.is_none() && own.retry_budget.is_none(),
            "a port's settings inherit nothing"
        );
        let subset = at("{loadBalancer: {simple: LEAST_REQUEST}}", 80);
        assert_eq!(subset.simple_lb(), SimpleLb::LeastRequest);
        assert!(subset.tls.is_some(), "other blocks are inherited");
        let both = at(
            "{portLevelSettings: [{port: {number: 80}, connectionPool: {tcp: {maxConnections: 3}}}]}",
            80,
        );
        assert!(both.connection_pool.is_some() && both.load_balancer.is_none() && both.tls.is_none());
        assert!(both.retry_budget.is_some(), "ports have no such block");
    }
}
