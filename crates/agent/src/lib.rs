//! The agent beside each workload: gets the workload's certificate, starts and feeds Envoy, and says whether both
//! are well.
//!
//! It knows Envoy's bootstrap, its process and its Unix socket. It does not know what configuration Pilot sends: those
//! bytes pass through.

mod args;
pub mod bootstrap;
mod calm;
pub mod credentials;
pub mod dns;
pub mod envoy;
pub mod forward;
pub mod lookup;
pub mod pod;
mod ports;
mod process_main;
pub mod redirect;
mod run;
pub mod sds;
pub mod secrets;
pub mod socket;
pub mod state_dir;
pub mod status;
pub mod workload;

pub use args::{Args, EnvoyArgs, EnvoyLog, PodArgs, PortArgs};
pub use process_main::main;
pub use run::run;
