//! Consistent hashing: what a route hashes for a destination whose DestinationRule says so.

use config::networking::{ConsistentHashLb, Destination, TrafficPolicy};
use envoy_types::pb::envoy::config::route::v3::route_action::{HashPolicy, hash_policy};
use model::{DestinationRule, Service};

use crate::route::RouteContext;
use crate::wire::duration;

impl RouteContext<'_> {
    /// The hash of a route's destination.
    pub(crate) fn hash_policy(&self, destination: &Destination) -> Option<HashPolicy> {
        let service = self.view.service(&destination.host)?;
        let rule = self.view.rule(service)?;
        let port = destination.port.as_ref().map(|port| port.number);
        policy(consistent_hash(rule, &destination.subset, port)?)
    }

    /// The hash of a service's port that no VirtualService is about.
    pub(crate) fn service_hash(&self, service: &Service, port: u16) -> Option<HashPolicy> {
        let rule = self.view.rule(service)?;
        policy(consistent_hash(rule, "", Some(u32::from(port)))?)
    }
}

/// The most specific setting: the subset's for the port, the subset's, the rule's for the port, the rule's.
fn consistent_hash<'a>(
    rule: &'a DestinationRule,
    subset: &str,
    port: Option<u32>,
) -> Option<&'a ConsistentHashLb> {
    let subset = rule
        .subset(subset)
        .and_then(|subset| subset.traffic_policy.as_ref());
    let whole = rule.traffic_policy.as_ref();
    [subset, whole]
        .into_iter()
        .flatten()
        .find_map(|policy| of_port(policy, port).or_else(|| of_policy(policy)))
}

fn of_port(policy: &TrafficPolicy, port: Option<u32>) -> Option<&ConsistentHashLb> {
    let settings = policy.port_level_settings.iter();
    let mut own = settings.filter(|s| s.port.as_ref().map(|p| p.number) == port && port.is_some());
    own.next()?.load_balancer.as_ref()?.consistent_hash.as_ref()
}

fn of_policy(policy: &TrafficPolicy) -> Option<&ConsistentHashLb> {
    policy.load_balancer.as_ref()?.consistent_hash.as_ref()
}

fn policy(hash: &ConsistentHashLb) -> Option<HashPolicy> {
    use hash_policy::PolicySpecifier;
    let specifier = if let Some(header_name) = &hash.http_header_name {
        PolicySpecifier::Header(hash_policy::Header {
            header_name: header_name.clone(),
            ..Default::default()
        })
    } else if let Some(cookie) = &hash.http_cookie {
        let attribute = |a: &config::networking::CookieAttribute| hash_policy::CookieAttribute {
            name: a.name.clone(),
            value: a.value.clone(),
        };
        PolicySpecifier::Cookie(hash_policy::Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl.and_then(|ttl| duration(ttl.0)),
            path: cookie.path.clone(),
            attributes: cookie.attributes.iter().map(attribute).collect(),
        })
    } else if hash.use_source_ip == Some(true) {
        PolicySpecifier::ConnectionProperties(hash_policy::ConnectionProperties { source_ip: true })
    } else {
        let name = hash.http_query_parameter_name.clone()?;
        PolicySpecifier::QueryParameter(hash_policy::QueryParameter { name })
    };
    Some(HashPolicy {
        policy_specifier: Some(specifier),
        ..Default::default()
    })
}
