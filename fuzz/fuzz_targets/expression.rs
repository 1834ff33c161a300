//! Any bytes as an expression of Mixer's rules, in both languages.

#![no_main]

#[path = "../../crates/expr/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::expression(bytes));
