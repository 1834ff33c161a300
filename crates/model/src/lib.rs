//! The mesh as values: hosts, ports, identities, services, workloads and policies, taken from the user's objects into an
//! immutable [`Snapshot`], and the difference between two of them. It knows nothing of Envoy, of files or of clocks.

mod delegate;
mod destination_rule;
mod diff;
mod export;
mod finding;
pub mod host;
mod identity;
mod policies;
mod protocol;
mod service;
mod service_build;
mod services;
mod snapshot;
mod traffic;
mod virtual_service;
mod workload;
mod workloads;

pub use destination_rule::{DestinationRule, DestinationRules};
pub use diff::{Diff, same_meaning};
pub use export::{ExportTo, selects};
pub use identity::Identity;
pub use policies::{PeerModes, Policies, Policy};
pub use protocol::Protocol;
pub use service::{Endpoint, Health, Port, Registry, Resolution, Service};
pub use services::Services;
pub use snapshot::{DNS_DOMAIN, Snapshot};
pub use traffic::{Gateway, Sidecar};
pub use virtual_service::{MESH_GATEWAY, VirtualService};
pub use workload::{Address, Locality, TLS_MODE_LABEL, Workload};
pub use workloads::Workloads;
