//! A real Envoy answers as `simulate` says: random VirtualServices and DestinationRules, once at a gateway and once at a
//! sidecar, and random requests to each. Route, cluster, endpoint, status, `location`, and path and host as the application
//! sees them must be the same; of connections without requests (TLS by name, bytes by port) the endpoint. `ARGOSY_AGREEMENT` is how many rounds are run (2 unless given; each takes some seconds),
//! `ARGOSY_SEED` where they begin.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

#[path = "../support/mod.rs"]
mod support;

mod answer;
mod connections;
mod objects;
mod requests;
mod world;

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;

use world::{Client, World};

/// Requests to each proxy of a round.
const REQUESTS: usize = 400;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(otherwise, |text| text.parse().expect(name))
}

#[test]
fn a_real_envoy_answers_as_simulated() {
    let first = number("ARGOSY_SEED", 1);
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in first..first + number("ARGOSY_AGREEMENT", 2) {
        let mut random = StdRng::seed_from_u64(seed);
        let world = World::new(&mut random);
        for kind in [world::GATEWAY, world::SIDECAR] {
            let Some(client) = world.client(kind) else { return };
            for (kind, count) in compare(&world, &client, seed, &mut random) {
                *met.entry(kind).or_default() += count;
            }
        }
    }
    // What was never met was not compared.
    for kind in [
        "routed",
        "one of several",
        "redirect",
        "answer",
        "no route",
        "no endpoints",
        "no cluster",
        "rewritten",
    ] {
        assert!(met.contains_key(kind), "{kind} is not among {met:?}");
    }
    println!("{met:?}");
}

#[test]
fn connections_are_taken_as_simulated() {
    let first = number("ARGOSY_SEED", 1);
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in first..first + number("ARGOSY_AGREEMENT", 2) {
        let mut random = StdRng::seed_from_u64(seed);
        let Some(counts) = connections::compare(seed, &mut random) else {
            return;
        };
        for (kind, count) in counts {
            *met.entry(kind).or_default() += count;
        }
    }
    for kind in ["nobody", "by name", "one of several by weight"] {
        assert!(met.contains_key(kind), "{kind} is not among {met:?}");
    }
    println!("{met:?}");
}

/// Sends requests by one proxy; gives how many met what.
fn compare(world: &World, client: &Client, seed: u64, random: &mut StdRng) -> BTreeMap<&'static str, usize> {
    let mut asked = Vec::new();
    for case in 0..REQUESTS {
        let call = requests::random(client, case, random);
        let text = client.send(&call);
        asked.push((case, call, text));
    }
    let logged = client.logged(REQUESTS);
    let (mut counts, mut wrong) = (BTreeMap::new(), Vec::new());
    for (case, call, text) in asked {
        let verdict = client.resources.walk(&call);
        *counts.entry(answer::kind(&verdict, &call)).or_default() += 1;
        let seen = answer::Seen::new(&text, &logged[&case]);
        if let Err(reason) = seen.agrees(&verdict) {
            let line = format!("{reason}: {} {} {}", call.method, call.host, call.path);
            wrong.push((
                line,
                format!("{call:?}\nEnvoy: {seen:?}\nsimulated: {verdict:#?}"),
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "seed {seed}, {}: {} of {REQUESTS} differ: {:#?}\nthe first: {}\n{}",
        client.name,
        wrong.len(),
        wrong.iter().map(|(line, _)| line).collect::<Vec<_>>(),
        wrong[0].1,
        world.text
    );
    counts
}
