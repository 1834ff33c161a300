//! What goes only when nothing refers to it any more, and after the drain time.

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use std::sync::Arc;
use std::time::Duration;
use xds::stream::{Settings, Stream, Variant, nonce_text};
use xds::types::{CLUSTER, LISTENER};
use xds::{Table, TypeUrl};

use crate::script::{Test, settled, table};

#[test]
fn a_cluster_goes_when_its_route_is_answered_and_the_drain_time_is_over() {
    let mut test = settled("C:a=1 C:b=1 L:l=1 R:r=1", "", "r");
    test.table("C:b=1 L:l=1 R:r=2").sends(&["R+r"]);
    test.wait(100).sends(&[]);
    test.ack("R").sends(&[]);
    assert_eq!(test.due_in(), Some(60));
    test.wait(59).sends(&[]);
    test.wait(1).sends(&["C-a"]);
}

#[test]
fn a_cluster_that_comes_back_in_time_was_never_away() {
    let mut test = settled("C:a=1 C:b=1 L:l=1 R:r=1", "", "r");
    test.table("C:b=1 L:l=1 R:r=2")
        .sends(&["R+r"])
        .ack("R")
        .sends(&[]);
    test.wait(30)
        .table("C:a=1 C:b=1 L:l=1 R:r=1")
        .sends(&["R+r"])
        .ack("R")
        .sends(&[]);
    test.wait(300).sends(&[]);
    test.table("C:b=1 L:l=1 R:r=2")
        .sends(&["R+r"])
        .ack("R")
        .sends(&[]);
    assert_eq!(test.due_in(), Some(60), "the time begins anew");
}

#[test]
fn a_cluster_stays_while_the_route_that_replaces_its_own_is_rejected() {
    let mut test = settled("C:a=1 C:b=1 L:l=1 R:r=1", "", "r");
    test.table("C:b=1 L:l=1 R:r=2")
        .sends(&["R+r"])
        .nack("R", "bad")
        .sends(&[]);
    test.wait(1000).sends(&[]);
    test.table("C:b=1 L:l=1 R:r=3")
        .sends(&["R+r"])
        .ack("R")
        .sends(&[]);
    test.wait(60).sends(&["C-a"]);
}

#[test]
fn state_of_the_world_keeps_sending_what_is_draining() {
    let mut test = Test::sotw("C:a=1 C:b=1");
    test.subscribe("C", "").sends(&["C+a+b"]).ack("C");
    test.table("C:b=2").sends(&["C+a+b"]).ack("C").sends(&[]);
    test.wait(60).sends(&["C+b-a"]);
}

#[test]
fn a_cluster_stays_for_a_listener_that_the_client_tells_of_late() {
    let mut stream = Stream::new(Variant::Delta, Settings::default(), Arc::new(Table::default()));
    let has = |url: &TypeUrl, name: &str| DeltaDiscoveryRequest {
        type_url: url.to_string(),
        initial_resource_versions: [(name.to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    stream.on_delta(Duration::ZERO, has(&CLUSTER, "c")).unwrap();
    while let Some(response) = stream.poll(Duration::ZERO) {
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.to_string(),
            response_nonce: nonce_text(response.nonce),
            ..Default::default()
        };
        stream.on_delta(Duration::ZERO, ack).unwrap();
    }
    // Nobody can take a response until the drain time is over.
    stream
        .on_delta(Duration::from_secs(25), has(&LISTENER, "l"))
        .unwrap();
    stream.on_table(table("C:d=1"));
    while let Some(response) = stream.poll(Duration::from_secs(61)) {
        assert!(
            response.type_url != CLUSTER || response.removed.is_empty(),
            "the listener may use it"
        );
    }
}
