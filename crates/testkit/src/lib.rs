//! What tests need to run the real parts: processes that are watched, bounded waiting on conditions, loopback
//! addresses that no other test uses, a real Envoy and its admin interface, a real Kubernetes API, Redis, Prometheus and OpenTelemetry Collector, an
//! HTTP client, load, ends of TLS.
//!
//! It knows nothing of Argosy's services: which flags they take is for the tests to say. Errors are `anyhow`: they are
//! read by people, in a test's output, and nobody branches on them. Nothing here sleeps for a fixed time to wait
//! for something to have happened.

pub mod bins;
pub mod collector;
pub mod envoy;
mod fetch;
pub mod files;
pub mod http;
pub mod kubernetes;
pub mod load;
pub mod mixer_client;
pub mod net;
pub mod process;
pub mod prometheus;
mod reaper;
pub mod redis;
pub mod rundir;
pub mod tls;
pub mod wait;

pub use process::{Process, Spec};
pub use rundir::Rundir;
