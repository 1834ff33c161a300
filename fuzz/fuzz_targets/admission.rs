//! Any bytes as an AdmissionReview.

#![no_main]

#[path = "../../crates/galley/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::review(bytes));
