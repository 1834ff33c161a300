//! Any bytes as a SPIFFE id.

#![no_main]

#[path = "../../crates/citadel/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::spiffe_id(bytes));
