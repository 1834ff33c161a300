//! Clients that keep no rule: random requests, nonces from nowhere, too many and too long names. The stream's bounds hold, what
//! is un-ACKed stays so, and an honest client beside is served. `ARGOSY_RANDOM_REQUESTS` is how many requests are sent in all
//! (20,000 unless given).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use xds::stream::{Pool, Refused, Settings, Stream, Variant, nonce_text};
use xds::types::{CLUSTER, ENDPOINTS, LISTENER, ROUTE};
use xds::{Event, Table, TypeUrl};

const FREE: TypeUrl = TypeUrl::fixed("core/v1/Service");

fn table(version: usize) -> Arc<Table> {
    let mut table = Table::builder();
    for name in 0..20 {
        let content = if name < 10 { version } else { 0 };
        table.insert(FREE, format!("r{name}").into(), format!("{content}").into());
    }
    Arc::new(table.build(None))
}

fn settings() -> Settings {
    Settings {
        names: 50,
        name_bytes: 4_000,
        types: 6,
        ..Settings::default()
    }
}

/// What a hostile client may say in either variant.
struct Said {
    type_url: String,
    nonce: String,
    error: Option<Status>,
    names: Vec<String>,
    remove: Vec<String>,
    versions: Vec<(String, String)>,
    locators: bool,
}

fn said(random: &mut StdRng, newest: u64) -> Said {
    let known = [&CLUSTER, &ENDPOINTS, &LISTENER, &ROUTE, &FREE, &FREE];
    let type_url = match random.random_range(0..40) {
        0 => String::new(),
        1 => format!("unknown/{}", random.random_range(0..20)),
        _ => known.choose(random).unwrap().to_string(),
    };
    let nonce = match random.random_range(0..6) {
        0 => String::new(),
        1 => "no number".to_owned(),
        2 => u64::MAX.to_string(),
        3 => nonce_text(newest),
        4 => nonce_text(newest + 1),
        _ => nonce_text(random.random_range(0..=newest)),
    };
    let name = |random: &mut StdRng| match random.random_range(0..30) {
        0 => "*".to_owned(),
        1 => String::new(),
        2 => "x".repeat(random.random_range(0..2_000)),
        _ => format!("r{}", random.random_range(0..80)),
    };
    let some = |random: &mut StdRng| {
        let most = if random.random_bool(0.02) { 70 } else { 4 };
        (0..random.random_range(0..most))
            .map(|_| name(random))
            .collect::<Vec<_>>()
    };
    Said {
        type_url,
        nonce,
        error: random.random_bool(0.3).then(|| Status {
            message: "no ".repeat(random.random_range(0..3_000)),
            ..Default::default()
        }),
        names: some(random),
        remove: some(random),
        versions: some(random)
            .into_iter()
            .map(|name| (name, random.random_range(0..9u8).to_string()))
            .collect(),
        locators: random.random_bool(0.001),
    }
}

fn give(stream: &mut Stream, variant: Variant, now: Duration, said: Said) -> Result<(), Refused> {
    let locator = || envoy_types::pb::envoy::service::discovery::v3::ResourceLocator::default();
    match variant {
        Variant::Sotw => stream.on_sotw(
            now,
            DiscoveryRequest {
                type_url: said.type_url,
                response_nonce: said.nonce,
                error_detail: said.error,
                resource_names: said.names,
                resource_locators: Vec::from_iter(said.locators.then(locator)),
                ..Default::default()
            },
        ),
        Variant::Delta => stream.on_delta(
            now,
            DeltaDiscoveryRequest {
                type_url: said.type_url,
                response_nonce: said.nonce,
                error_detail: said.error,
                resource_names_subscribe: said.names,
                resource_names_unsubscribe: said.remove,
                initial_resource_versions: said.versions.into_iter().collect(),
                resource_locators_subscribe: Vec::from_iter(said.locators.then(locator)),
                ..Default::default()
            },
        ),
    }
}

