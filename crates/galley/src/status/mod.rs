//! What became of an object: how many proxies have it, what is wrong with it. Collected from Pilots, written into the
//! object's `.status` by one Galley of several.
//!
//! It does not decide what is wrong (that is `config` and `analysis`) nor what proxies need (that is Pilot).

pub mod election;
pub mod lease;
pub mod plan;
pub mod progress;
pub mod reports;
pub mod wanted;
