//! What holds for every table: determinism, and that whatever a resource names is there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::route::v3::{
    RouteConfiguration, route::Action, route_action::ClusterSpecifier,
};
use envoygen::{Output, type_url};
use prost::Message;
use support::{SHOP, generator, tables};

const NODES: [&str; 4] = [
    "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local",
    "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local",
    "sidecar~127.1.0.30~stock-v1.shop~shop.svc.cluster.local",
    "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local",
];

#[test]
fn the_same_bytes_each_time() {
    for node in NODES {
        let first = tables(&generator(&[SHOP]), node);
        for _ in 0..5 {
            assert_eq!(tables(&generator(&[SHOP]), node), first, "{node}");
        }
    }
}

#[test]
fn routes_lead_to_clusters_and_clusters_have_endpoint_sets() {
    for node in NODES {
        check(&tables(&generator(&[SHOP]), node));
    }
}

fn check(output: &Output) {
    let names = |url: &str| {
        output
            .of_type(url)
            .map(|r| r.name.clone())
            .collect::<BTreeSet<_>>()
    };
    let clusters = names(type_url::CLUSTER);
    for resource in output.of_type(type_url::ROUTES) {
        let routes = RouteConfiguration::decode(resource.bytes.clone()).unwrap();
        for route in routes.virtual_hosts.iter().flat_map(|host| &host.routes) {
            let Some(Action::Route(action)) = &route.action else {
                continue;
            };
            let named = match &action.cluster_specifier {
                Some(ClusterSpecifier::Cluster(cluster)) => vec![cluster.clone()],
                Some(ClusterSpecifier::WeightedClusters(all)) => {
                    all.clusters.iter().map(|c| c.name.clone()).collect()
                }
                other => panic!("{other:?}"),
            };
            for name in named {
                assert!(clusters.contains(&name), "{name} is no cluster");
            }
        }
    }
    let eds: BTreeSet<String> = output
        .of_type(type_url::CLUSTER)
        .filter(|r| {
            Cluster::decode(r.bytes.clone())
                .unwrap()
                .eds_cluster_config
                .is_some()
        })
        .map(|r| r.name.clone())
        .collect();
    assert_eq!(eds, names(type_url::ENDPOINTS));
}
