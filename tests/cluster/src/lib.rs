//! Argosy's charts, and Argosy in a real cluster: what their tests need.
//!
//! Commands are run as an operator runs them (`helm`, `kubectl`); what a cluster is made of is `scripts/cluster`'s business.

pub mod cluster;
pub mod helm;
pub mod page;

use std::path::{Path, PathBuf};

/// The repository's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
