//! The traffic policy that holds for one port of one subset: the DestinationRule's, the port's and the subset's put together.

use config::networking::{
    ClientTlsSettings, ConnectionPoolSettings, LoadBalancerSettings, OutlierDetection, PortTrafficPolicy,
    RetryBudget, SimpleLb, TrafficPolicy,
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
    pub(crate) retry_budget: Option<RetryBudget>,
}

impl Effective {
    /// A port's settings replace the whole policy's; a subset's replace, field by field, what comes out (Istio,
    /// "TrafficPolicy").
    pub(crate) fn new(rule: Option<&DestinationRule>, subset: &str, port: u16) -> Effective {
        let Some(rule) = rule else {
            return Effective::default();
        };
        let whole = rule
            .traffic_policy
            .as_ref()
            .map(|policy| of_policy(policy, port))
            .unwrap_or_default();
        let own = rule
            .subset(subset)
            .and_then(|subset| subset.traffic_policy.as_ref());
        match own.map(|policy| of_policy(policy, port)) {
            None => whole,
            Some(own) => Effective {
                load_balancer: own.load_balancer.or(whole.load_balancer),
                connection_pool: own.connection_pool.or(whole.connection_pool),
                outlier_detection: own.outlier_detection.or(whole.outlier_detection),
                tls: own.tls.or(whole.tls),
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

fn of_policy(policy: &TrafficPolicy, port: u16) -> Effective {
    let own = |settings: &&PortTrafficPolicy| {
        settings
            .port
            .as_ref()
            .is_some_and(|selector| selector.number == u32::from(port))
    };
    match policy.port_level_settings.iter().find(own) {
        Some(settings) => Effective {
            load_balancer: settings.load_balancer.clone(),
            connection_pool: settings.connection_pool.clone(),
            outlier_detection: settings.outlier_detection.clone(),
            tls: settings.tls.clone(),
            retry_budget: policy.retry_budget.clone(),
        },
        None => Effective {
            load_balancer: policy.load_balancer.clone(),
            connection_pool: policy.connection_pool.clone(),
            outlier_detection: policy.outlier_detection.clone(),
            tls: policy.tls.clone(),
            retry_budget: policy.retry_budget.clone(),
        },
    }
}
