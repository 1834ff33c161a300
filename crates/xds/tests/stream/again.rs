//! Clients that come back.

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use xds::stream::version_text;
use xds::types::{CLUSTER, ENDPOINTS};

use crate::script::{FEED, Test, table};

#[test]
fn a_client_that_comes_back_gets_only_what_changed() {
    let old = table("F:a=1 F:b=1 F:gone=1");
    let versions = old
        .of_type(&FEED)
        .iter()
        .map(|each| (each.name.to_string(), version_text(each.version)))
        .collect();
    let mut test = Test::delta("F:a=1 F:b=2 F:new=1");
    test.give(DeltaDiscoveryRequest {
        type_url: FEED.to_string(),
        resource_names_subscribe: vec!["*".into()],
        initial_resource_versions: versions,
        ..Default::default()
    });
    test.sends(&["F+b+new-gone"]);
}

#[test]
fn a_proxy_that_comes_back_keeps_a_gone_cluster_for_the_drain_time() {
    let old = table("C:a=1 C:b=1");
    let clusters = old.of_type(&CLUSTER);
    let versions = clusters
        .iter()
        .map(|each| (each.name.to_string(), version_text(each.version)));
    let mut test = Test::delta("C:b=1 L:l=1");
    test.give(DeltaDiscoveryRequest {
        type_url: CLUSTER.to_string(),
        initial_resource_versions: versions.collect(),
        ..Default::default()
    });
    test.sends(&["C"])
        .ack("C")
        .subscribe("L", "")
        .sends(&["L+l"])
        .ack("L")
        .sends(&[]);
    test.wait(60).sends(&["C-a"]);
}

#[test]
fn endpoints_of_a_cluster_sent_before_their_first_request_are_sent_though_the_client_has_them() {
    let mut test = Test::delta("C:a=e2 E:a=1");
    let version = version_text(table("E:a=1").of_type(&ENDPOINTS).get("a").unwrap().version);
    test.give(DeltaDiscoveryRequest {
        type_url: CLUSTER.to_string(),
        initial_resource_versions: [("a".to_owned(), "0".to_owned())].into(),
        ..Default::default()
    });
    test.sends(&["C+a"]);
    test.give(DeltaDiscoveryRequest {
        type_url: ENDPOINTS.to_string(),
        resource_names_subscribe: vec!["a".into()],
        initial_resource_versions: [("a".to_owned(), version)].into(),
        ..Default::default()
    });
    test.sends(&["E+a"]);
}
