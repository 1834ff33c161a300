//! Generated tables are accepted by a real Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use envoygen::{Output, type_url};
use support::envoy::validate;
use support::{FEATURES, MIXER, SHOP, generator, tables};

/// Checks that Envoy accepts what each node gets.
fn check(texts: &[&str], nodes: &[&str]) {
    let generator = generator(texts);
    for node in nodes {
        validate(&tables(&generator, node));
    }
}

const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";
const CATALOG: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
const EDGE: &str = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";

#[test]
fn the_sample_mesh() {
    check(&[SHOP], &[FRONTEND, CATALOG, EDGE]);
}

#[test]
fn each_feature() {
    check(&[SHOP, FEATURES], &[FRONTEND, CATALOG, EDGE]);
}

#[test]
fn calls_to_mixer() {
    check(&[SHOP, MIXER], &[FRONTEND, CATALOG, EDGE]);
}

#[test]
fn redirected_proxies() {
    let redirected = |output: &Output| output.get(type_url::LISTENER, "virtualInbound").is_some();
    let generator = generator(&[SHOP, FEATURES, MIXER]);
    for mode in [envoygen::Interception::Redirect, envoygen::Interception::Tproxy] {
        let mut proxy =
            envoygen::Proxy::parse("sidecar~127.1.0.30~stock-v1.shop~shop.svc.cluster.local", None).unwrap();
        proxy.interception = Some(mode);
        let output = generator.generate(&envoygen::Scope::of(&proxy, &generator));
        assert!(redirected(&output), "{mode:?}");
        validate(&output);
    }
}
