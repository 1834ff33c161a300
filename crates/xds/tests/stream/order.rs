//! What waits for what: endpoints behind their clusters, routes behind clusters and listeners, within a bound.

use crate::script::settled;

#[test]
fn a_changed_eds_cluster_is_followed_by_its_unchanged_endpoints_before_its_ack() {
    let mut test = settled("C:a=e1 C:b=e1 E:a=1 E:b=1", "a b", "");
    test.table("C:a=e2 C:b=e1 E:a=1 E:b=1").sends(&["C+a", "E+a"]);
}

#[test]
fn endpoints_under_way_when_their_cluster_changes_are_sent_once_more_behind_it() {
    let mut test = settled("C:a=e1 E:a=1", "a", "");
    test.table("C:a=e1 E:a=2").sends(&["E+a"]);
    test.table("C:a=e2 E:a=2").sends(&["C+a"]);
    test.ack("E").sends(&["E+a"]);
}

#[test]
fn endpoint_changes_wait_for_nobody() {
    let mut test = settled("C:a=e1 C:b=1 E:a=1 L:l=1", "a", "");
    test.table("C:a=e1 C:b=2 E:a=1 L:l=2").sends(&["C+b"]);
    test.table("C:a=e1 C:b=2 E:a=2 L:l=2").sends(&["E+a"]);
}

#[test]
fn routes_wait_for_clusters_and_listeners_but_no_longer_than_the_gate() {
    let mut test = settled("C:a=1 L:l=1 R:r=1", "", "r");
    test.table("C:a=1 C:b=1 L:l=2 R:r=2").sends(&["C+b"]);
    assert_eq!(test.due_in(), Some(15));
    test.wait(14).sends(&[]);
    test.wait(1).sends(&["L+l"]);
    assert_eq!(test.due_in(), Some(15));
    test.wait(15).sends(&["R+r"]);
    assert_eq!(test.due_in(), None);
}

#[test]
fn a_route_never_overtakes_its_cluster_however_slow_the_client_is() {
    let mut test = settled("C:a=1 L:l=1 R:r=1", "", "r");
    test.table("C:a=2 L:l=1 R:r=1").sends(&["C+a"]);
    test.table("C:a=2 C:b=1 L:l=1 R:r=2").wait(1000).sends(&[]);
    test.ack("C").sends(&["C+b"]);
    test.ack("C").sends(&["R+r"]);
}

#[test]
fn routes_of_an_answered_table_do_not_wait_for_the_next() {
    let mut test = settled("C:a=1 L:l=1 R:r=1", "", "r");
    test.table("C:a=1 C:b=1 L:l=1 R:r=2").sends(&["C+b"]);
    test.table("C:a=1 C:b=1 C:c=1 L:l=1 R:r=3");
    test.ack("C").sends(&["C+c", "R+r"]);
}
