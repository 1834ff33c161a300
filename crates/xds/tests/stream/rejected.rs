//! NACKs.

use xds::types::CLUSTER;

use crate::script::{Test, settled, shown, table};

#[test]
fn a_rejected_resource_waits_for_another_version_and_the_others_do_not_wait_for_it() {
    let mut test = Test::delta("C:a=1 C:b=1");
    test.subscribe("C", "").sends(&["C+a+b"]);
    test.nack("C", "Error adding/updating cluster(s) a: no such thing")
        .sends(&[]);
    assert_eq!(
        test.rejected().unwrap(),
        ["a: Error adding/updating cluster(s) a: no such thing"]
    );
    test.table("C:a=1 C:b=2").sends(&["C+b"]).ack("C").sends(&[]);
    assert_eq!(test.rejected(), None);
    test.table("C:a=2 C:b=2").sends(&["C+a"]).ack("C").sends(&[]);
    assert_eq!(test.rejected().unwrap(), [""; 0]);
}

#[test]
fn a_rejection_without_a_name_is_pinned_down() {
    let mut test = settled("C:a=1 L:l=1 R:r=1 R:s=1 R:t=1", "", "r s t");
    test.table("C:a=1 L:l=1 R:r=2 R:s=2 R:t=2").sends(&["R+r+s+t"]);
    test.nack("R", "some of it is bad").sends(&["R+r…"]);
    test.ack("R").sends(&["R+s…"]);
    test.nack("R", "bad").sends(&["R+t"]);
    test.ack("R").sends(&[]);
    assert_eq!(test.rejected().unwrap(), ["s: bad"]);
    test.table("C:a=1 L:l=1 R:r=2 R:s=1 R:t=2").sends(&[]);
    assert_eq!(test.rejected().unwrap(), [""; 0], "back to what the client has");
}

#[test]
fn state_of_the_world_goes_on_with_the_last_good_version() {
    let mut test = Test::sotw("C:a=1 C:b=1");
    test.subscribe("C", "").sends(&["C+a+b"]).ack("C");
    let good = table("C:a=1").of_type(&CLUSTER).get("a").unwrap().version;
    test.table("C:a=2 C:b=1")
        .sends(&["C+a+b"])
        .nack("C", "a: bad")
        .sends(&[]);
    test.table("C:a=2 C:b=2");
    let response = test.stream.poll(test.now).unwrap();
    assert_eq!(shown(&response), "C+a+b");
    assert_eq!(response.resources.iter().next().unwrap().version, good);
}
