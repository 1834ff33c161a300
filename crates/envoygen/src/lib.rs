//! Envoy's configuration from the mesh: (snapshot, scope) gives clusters, endpoints, listeners and routes under Istio's names.
//! Pure and deterministic; it knows no proxy's connection, no clock and no file.
//!
//! [`Proxy::parse`] reads who asks, [`Scope::of`] says what its configuration depends on, [`Generator::generate`] gives it.

mod access_log;
mod alpn;
mod authz;
mod cluster;
mod dns;
mod endpoint;
mod extension;
mod family;
mod filter;
mod gateway;
mod generator;
mod hash;
mod inbound;
mod incremental;
mod jwt;
mod l4;
mod lines;
mod listener;
mod mixer;
mod names;
mod outbound;
mod output;
mod patch;
mod proxy;
mod reflect;
mod route;
mod scope;
mod selected;
mod settings;
mod telemetry;
mod topology;
mod view;
mod wire;

pub use family::Families;
pub use generator::Generator;
pub use mixer::{Asks, Enforcement, PortAsks};
pub use output::{Output, Resource, SetAside, type_url};
pub use patch::PatchId;
pub use proxy::{Interception, Proxy, ProxyError, ProxyKind};
pub use reflect::{ReflectError, to_json};
pub use scope::{GatewayTarget, Inbound, Outbound, Scope};
pub use settings::Settings;
pub use topology::Topology;
