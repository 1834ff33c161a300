//! Citadel and a real API server: whose token gets which identity, one authority for all replicas, and roots in each
//! namespace. Citadel has the rights of the chart `base` and no others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests"
)]

mod authority;
mod cluster;
mod revoked;
mod roots;
mod secrets;
#[path = "../support/mod.rs"]
mod support;
mod tokens;
