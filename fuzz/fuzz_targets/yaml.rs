//! Any bytes as a file of configuration, in YAML or JSON.

#![no_main]

#[path = "../../crates/config/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::file(bytes));
