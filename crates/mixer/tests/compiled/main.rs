//! Rules that a proxy decides by itself, beside the same rules that it asks Mixer about: two real Envoys, as Pilot configures them, one
//! real Mixer, random rules, and clients with and without an identity get the same answers. `ARGOSY_COMPILED` says how many rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod client;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../../envoygen/tests/compiled/mesh.rs"]
#[allow(dead_code, reason = "shared with envoygen's tests")]
mod mesh;
mod pair;
#[path = "../../../envoygen/tests/compiled/rules.rs"]
mod rules;
#[path = "../../../envoygen/tests/support/mod.rs"]
mod support;
mod tcp;

use std::collections::BTreeMap;

use policy::Ports;
use proptest::strategy::{Strategy, ValueTree};

use client::{Caller, Http};
use mesh::{INBOUND, condition, policies, runner, sent};
use pair::{HTTP, Pair, forced};
use rules::{action, rule};
use support::envoy::Running;

/// Rules in one pair of Envoys.
const BATCH: usize = 60;
/// Requests of each caller for a rule.
const REQUESTS: usize = 2;

/// How many rules are tried.
fn cases() -> usize {
    let given = std::env::var("ARGOSY_COMPILED").ok();
    given.map_or(BATCH, |text| text.parse().expect("ARGOSY_COMPILED"))
}

/// How often a proxy asked Mixer.
fn calls(proxy: &Running) -> usize {
    let page = proxy.page("/stats?filter=upstream_rq_total", "upstream_rq_total");
    let of_mixer = page.lines().filter(|line| line.contains("argosy.check"));
    let counts = of_mixer.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    counts.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_decides_answers_as_one_that_asks() {
    let mut runner = runner();
    let (cases, mut refused, mut passed, mut compiled) = (cases(), 0, 0, 0);
    for batch in 0..cases.div_ceil(BATCH) {
        let mut texts = BTreeMap::new();
        for number in batch * BATCH..cases.min((batch + 1) * BATCH) {
            let condition = condition().new_tree(&mut runner).unwrap().current();
            let (handler, value) = action().new_tree(&mut runner).unwrap().current();
            texts.insert(number, [condition, handler, value]);
        }
        let pair = Pair::of(|pair| {
            let own = |[condition, handler, value]: &[String; 3], number: usize| {
                rule(number, condition, handler, value)
            };
            // What stays with Mixer all the same tells nothing.
            let all: String = texts.iter().map(|(number, text)| own(text, *number)).collect();
            let (rules, echo) = policies(&pair.generator(pair::COMPILED, &all));
            let remote = rules.requirements_at(&echo, INBOUND, Ports::Only(HTTP)).checks;
            let remote: Vec<String> = remote.into_iter().flat_map(|check| check.rules).collect();
            texts.retain(|number, _| !remote.contains(&format!("r{number}.shop")));
            let compiled = texts.iter().map(|(number, text)| own(text, *number)).collect();
            let asked = texts.iter().map(|(number, [condition, handler, value])| {
                rule(*number, &forced(condition), handler, value)
            });
            (compiled, asked.collect())
        });
        let Some(pair) = pair.await else { return };
        compiled += texts.len();
        for caller in Caller::ALL {
            let (mut decides, mut asks) = (
                Http::connect(&pair, pair::COMPILED, caller),
                Http::connect(&pair, pair::ASKED, caller),
            );
            for (number, text) in &texts {
                for _ in 0..REQUESTS {
                    let sent = sent().new_tree(&mut runner).unwrap().current();
                    let (own, other) = (decides.send(&sent, *number), asks.send(&sent, *number));
                    assert_eq!(own, other, "{caller:?} {number} {sent:?}\n{text:?}");
                    refused += usize::from(own.status != 200);
                    passed += usize::from(own.status == 200);
                }
            }
        }
        assert_eq!(calls(&pair.compiled), 0);
        // Each request, and those calls again that a busy machine was too slow for.
        let requests = texts.len() * REQUESTS * Caller::ALL.len();
        assert!(calls(&pair.asked) >= requests, "{requests} requests");
    }
    println!("{compiled} of {cases} rules are compiled; {refused} requests refused, {passed} passed");
    assert!(
        compiled > cases / 3 && refused > compiled / 4 && passed > compiled / 4,
        "{compiled} of {cases} are compiled, {refused} refused, {passed} passed"
    );
}
