//! The authority itself: its files, its root, what it takes from a request, what it signs.

mod authority;
pub mod csr;
pub mod files;
pub mod folder;
pub mod journal;
mod key;
mod leaf;
mod notes;
mod profile;
pub mod revocation;
pub mod rotation;
mod steps;

pub(crate) use authority::now;
pub use authority::{Authority, AuthorityError};
pub(crate) use folder::is_key_of;
pub use folder::{CERT_FILE, Folder, KEY_FILE};
pub use journal::{Issued, Journal, JournalError};
pub use leaf::{IssueError, Leaf, MAX_LEAF_TTL, Terms, proven};
pub use revocation::{Cut, Entry, Revoked, Serial};
