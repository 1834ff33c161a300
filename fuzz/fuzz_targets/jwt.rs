//! Any bytes as a caller's token.

#![no_main]

#[path = "../../crates/citadel/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::jwt(bytes));
