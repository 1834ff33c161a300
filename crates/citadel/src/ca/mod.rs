//! The authority itself: its files, its root, what it takes from a request, what it signs.

pub mod csr;
pub mod files;
mod key;
mod leaf;
mod profile;
mod root;

pub use leaf::{IssueError, Leaf, MAX_LEAF_TTL};
pub(crate) use root::now;
pub use root::{CERT_FILE, KEY_FILE, Root, RootError};
