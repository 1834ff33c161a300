//! Any bytes as choices that make an object of any kind: structured by the kind's schema.

#![no_main]

#[path = "../../crates/config/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::object(bytes));
