//! Any bytes as JSON that an API server sends.

#![no_main]

#[path = "../../crates/config/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::json(bytes));