/// One stream of random requests up to the one that is refused; gives how many were taken.
fn attack(variant: Variant, seed: u64, pool: &Arc<Pool>) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let bounds = settings();
    let mut stream = Stream::new(variant, bounds, table(0)).sharing(pool.clone());
    let (mut unacked, mut newest) = (BTreeMap::<TypeUrl, u64>::new(), 0);
    for count in 0..300 {
        let now = Duration::from_secs(count as u64);
        if random.random_bool(0.1) {
            stream.on_table(table(random.random_range(0..5)));
        }
        let said = said(&mut random, newest);
        let (asked, answered) = (TypeUrl::from(said.type_url.clone()), said.nonce.clone());
        let refused = give(&mut stream, variant, now, said).is_err();
        for event in stream.events() {
            match event {
                Event::Acked { type_url, nonce, .. } | Event::Nacked { type_url, nonce, .. } => {
                    assert_eq!(
                        unacked.remove(&type_url),
                        Some(nonce),
                        "only what was sent is answered"
                    );
                    assert_eq!((type_url, nonce_text(nonce)), (asked.clone(), answered.clone()));
                }
                Event::Subscribed { names, .. } => assert!(names <= bounds.names, "{names} names"),
                Event::Rejected { resources, .. } => {
                    assert!(resources.iter().all(|each| each.message.len() <= 4096));
                }
                _ => {}
            }
        }
        if refused {
            return count + 1;
        }
        while let Some(response) = stream.poll(now) {
            newest = response.nonce;
            let before = unacked.insert(response.type_url.clone(), response.nonce);
            assert_eq!(before, None, "{}: one un-ACKed response", response.type_url);
        }
        assert!(unacked.len() <= bounds.types);
    }
    300
}

/// A client that asks for all and answers as it should; it must get all.
fn honest(pool: &Arc<Pool>) {
    let mut stream = Stream::new(Variant::Delta, settings(), table(1)).sharing(pool.clone());
    let mut ask = DeltaDiscoveryRequest {
        type_url: FREE.to_string(),
        resource_names_subscribe: (0..20).map(|name| format!("r{name}")).collect(),
        ..Default::default()
    };
    let mut has = BTreeSet::new();
    loop {
        stream.on_delta(Duration::ZERO, std::mem::take(&mut ask)).unwrap();
        let Some(response) = stream.poll(Duration::ZERO) else {
            break;
        };
        has.extend(response.resources.iter().map(|each| each.name.to_string()));
        ask.type_url = FREE.to_string();
        ask.response_nonce = nonce_text(response.nonce);
    }
    assert_eq!(has.len(), 20);
}

#[test]
fn random_requests_break_nothing() {
    let wanted = std::env::var("ARGOSY_RANDOM_REQUESTS").ok();
    let wanted = wanted.map_or(20_000, |text| text.parse().expect("ARGOSY_RANDOM_REQUESTS"));
    let pool = Arc::new(Pool::default());
    let (mut sent, mut seed, mut refused) = (0, 0, 0);
    while sent < wanted {
        for variant in [Variant::Sotw, Variant::Delta] {
            let taken = attack(variant, seed, &pool);
            refused += usize::from(taken < 300);
            sent += taken;
        }
        seed += 1;
    }
    assert!(refused > 0, "the bounds were met");
    honest(&pool);
}

#[test]
fn names_are_bounded_together_however_few_come_at_once() {
    let mut stream = Stream::new(Variant::Delta, settings(), table(0));
    let ask = |url: &TypeUrl, name: usize, length: usize| DeltaDiscoveryRequest {
        type_url: url.to_string(),
        resource_names_subscribe: vec![format!("{name}{}", "x".repeat(length))],
        ..Default::default()
    };
    for (at, url) in [&CLUSTER, &FREE, &FREE].into_iter().enumerate() {
        stream.on_delta(Duration::ZERO, ask(url, at, 1_200)).unwrap();
    }
    let refused = stream.on_delta(Duration::ZERO, ask(&FREE, 4, 500)).unwrap_err();
    assert_eq!(
        refused,
        Refused::TooLongNames {
            type_url: FREE,
            limit: 4_000
        }
    );
    let gone = DeltaDiscoveryRequest {
        type_url: FREE.to_string(),
        resource_names_unsubscribe: vec![format!("2{}", "x".repeat(1_200))],
        ..Default::default()
    };
    stream.on_delta(Duration::ZERO, gone).unwrap();
    assert_eq!(stream.on_delta(Duration::ZERO, ask(&FREE, 4, 500)), Ok(()));
}
