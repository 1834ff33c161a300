//! Mutual TLS and policies: who is let in, and who is trusted to answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

#[path = "../support/mod.rs"]
mod support;

mod authorizers;
mod bulletins;
mod gateways;
#[path = "../invariants/mod.rs"]
mod invariants;
mod policies;
mod tls;

use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use envoygen::Output;
use proptest::prelude::*;
use prost::Message;
use support::{generator, listener, manager, tables};

pub(crate) const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";
pub(crate) const CATALOG: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
pub(crate) const EDGE: &str = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";

/// What the catalog has, and the listener of its port.
pub(crate) fn inbound(texts: &[&str]) -> (Output, Listener) {
    let output = tables(&generator(texts), CATALOG);
    let listener = listener(&output, "127.1.0.21_8080");
    (output, listener)
}

pub(crate) fn http(listener: &Listener) -> HttpConnectionManager {
    manager(&listener.filter_chains[0].filters[0]).unwrap()
}

/// The RBAC filters of the catalog's policies, in order: without the one that refuses ambiguous paths.
pub(crate) fn policies(texts: &[&str]) -> Vec<HttpRbac> {
    let (_, listener) = inbound(texts);
    let filters = http(&listener).http_filters;
    filters
        .iter()
        .filter(|f| f.name == "envoy.filters.http.rbac")
        .map(|f| match &f.config_type {
            Some(http_filter::ConfigType::TypedConfig(any)) => {
                HttpRbac::decode(any.value.as_slice()).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .filter(|f| {
            let mut names = f.rules.iter().flat_map(|rules| rules.policies.keys());
            !names.any(|name| name.starts_with("argosy-"))
        })
        .collect()
}

pub(crate) fn rules(filter: &HttpRbac) -> &Rbac {
    filter.rules.as_ref().unwrap()
}

proptest! {
    #[test]
    fn any_policy_is_compiled_and_asks_for_the_identity_that_it_names(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
        invariants::policy(&bytes);
    }
}
