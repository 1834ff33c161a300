//! Citadel: the mesh's certificate authority. It authenticates a caller, then signs the caller's key for the caller's
//! SPIFFE id; it is the only holder of the signing key.
//!
//! It knows nothing of configuration other than `identity.yaml`, and nothing of proxies.

pub mod auth;
pub mod ca;
pub mod identity_file;
mod local;
mod meters;
mod reload;
mod run;
mod service;
pub mod token;

pub use local::LocalIssuer;
pub use run::{Args, DEFAULT_ADMIN, DEFAULT_LISTEN, RunError, leaf_ttl, run, serve};
