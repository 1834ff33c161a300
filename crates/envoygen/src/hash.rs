//! Consistent hashing: what a route hashes for a destination whose DestinationRule says so.

use config::networking::{ConsistentHashLb, Destination};
use envoy_types::pb::envoy::config::route::v3::route_action::{HashPolicy, hash_policy};
use model::Service;

use crate::cluster::Effective;
use crate::route::RouteContext;
use crate::wire::duration;

impl RouteContext<'_> {
    /// The hash of a route's destination.
    pub(crate) fn hash_policy(&self, destination: &Destination) -> Option<HashPolicy> {
        let service = self.view.service(&destination.host)?;
        let named = destination
            .port
            .as_ref()
            .and_then(|port| u16::try_from(port.number).ok());
        let port = named.unwrap_or(match service.ports.as_slice() {
            [only] => only.number,
            _ => self.port,
        });
        self.hash(service, &destination.subset, port)
    }

    /// The hash of a service's port that no VirtualService is about.
    pub(crate) fn service_hash(&self, service: &Service, port: u16) -> Option<HashPolicy> {
        self.hash(service, "", port)
    }

    fn hash(&self, service: &Service, subset: &str, port: u16) -> Option<HashPolicy> {
        let rule = self.view.rule(service)?;
        let effective = Effective::new(Some(rule), subset, port, self.mesh);
        policy(effective.load_balancer?.consistent_hash.as_ref()?)
    }
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
