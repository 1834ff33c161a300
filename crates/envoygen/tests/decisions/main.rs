//! Real Envoys decide as `authz` says: random policies for many workloads, all in one Envoy, and random requests to each.
//! `ARGOSY_DECISIONS` is how many rounds are run (1 unless given; each takes some seconds), `ARGOSY_SEED` where they begin.
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

mod authorizer;
mod bulletins;
mod cases;
mod certificates;
mod claims;
mod client;
mod features;
mod floods;
mod keys;
mod mesh;
mod normalization;
mod policies;
mod requests;

use std::collections::BTreeMap;

use authz::{PolicySet, Verdict};
use rand::SeedableRng;
use rand::rngs::StdRng;

use client::Answer;
use mesh::Mesh;
use requests::Sent;

/// Workloads in one Envoy, and requests to each.
const WORKLOADS: usize = 24;
const REQUESTS: usize = 25;
/// What MeshConfig may make of paths; seeds take turns.
const NORMALIZATIONS: [&str; 5] = [
    "NONE",
    "DEFAULT",
    "BASE",
    "MERGE_SLASHES",
    "DECODE_AND_MERGE_SLASHES",
];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(otherwise, |text| text.parse().expect(name))
}

/// What a client sees of a verdict.
fn seen(verdict: &Verdict) -> Answer {
    match verdict {
        Verdict::Allowed => Answer::Status(200),
        Verdict::Closed => Answer::Closed,
        Verdict::Malformed => Answer::Status(400),
        Verdict::Unauthorized => Answer::Status(401),
        Verdict::Denied(_) | Verdict::Refused(_) => Answer::Status(403),
    }
}

/// Sends requests to the workloads of a mesh; each must be answered as the policies decide.
fn compare(mesh: &Mesh, requests: impl Fn(usize) -> Vec<Sent>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut audits = Vec::new();
    for workload in 0..mesh.workloads() {
        let set: PolicySet = mesh.set(workload);
        for (number, sent) in requests(workload).into_iter().enumerate() {
            let case = format!("{workload}/{number}");
            let (request, answer) = client::send_as(mesh, workload, &sent, &case);
            let decision = set.decide(&request, &sent.answers);
            if !sent.tcp && !matches!(decision.verdict, Verdict::Closed | Verdict::Malformed) {
                audits.push((case, workload, decision.audited));
            }
            let expected = seen(&decision.verdict);
            *counts.entry(format!("{expected:?}")).or_default() += 1;
            // Envoy answers 403 to a valid token for somebody else's audience.
            let audience = decision.verdict == Verdict::Unauthorized && answer == Answer::Status(403);
            if answer != expected && !audience {
                wrong.push(format!(
                    "Envoy: {answer:?}, decided: {:?} {request:?} {}",
                    decision.verdict,
                    mesh.text(workload)
                ));
            }
        }
    }
    // The log comes late, so that it is read once all has been sent.
    for (case, workload, audited) in audits {
        if mesh.logged(&case).audited == audited.is_empty() {
            wrong.push(format!("{case} audited: {audited:?} {}", mesh.text(workload)));
        }
    }
    let first: Vec<&String> = wrong.iter().take(5).collect();
    assert!(
        wrong.is_empty(),
        "{} of {counts:?} differ, of them {first:#?}",
        wrong.len()
    );
    counts
}

#[test]
fn real_envoys_decide_as_the_policies_say() {
    let seed = number("ARGOSY_SEED", 1);
    for round in 0..number("ARGOSY_DECISIONS", 1) {
        let seed = seed + round;
        let mut random = StdRng::seed_from_u64(seed);
        let documents: Vec<String> = (0..WORKLOADS)
            .map(|at| policies::documents(at, &mut random))
            .collect();
        let normalization = NORMALIZATIONS[seed as usize % NORMALIZATIONS.len()];
        let Some(mesh) = Mesh::start_with(normalization, &documents) else {
            return;
        };
        let requests = |workload: usize| {
            let mut random = StdRng::seed_from_u64(seed * 1000 + workload as u64);
            (0..REQUESTS).map(|_| requests::random(&mut random)).collect()
        };
        let counts = compare(&mesh, requests);
        println!("seed {seed}, {normalization}: {counts:?}");
        // A mesh that always says the same would agree with much.
        for answer in ["Status(200)", "Status(403)", "Status(401)", "Closed"] {
            assert!(
                counts.get(answer).is_some_and(|n| *n > 20),
                "seed {seed}: few {answer}: {counts:?}"
            );
        }
    }
}
