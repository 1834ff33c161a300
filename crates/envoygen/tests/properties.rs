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
use support::{FEATURES, MIXER, SHOP, generator, tables};

const NODES: [&str; 4] = [
    "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local",
    "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local",
    "sidecar~127.1.0.30~stock-v1.shop~shop.svc.cluster.local",
    "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local",
];

const MESH: [&str; 3] = [SHOP, FEATURES, MIXER];

#[test]
fn the_same_bytes_each_time() {
    for node in NODES {
        let first = tables(&generator(&MESH), node);
        for _ in 0..5 {
            assert_eq!(tables(&generator(&MESH), node), first, "{node}");
        }
    }
}

#[test]
fn names_are_unique_and_sorted() {
    for node in NODES {
        let output = tables(&generator(&MESH), node);
        let names: Vec<_> = output
            .resources
            .iter()
            .map(|r| (r.type_url, r.name.clone()))
            .collect();
        let unique: BTreeSet<_> = names.iter().cloned().collect();
        assert_eq!(names, unique.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn what_comes_from_objects_says_so() {
    let output = tables(&generator(&MESH), NODES[0]);
    let origins = |name: &str| {
        let found = output
            .resources
            .iter()
            .find(|r| r.name == name && r.type_url != type_url::ENDPOINTS)
            .unwrap();
        found.origins.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        origins("outbound|7080|v1|catalog.shop.svc.cluster.local"),
        ["DestinationRule shop/catalog", "Service shop/catalog"]
    );
    let routes = origins("7080");
    for expected in [
        "VirtualService shop/catalog",
        "VirtualService shop/frontend",
        "Sidecar shop/frontend-v1",
    ] {
        assert!(routes.iter().any(|o| o == expected), "{expected} in {routes:?}");
    }
    let inbound = origins("127.1.0.10_8080");
    assert!(
        inbound
            .iter()
            .any(|o| o == "PeerAuthentication istio-system/default"),
        "{inbound:?}"
    );
}

#[test]
fn routes_lead_to_clusters_and_clusters_have_endpoint_sets() {
    for node in NODES {
        check(&tables(&generator(&MESH), node));
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
