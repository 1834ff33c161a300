//! networking.istio.io: traffic routing, its destinations, the edges and the mesh's external services.
//! Field names and meanings are those of Istio's API reference. Knows no rule across fields: `validate` does.
#![allow(
    missing_docs,
    reason = "fields are named and described by Istio's API reference; only the unobvious is noted"
)]

mod allocated;
mod destination_rule;
mod envoy_filter;
mod gateway;
mod load_balancer;
mod proxy_config;
mod service_entry;
mod sidecar;
mod string_match;
mod virtual_service;
mod workload;
mod workload_group;

pub(crate) use allocated::annotate as annotate_allocated;
pub use allocated::{ALLOCATED_ADDRESSES, allocated_addresses};
pub use destination_rule::*;
pub use envoy_filter::*;
pub use gateway::*;
pub use load_balancer::*;
pub use proxy_config::*;
pub use service_entry::*;
pub use sidecar::*;
pub use string_match::*;
pub use virtual_service::*;
pub use workload::*;
pub use workload_group::*;
