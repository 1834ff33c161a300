//! The agent beside each workload: gets its certificate, starts and feeds Envoy, and says whether both are well.

pub mod bootstrap;
pub mod envoy;
