//! Any bytes as a certificate request of an authenticated caller.

#![no_main]

#[path = "../../crates/citadel/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::csr(bytes));
