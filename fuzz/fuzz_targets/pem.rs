//! Any bytes as PEM of roots and of revocation lists.

#![no_main]

#[path = "../../crates/citadel/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::pem(bytes));
