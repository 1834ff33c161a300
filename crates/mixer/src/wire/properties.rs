//! Whatever a caller of the Mixer API sends, Mixer answers or refuses, and does not panic. `ARGOSY_RANDOM_REQUESTS` says how often.

use std::sync::Arc;

use proptest::prelude::*;
use proto::mixer::check_request::QuotaParams;
use proto::mixer::mixer_server::Mixer as _;
use proto::mixer::{CheckRequest, CompressedAttributes, ReportRequest, StringMap};
use runtime::Metrics;
use runtime::grpc::ConnectInfo;
use tonic::{Code, Request};

use super::formatted::{self, Given};
use super::references::referenced;
use super::sent::Sent;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::frontends::MixerApi;
use crate::testing::{RICH, random, state};

const CATALOG: &str = "cluster.local/ns/shop/sa/catalog";

fn engine() -> Arc<Engine> {
    let engine = Engine::new(&crate::Args::default(), Clock::new(|| 0), &Metrics::new());
    engine.configure(state(&RICH));
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

/// A message of the catalog's proxy.
fn from_catalog<T>(message: T) -> Request<T> {
    let peer = runtime::Peer {
        spiffe_id: format!("spiffe://{CATALOG}").parse().unwrap(),
        not_after: i64::MAX,
    };
    let mut request = Request::new(message);
    request.extensions_mut().insert(ConnectInfo {
        remote: None,
        peer: Some(Arc::new(peer)),
        serial: None,
        cut: tokio_util::sync::CancellationToken::new(),
    });
    request
}

#[test]
fn calls_of_the_api_are_answered() {
    let api = MixerApi::new(engine());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let quota = prop_oneof![3 => Just("catalogquota".to_owned()), 1 => word()];
    let quotas = prop::collection::btree_map(quota, (-2..20i64, any::<bool>()), 0..3);
    let call = (set(), any::<u32>(), quotas, "[ab]{0,1}");
    let sets = prop::collection::vec(set(), 0..4);
    let report = (sets, prop::collection::vec(word(), 0..4), any::<u32>(), -1..3i32);
    proptest!(random(1000), |(call in call, report in report)| {
        let (attributes, global_word_count, quotas, id) = call;
        let wanted: Vec<(String, i64)> = quotas.iter().map(|(name, (amount, _))| (name.clone(), *amount)).collect();
        let quotas = quotas.into_iter().map(|(name, (amount, best_effort))| (name, QuotaParams { amount, best_effort }));
        let call = CheckRequest { attributes: Some(attributes), global_word_count, deduplication_id: id, quotas: quotas.collect() };
        match runtime.block_on(api.check(from_catalog(call))) {
            Ok(answer) => for (name, given) in answer.into_inner().quotas {
                let most = wanted.iter().find(|(wanted, _)| *wanted == name).map_or(0, |(_, amount)| *amount);
                // Another call with this identifier was given what it wanted then.
                prop_assert!(given.granted_amount >= 0 && given.granted_amount <= most.max(20), "{given:?} of {most}");
            },
            Err(status) => prop_assert!(matches!(status.code(), Code::InvalidArgument | Code::Unavailable), "{status}"),
        }
        let (attributes, default_words, global_word_count, semantics) = report;
        let report = ReportRequest { attributes, default_words, global_word_count, repeated_attributes_semantics: semantics };
        if let Err(status) = runtime.block_on(api.report(from_catalog(report))) {
            prop_assert_eq!(status.code(), Code::InvalidArgument);
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
