//! What a slow client is spared, and states that are longer than a response.

use xds::stream::{Settings, Variant};

use crate::script::Test;

#[test]
fn changes_coalesce_while_a_response_is_unacked() {
    let mut test = Test::delta("F:a=1");
    test.subscribe("F", "*").sends(&["F+a"]);
    test.table("F:a=2 F:b=1").sends(&[]);
    test.table("F:a=3 F:c=1").sends(&[]);
    test.ack("F").sends(&["F+a+c"]);
}

#[test]
fn there_and_back_sends_nothing() {
    let mut test = Test::delta("F:a=1");
    test.subscribe("F", "*").sends(&["F+a"]);
    test.table("F:a=2").table("F:a=1");
    test.ack("F").sends(&[]);
}

#[test]
fn long_states_come_in_parts_and_only_the_last_is_complete() {
    let settings = Settings {
        response_bytes: 100,
        ..Settings::default()
    };
    let mut test = Test::with(Variant::Delta, settings, "F:a=1 F:b=1 F:c=1 F:d=1 F:e=1");
    test.subscribe("F", "*").sends(&["F+a+b+c…"]);
    test.ack("F").sends(&["F+d+e"]);
    test.ack("F").sends(&[]);
}
