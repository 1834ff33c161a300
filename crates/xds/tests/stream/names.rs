//! Names that are asked for, given up and asked for again; nonces from the past.

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use xds::types::ENDPOINTS;

use crate::script::{FEED, Test};

#[test]
fn a_name_asked_for_again_is_sent_again() {
    let mut test = Test::delta("E:a=1 E:b=1");
    test.subscribe("E", "a b").sends(&["E+a+b"]).ack("E");
    test.subscribe("E", "a").sends(&["E+a"]);
}

#[test]
fn unsubscribed_names_are_not_sent_any_more() {
    let mut test = Test::delta("E:a=1 E:b=1");
    test.subscribe("E", "a b").sends(&["E+a+b"]).ack("E");
    test.give(DeltaDiscoveryRequest {
        type_url: ENDPOINTS.to_string(),
        resource_names_unsubscribe: vec!["a".into()],
        ..Default::default()
    });
    test.table("E:a=2 E:b=2").sends(&["E+b"]);
}

#[test]
fn a_stale_nonce_acknowledges_nothing() {
    let mut test = Test::delta("F:a=1");
    test.subscribe("F", "*").sends(&["F+a"]).ack("F");
    test.table("F:a=2").sends(&["F+a"]).table("F:a=3");
    test.give(DeltaDiscoveryRequest {
        type_url: FEED.to_string(),
        response_nonce: "1".into(),
        ..Default::default()
    });
    test.sends(&[]);
    test.ack("F").sends(&["F+a"]);
}

#[test]
fn a_stale_state_of_the_world_list_is_ignored() {
    let mut test = Test::sotw("E:a=1 E:b=1");
    test.subscribe("E", "a").sends(&["E+a"]).ack("E");
    let stale = DiscoveryRequest {
        type_url: ENDPOINTS.to_string(),
        resource_names: vec!["b".into()],
        response_nonce: "77".into(),
        ..Default::default()
    };
    test.stream.on_sotw(test.now, stale).unwrap();
    test.sends(&[]);
    test.subscribe("E", "a b").sends(&["E+b"]);
}
