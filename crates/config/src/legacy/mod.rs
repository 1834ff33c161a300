//! Kinds of Istio 1.4 that later ones replaced: authentication.istio.io and rbac.istio.io.
#![allow(
    missing_docs,
    reason = "fields are named and described by Istio 1.4's API reference; only the unobvious is noted"
)]

mod authentication;
mod rbac;
mod translate;

pub use authentication::*;
pub use rbac::*;
pub use translate::{ANNOTATION, Mesh, is_translated, translate};
