//! Redirection of a pod's traffic to its proxy: what Istio's `istio-iptables` does, with its flags, marks, chains and order of
//! rules (<https://github.com/istio/istio/tree/master/tools/istio-iptables>).
//!
//! [`rules::rules`] is a pure function of [`Settings`] and an address family; [`iptables`] and [`nftables`] write its result for
//! the two tools, and [`apply`] gives that to them. It knows nothing of Envoy but ports and user.

pub mod apply;
pub mod args;
pub mod iptables;
pub mod nftables;
pub mod routes;
pub mod rule;
pub mod rules;
pub mod settings;

pub use args::Args;
pub use settings::Settings;
