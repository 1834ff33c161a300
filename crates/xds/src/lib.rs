//! Envoy's discovery protocol, state of the world and delta: what to send to a client and when, as pure state, and
//! thin servers and clients around it.
//!
//! - [`Table`]: the resources that a client should have, immutable and shared.
//! - [`stream`]: the subscription state of one stream. No transport and no clock: a test drives it without a socket.
//! - [`server`]: the gRPC services over any [`Source`] of tables (Pilot's ADS, Galley's feed, the agent's SDS).
//! - [`client`]: a delta client that reconnects and resumes (for Galley's feed).
//!
//! It does not know what the resources mean, except which clusters wait for which endpoints.

pub mod client;
mod cluster;
mod encode;
pub mod server;
pub mod stream;
pub mod table;
pub mod types;

pub use client::{Client, Update};
pub use server::{Server, Source};
pub use stream::{Event, Rejection};
pub use table::{Resource, Table};
pub use types::TypeUrl;
