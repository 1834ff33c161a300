//! Mixer: decides policy and quota, and receives telemetry, by the rules of `config.istio.io`. Envoy asks it by ext_authz v3
//! and the rate limit service v3, and reports by the access log service v3.
//!
//! Rules and workloads come from Galley's feed; what a rule means is `policy`'s. Mixer knows no Kubernetes and no files.
//!
//! Failures: a rule whose `match` meets an absent attribute does not apply (as in Istio); one whose `match` meets malformed
//! values refuses the request. A check that cannot be decided (no configuration yet, a caller whose workload the feed does
//! not have) is answered UNAVAILABLE: Envoy retries, and then does what the rule's failure mode says. Reports that cannot be
//! evaluated or kept are dropped and counted.

mod adapters;
mod args;
mod attributes;
mod circuit;
mod clock;
mod configuration;
mod engine;
mod frontends;
mod graph;
#[doc(hidden)]
pub mod inside;
mod mesh;
mod meters;
mod pace;
mod pages;
mod policies;
mod prometheus;
#[cfg(test)]
mod properties;
mod redis;
mod reports;
mod service;
#[cfg(test)]
mod testing;
mod wire;

pub use args::Args;
pub use clock::Clock;
pub use service::{Error, Mixer, run};
