//! Whatever a caller of the Mixer API sends, Mixer answers or refuses, and does not panic. `PROPTEST_CASES` says how often.

use std::sync::Arc;

use proptest::prelude::*;
use proto::mixer::{CompressedAttributes, StringMap};
use runtime::Metrics;

use super::formatted::{self, Given};
use super::references::referenced;
use super::sent::Sent;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::testing::{SAMPLE, random, state};

const CATALOG: &str = "cluster.local/ns/shop/sa/catalog";

fn engine() -> Arc<Engine> {
    let engine = Engine::new(&crate::Args::default(), Clock::new(|| 0), &Metrics::new());
    engine.configure(state(&SAMPLE));
    Arc::new(engine)
}

/// Words of both dictionaries, and of none.
fn index() -> impl Strategy<Value = i32> {
    prop_oneof![6 => 0..230i32, 3 => -6..0i32, 1 => any::<i32>()]
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("inbound".to_owned()),
        Just("outbound".to_owned()),
        Just("mallory".to_owned()),
        Just("x-user".to_owned()),
        Just("kubernetes://catalog-v1.shop".to_owned()),
        Just("shop.tier".to_owned()),
        any::<String>(),
    ]
}

fn set() -> impl Strategy<Value = CompressedAttributes> {
    let numbers = (
        prop::collection::btree_map(index(), any::<i64>(), 0..3),
        prop::collection::btree_map(index(), any::<f64>(), 0..2),
        prop::collection::btree_map(index(), any::<bool>(), 0..3),
    );
    let times = (
        prop::collection::btree_map(index(), (any::<i64>(), any::<i32>()), 0..2),
        prop::collection::btree_map(index(), (any::<i64>(), any::<i32>()), 0..2),
    );
    let texts = (
        prop::collection::vec(word(), 0..6),
        prop::collection::btree_map(index(), index(), 0..8),
        prop::collection::btree_map(index(), prop::collection::vec(any::<u8>(), 0..17), 0..3),
        prop::collection::btree_map(index(), prop::collection::btree_map(index(), index(), 0..4), 0..3),
    );
    (numbers, times, texts).prop_map(
        |((int64s, doubles, bools), (at, long), (words, strings, bytes, maps))| CompressedAttributes {
            words,
            strings,
            int64s,
            doubles,
            bools,
            timestamps: at
                .into_iter()
                .map(|(name, (seconds, nanos))| (name, prost_types::Timestamp { seconds, nanos }))
                .collect(),
            durations: long
                .into_iter()
                .map(|(name, (seconds, nanos))| (name, prost_types::Duration { seconds, nanos }))
                .collect(),
            bytes,
            string_maps: maps
                .into_iter()
                .map(|(name, entries)| (name, StringMap { entries }))
                .collect(),
        },
    )
}

#[test]
fn sets_of_attributes_are_decided_on_and_reported() {
    let engine = engine();
    let policies = engine.policies().unwrap();
    proptest!(random(1000), |(first in set(), second in set(), known in any::<u32>())| {
        let mut sent = Sent::default();
        for message in [&first, &second] {
            if sent.change(message, &first.words).is_err() {
                break;
            }
            let own = sent.own(&policies.mesh, CATALOG, None);
            sent.with_request(&sent.derived(), &policies.mesh, CATALOG, own, |request| {
                let verdict = engine.weigh(&policies, request);
                prop_assert!(matches!(verdict.http_status, 200 | 403 | 500));
                let uses = policies.rules.check_reads(Some("shop"));
                let found = referenced(&uses, &sent, known);
                let words = i32::try_from(found.words.len()).unwrap();
                prop_assert!(found.attribute_matches.iter().all(|one| one.name >= -words && one.map_key >= -words));
                engine.report(&policies, request);
                Ok(())
            })?;
        }
    });
}

#[test]
fn formatted_text_is_read_or_refused() {
    let names = expr::STANDARD.all().map(|(name, _)| name).collect::<Vec<_>>();
    let name = prop_oneof![
        prop::sample::select(names),
        Just("request.headers.x"),
        Just("shop.tier")
    ];
    let text = prop_oneof!["[0-9.:smh-]{0,12}", any::<String>()];
    proptest!(random(1000), |(pairs in prop::collection::vec((name, text), 0..10))| {
        let pairs = pairs.iter().map(|(name, text)| (*name, Given::Text(text)));
        let _ = formatted::read(pairs, Some(policy::LOG_OUTBOUND));
    });
}
