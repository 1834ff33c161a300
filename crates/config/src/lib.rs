//! The mesh's configuration: the kinds of Istio's API (and of Kubernetes', as far as the mesh reads them) as Rust types,
//! how they are read from YAML and JSON, and the rules that one object must keep.
//!
//! Pure: text and values in, objects and [`Finding`]s out. Knows nothing of files, of the network, of Envoy, nor of what
//! several objects mean together (that is `model` and `analysis`).

pub mod adapters;
mod api;
mod cel;
mod clip;
pub mod crd;
mod decode;
pub mod descriptor;
mod duration;
pub mod extensions;
mod finding;
mod foreign;
pub mod grpc_status;
pub mod jwks;
mod kind;
pub mod kube;
pub mod legacy;
pub mod mesh;
mod meta;
pub mod mixer;
pub mod networking;
mod object;
mod options;
mod owner;
mod parse;
mod path;
mod places;
mod protocol;
pub mod rule;
pub mod security;
pub mod selector;
mod spec;
pub mod spiffe;
mod status;
mod structure;
mod syntax;
pub mod telemetry;
pub mod templates;
pub mod unserved;
mod validate;
mod wire;
mod yaml;

pub use decode::decode;
pub use duration::{Duration, DurationError};
pub use finding::{Finding, Origin, Severity};
pub use kind::{Kind, Scope};
pub use object::{Meta, Object, ObjectKey};
pub use options::Options;
pub use owner::Owner;
pub use parse::{Parsed, parse, parse_mesh_config, parse_mesh_networks, parse_with, read};
pub use places::Places;
pub use protocol::Protocol;
pub use spec::Spec;
pub use status::{Condition, Status};
pub use wire::{Wire, WireError};
pub use yaml::Limits;
