//! What a client gets first: in which order, and what is answered that does not exist.

use xds::Event;

use crate::script::Test;

#[test]
fn a_new_proxy_gets_clusters_first_and_the_rest_as_it_answers() {
    let mut test = Test::delta("C:a=e1 E:a=1 L:l=1 R:r=1");
    test.subscribe("C", "").sends(&["C+a"]);
    test.subscribe("E", "a").sends(&["E+a"]);
    test.subscribe("L", "").sends(&[]);
    test.ack("E").sends(&[]);
    test.ack("C").sends(&["L+l"]);
    test.subscribe("R", "r").sends(&[]);
    test.ack("L").sends(&["R+r"]);
    test.ack("R").sends(&[]);
    assert!(matches!(test.stream.events().last(), Some(Event::Synced { .. })));
}

#[test]
fn nothing_is_answered_too() {
    Test::delta("")
        .subscribe("C", "")
        .sends(&["C"])
        .ack("C")
        .subscribe("L", "")
        .sends(&["L"]);
    Test::sotw("")
        .subscribe("C", "")
        .sends(&["C"])
        .ack("C")
        .subscribe("L", "")
        .sends(&["L"]);
    Test::delta("").subscribe("F", "*").sends(&["F"]);
}

#[test]
fn what_does_not_exist_is_said_to_be_removed_and_sent_when_it_comes() {
    let mut test = Test::delta("");
    test.subscribe("E", "a").sends(&["E-a"]).ack("E");
    test.table("E:a=1 E:b=1").sends(&["E+a"]);
}
