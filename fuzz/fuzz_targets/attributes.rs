//! Any bytes as a set of attributes of Istio's Mixer API.

#![no_main]

#[path = "../../crates/mixer/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    invariants::attributes(bytes);
});
