//! DNS for the pod's application: names of the mesh are answered here, all else by the machine's own servers. Requests come by
//! redirection (`ISTIO_META_DNS_CAPTURE`), or from applications that name the agent as their server.
//!
//! [`names`] knows what names mean and [`answer`] what messages look like (both pure), [`follow`] has the names from Pilot,
//! [`server`] the sockets.

pub mod answer;
pub mod follow;
pub mod names;
pub mod server;

pub use names::Names;

/// Where requests are redirected to (Istio's port).
pub const PORT: u16 = 15053;
