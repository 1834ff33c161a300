//! Envoy as a child process: how it is called, started, watched, drained and ended, and what it says of itself.
//!
//! Nothing here knows what configuration Envoy will get, beyond the file of its bootstrap.

pub mod admin;
pub mod command;
pub mod diagnose;
pub mod guard;
pub mod process;
pub mod restarts;
pub mod supervise;

pub use admin::AdminClient;
pub use command::Options;
pub use supervise::{Leave, State, Supervisor};
