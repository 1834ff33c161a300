//! The subscription state, step by step: what is sent when, as text.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod again;
mod bounds;
mod coalesce;
mod drain;
mod first;
mod names;
mod order;
mod rejected;
mod script;
