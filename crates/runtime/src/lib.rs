//! What every service of Argosy stands on: flags, logs, metrics, the admin server, readiness, shutdown, its own
//! SPIFFE identity, and gRPC over mutual TLS.
//!
//! It knows nothing of meshes, proxies or configuration. Nothing here is global except the log subscriber, so that
//! several services can live in one process: each gets a [`Context`] and shares what the process has once.

pub mod admin;
pub mod args;
mod binary;
pub mod context;
pub mod grpc;
pub mod https;
pub mod identity;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod readiness;
pub mod shutdown;
pub mod spiffe;
pub mod tls;

pub use admin::Admin;
pub use binary::{identified_main, prepared_main};
pub use context::{Context, service_main};
pub use identity::{Identity, Svid};
pub use listen::{BindError, bind};
pub use metrics::Metrics;
pub use readiness::{Condition, Readiness};
pub use spiffe::{Peer, SpiffeId, TrustDomain};
