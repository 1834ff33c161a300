//! The subscription state, step by step: what is sent when, as text.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use xds::stream::{Refused, Response, Settings, Stream, Variant, nonce_text, version_text};
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};
use xds::{Event, Table, TypeUrl};

const FEED: TypeUrl = TypeUrl::fixed("core/v1/Service");
const KINDS: [(&str, TypeUrl); 5] = [
    ("C", CLUSTER),
    ("E", ENDPOINTS),
    ("L", LISTENER),
    ("R", ROUTE),
    ("F", FEED),
];

/// `C:a=1 E:a=1 R:r=2`: type, name, content. Clusters whose content starts with `e` are EDS clusters.
fn table(text: &str) -> Arc<Table> {
    let mut table = Table::builder();
    for word in text.split_whitespace() {
        let (kind, rest) = word.split_once(':').unwrap();
        let (name, content) = rest.split_once('=').unwrap();
        table.insert(url(kind), name.into(), content_bytes(kind, name, content));
    }
    Arc::new(table.build(None))
}

fn content_bytes(kind: &str, name: &str, content: &str) -> Bytes {
    if kind != "C" {
        return content.to_owned().into();
    }
    let discovery = if content.starts_with('e') {
        DiscoveryType::Eds
    } else {
        DiscoveryType::Static
    };
    let cluster = Cluster {
        name: name.into(),
        alt_stat_name: content.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        ..Default::default()
    };
    cluster.encode_to_vec().into()
}

fn url(kind: &str) -> TypeUrl {
    KINDS.iter().find(|(short, _)| *short == kind).unwrap().1.clone()
}

struct Test {
    stream: Stream,
    variant: Variant,
    now: Duration,
    /// Newest nonce by type.
    nonces: BTreeMap<TypeUrl, u64>,
    names: BTreeMap<TypeUrl, Vec<String>>,
}

impl Test {
    fn with(variant: Variant, settings: Settings, first: &str) -> Self {
        Self {
            stream: Stream::new(variant, settings, table(first)),
            variant,
            now: Duration::ZERO,
            nonces: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    fn delta(first: &str) -> Self {
        Self::with(Variant::Delta, Settings::default(), first)
    }

    fn sotw(first: &str) -> Self {
        Self::with(Variant::Sotw, Settings::default(), first)
    }

    fn table(&mut self, text: &str) -> &mut Self {
        self.stream.on_table(table(text));
        self
    }

    fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    /// Everything that is sent now: `C+a+b-c`, with `…` where more of it follows.
    fn sends(&mut self, expected: &[&str]) -> &mut Self {
        let mut seen = Vec::new();
        while let Some(response) = self.stream.poll(self.now) {
            self.nonces.insert(response.type_url.clone(), response.nonce);
            seen.push(shown(&response));
        }
        assert_eq!(seen, expected);
        self
    }

    fn subscribe(&mut self, kind: &str, names: &str) -> &mut Self {
        let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
        match self.variant {
            Variant::Delta => self.give(DeltaDiscoveryRequest {
                type_url: url(kind).to_string(),
                resource_names_subscribe: names,
                ..Default::default()
            }),
            Variant::Sotw => {
                self.names.insert(url(kind), names);
                self.answer(kind, None)
            }
        }
    }

    fn give(&mut self, request: DeltaDiscoveryRequest) -> &mut Self {
        self.stream.on_delta(self.now, request).unwrap();
        self
    }

    fn ack(&mut self, kind: &str) -> &mut Self {
        self.answer(kind, None)
    }

    fn nack(&mut self, kind: &str, message: &str) -> &mut Self {
        self.answer(kind, Some(message))
    }

    fn answer(&mut self, kind: &str, error: Option<&str>) -> &mut Self {
        let error_detail = error.map(|message| Status {
            code: 3,
            message: message.into(),
            details: Vec::new(),
        });
        let type_url = url(kind);
        let response_nonce = self
            .nonces
            .get(&type_url)
            .map(|nonce| nonce_text(*nonce))
            .unwrap_or_default();
        let given = match self.variant {
            Variant::Delta => self.stream.on_delta(
                self.now,
                DeltaDiscoveryRequest {
                    type_url: type_url.to_string(),
                    response_nonce,
                    error_detail,
                    ..Default::default()
                },
            ),
            Variant::Sotw => self.stream.on_sotw(
                self.now,
                DiscoveryRequest {
                    type_url: type_url.to_string(),
                    resource_names: self.names.get(&type_url).cloned().unwrap_or_default(),
                    response_nonce,
                    error_detail,
                    ..Default::default()
                },
            ),
        };
        given.unwrap();
        self
    }

    /// Resources that are rejected now, by the last event that says so.
    fn rejected(&mut self) -> Option<Vec<String>> {
        let events = self.stream.events();
        let lists = events.into_iter().filter_map(|event| match event {
            Event::Rejected { resources, .. } => Some(resources),
            _ => None,
        });
        lists.last().map(|list| {
            list.iter()
                .map(|each| format!("{}: {}", each.name, each.message))
                .collect()
        })
    }

    fn due_in(&self) -> Option<u64> {
        self.stream
            .deadline(self.now)
            .map(|due| (due - self.now).as_secs())
    }
}

fn shown(response: &Response) -> String {
    let kind = KINDS.iter().find(|(_, url)| *url == response.type_url).unwrap().0;
    let added = response.resources.iter().map(|each| format!("+{}", each.name));
    let removed = response.removed.iter().map(|name| format!("-{name}"));
    let more = if response.complete { "" } else { "…" };
    format!("{kind}{}{more}", added.chain(removed).collect::<String>())
}

/// A proxy that has the whole of a table and has said so.
fn settled(first: &str, endpoints: &str, routes: &str) -> Test {
    let mut test = Test::delta(first);
    for (kind, names) in [("C", ""), ("E", endpoints), ("L", ""), ("R", routes)] {
        if kind == "C" || kind == "L" || !names.is_empty() {
            test.subscribe(kind, names);
        }
        while let Some(response) = test.stream.poll(test.now) {
            test.nonces.insert(response.type_url.clone(), response.nonce);
        }
        for kind in ["C", "E", "L", "R"] {
            if test.nonces.contains_key(&url(kind)) {
                test.ack(kind);
            }
        }
        while let Some(response) = test.stream.poll(test.now) {
            test.nonces.insert(response.type_url.clone(), response.nonce);
        }
    }
    for kind in ["C", "E", "L", "R"] {
        if test.nonces.contains_key(&url(kind)) {
            test.ack(kind);
        }
    }
    test.sends(&[]);
    test
}

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

#[test]
fn bounds_hold() {
    let settings = Settings {
        names: 2,
        types: 2,
        ..Settings::default()
    };
    let mut stream = Stream::new(Variant::Delta, settings, table(""));
    let mut ask = |type_url: &str, names: &[&str]| {
        stream.on_delta(
            Duration::ZERO,
            DeltaDiscoveryRequest {
                type_url: type_url.into(),
                resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
                ..Default::default()
            },
        )
    };
    assert_eq!(ask("", &[]), Err(Refused::NoType));
    assert_eq!(ask("t", &["a", "b"]), Ok(()));
    assert_eq!(
        ask("t", &["c"]),
        Err(Refused::TooManyNames {
            type_url: "t".into(),
            limit: 2
        })
    );
    assert_eq!(ask("u", &[]), Ok(()));
    assert_eq!(ask("v", &[]), Err(Refused::TooManyTypes { limit: 2 }));
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
