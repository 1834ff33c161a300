//! A whole mesh on this machine: the sample folder, the control plane as one process or as four, each workload's application and
//! agent with a real Envoy. And the scenario that is driven through it, written once: `make demo ONCE=1` prints its rows, the
//! tests of this package assert them.
//!
//! It knows the services by their flags and their wire alone: nothing of theirs is linked in, but the parser of configuration,
//! to learn which workloads the folder has.

mod control;
mod folder;
mod mesh;
pub mod scenario;
mod table;
mod workload;

pub use control::{Layout, Options, Service};
pub use folder::Folder;
pub use mesh::{Call, Mesh, Outcome};
pub use table::{Row, Seen, Table};
