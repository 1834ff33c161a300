//! Any bytes as the files of MeshConfig and MeshNetworks.

#![no_main]

#[path = "../../crates/config/tests/invariants/mod.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::settings(bytes));
