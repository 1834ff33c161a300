//! Reads from an encoded cluster the one thing that the order of messages depends on: whether it is an EDS cluster,
//! and the name of its endpoints. Everything else in the message is skipped.

use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

/// `envoy.config.cluster.v3.Cluster` as far as it matters here.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(int32, optional, tag = "2")]
    discovery_type: Option<i32>,
    #[prost(message, optional, tag = "3")]
    eds: Option<Eds>,
}

/// `Cluster.EdsClusterConfig`.
#[derive(Clone, PartialEq, Message)]
struct Eds {
    #[prost(string, tag = "2")]
    service_name: String,
}

/// `envoy.config.endpoint.v3.ClusterLoadAssignment` without endpoints.
#[derive(Clone, PartialEq, Message)]
struct Nowhere {
    #[prost(string, tag = "1")]
    cluster_name: String,
}

/// `Cluster.DiscoveryType.EDS`.
const EDS: i32 = 3;

/// The name under which Envoy asks for the cluster's endpoints; `None` for a cluster of another type. Without a
/// service name it is the cluster's own (Cluster.EdsClusterConfig).
pub(crate) fn endpoints_name(cluster: &Arc<str>, bytes: &[u8]) -> Option<Arc<str>> {
    let head = Head::decode(bytes).ok()?;
    if head.discovery_type != Some(EDS) {
        return None;
    }
    match head.eds {
        Some(eds) if !eds.service_name.is_empty() => Some(eds.service_name.into()),
        _ => Some(cluster.clone()),
    }
}

/// Endpoints of that name, none: what a state-of-the-world client is told of endpoints that do not exist, since it
/// cannot be told so and a cluster would wait for them.
pub(crate) fn no_endpoints(name: &str) -> Bytes {
    Nowhere {
        cluster_name: name.to_owned(),
    }
    .encode_to_vec()
    .into()
}

#[cfg(test)]
mod tests {
    use super::{endpoints_name, no_endpoints};
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::config::cluster::v3::cluster::{
        ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
    };
    use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
    use prost::Message;

    fn check(kind: DiscoveryType, service_name: Option<&str>, expected: Option<&str>) {
        let cluster = Cluster {
            name: "outbound|80||a".into(),
            alt_stat_name: "a".into(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
            eds_cluster_config: service_name.map(|name| EdsClusterConfig {
                service_name: name.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let seen = endpoints_name(&"outbound|80||a".into(), &cluster.encode_to_vec());
        assert_eq!(seen.as_deref(), expected, "{kind:?} {service_name:?}");
    }

    #[test]
    fn names_the_endpoints_of_eds_clusters_alone() {
        check(DiscoveryType::Eds, Some("other"), Some("other"));
        check(DiscoveryType::Eds, Some(""), Some("outbound|80||a"));
        check(DiscoveryType::Eds, None, Some("outbound|80||a"));
        check(DiscoveryType::StrictDns, Some("other"), None);
        check(DiscoveryType::Static, None, None);
        assert_eq!(endpoints_name(&"a".into(), b"\xff\xff not a message"), None);
    }

    #[test]
    fn no_endpoints_read_as_an_empty_assignment() {
        let read = ClusterLoadAssignment::decode(no_endpoints("outbound|80||a")).unwrap();
        assert_eq!(
            read,
            ClusterLoadAssignment {
                cluster_name: "outbound|80||a".into(),
                ..Default::default()
            }
        );
    }
}
