//! Citadel: the mesh's certificate authority. It authenticates a caller, then signs the caller's key for the caller's
//! SPIFFE id; it is the only holder of the signing key.
//!
//! It knows nothing of configuration other than `identity.yaml`, and nothing of proxies.

mod admin;
pub mod auth;
pub mod ca;
mod credential;
mod current;
pub mod identity_file;
mod keeper;
pub mod kubernetes;
mod limit;
mod local;
mod meters;
mod owed;
mod reload;
mod revoke;
mod run;
mod service;
mod status;
pub mod token;
mod trust;

pub use current::{Current, Trust};
pub use local::LocalIssuer;
pub use run::{
    Args, CALLER_RATE, CERTIFICATE_RENEWAL, Ca, DEFAULT_ADMIN, DEFAULT_LISTEN, ROOT_MAX_AGE, RunError,
    leaf_ttl, root_age, run, run_with, serve, server_name,
};
