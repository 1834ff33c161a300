//! Walks one request, or one connection, through Envoy's configuration and says what it meets: listener, filter chain, route
//! configuration, virtual host, route, policies, cluster and endpoints. Pure: it knows neither where the configuration came
//! from nor whether anybody listens; `envoygen` generates what it reads, and the CLI adds the objects behind each resource.
//!
//! [`Resources`] holds the configuration, [`Call`] says what is sent, [`Resources::walk`] gives the [`Verdict`].

mod address;
mod call;
mod cluster;
mod http;
mod listener;
mod policy;
mod resources;
mod strings;
mod tcp;
mod tls;
mod verdict;
mod walk;

pub use call::{Call, Entry, Protocol, Tls};
pub use resources::{DecodeError, Resources};
pub use verdict::{Endpoint, Refusal, Resource, Step, Unavailable, Verdict};
