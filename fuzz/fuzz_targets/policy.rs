//! Any bytes as choices that make an AuthorizationPolicy and a request.

#![no_main]

#[path = "../../crates/envoygen/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::policy(bytes));
