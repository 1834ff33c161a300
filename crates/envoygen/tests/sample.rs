//! Whole tables of the sample mesh's proxies, in a few words.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use expect_test::expect;
use support::{SHOP, describe, generator, tables};

#[test]
fn a_sidecar_without_interception() {
    let generator = generator(&[SHOP]);
    let output = tables(
        &generator,
        "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local",
    );
    assert_eq!(output.findings, []);
    expect![[r#"
        cluster BlackHoleCluster STATIC 
        cluster inbound|8080|| STATIC 
        cluster outbound|7080|v1|catalog.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7080|v2|catalog.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7080||catalog.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7080||frontend.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7080||stock.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7090||stock.shop.svc.cluster.local EDS tlsMode-istio
        endpoints outbound|7080|v1|catalog.shop.svc.cluster.local 127.1.0.21:8080
        endpoints outbound|7080|v2|catalog.shop.svc.cluster.local 127.1.0.22:8080
        endpoints outbound|7080||catalog.shop.svc.cluster.local 127.1.0.21:8080,127.1.0.22:8080
        endpoints outbound|7080||frontend.shop.svc.cluster.local 127.1.0.10:8080
        endpoints outbound|7080||stock.shop.svc.cluster.local 127.1.0.30:8080
        endpoints outbound|7090||stock.shop.svc.cluster.local 127.1.0.30:9090
        listener 127.1.0.10_7080 at 127.1.0.10:7080
          chain []: http(grpc_web alpn fault cors router) -> 7080
        listener 127.1.0.10_7090 at 127.1.0.10:7090
          chain []: http(grpc_web alpn fault cors router) -> 7090
        listener 127.1.0.10_8080 at 127.1.0.10:8080
          chain [tls istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2] ends TLS: http(peer header_to_metadata router) -> inline inbound|8080||
          chain [raw_buffer]: http(router) -> inline inbound|8080||
        routes 7080
          host catalog.shop.svc.cluster.local:7080 catalog.shop.svc.cluster.local catalog.shop.svc.cluster.local. catalog catalog.shop.svc catalog.shop
            Prefix("/") x-version -> outbound|7080|v2|catalog.shop.svc.cluster.local
            Prefix("/") -> outbound|7080|v1|catalog.shop.svc.cluster.local=90 outbound|7080|v2|catalog.shop.svc.cluster.local=10
          host frontend.shop.svc.cluster.local:7080 frontend.shop.svc.cluster.local frontend.shop.svc.cluster.local. frontend frontend.shop.svc frontend.shop
            Prefix("/") -> outbound|7080||frontend.shop.svc.cluster.local
          host stock.shop.svc.cluster.local:7080 stock.shop.svc.cluster.local stock.shop.svc.cluster.local. stock stock.shop.svc stock.shop
            Prefix("/") -> outbound|7080||stock.shop.svc.cluster.local
          host block_all *
            Prefix("/") -> answer 502
        routes 7090
          host stock.shop.svc.cluster.local:7090 stock.shop.svc.cluster.local stock.shop.svc.cluster.local. stock stock.shop.svc stock.shop
            Prefix("/") -> outbound|7090||stock.shop.svc.cluster.local
          host block_all *
            Prefix("/") -> answer 502
    "#]].assert_eq(&describe(&output));
}

#[test]
fn a_gateway() {
    let generator = generator(&[SHOP]);
    let output = tables(
        &generator,
        "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local",
    );
    assert_eq!(output.findings, []);
    expect![[r#"
        cluster BlackHoleCluster STATIC 
        cluster outbound|7080|v1|catalog.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7080|v2|catalog.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7080||catalog.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7080||frontend.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7080||stock.shop.svc.cluster.local EDS tlsMode-istio
        cluster outbound|7090||stock.shop.svc.cluster.local EDS tlsMode-istio
        endpoints outbound|7080|v1|catalog.shop.svc.cluster.local 127.1.0.21:8080
        endpoints outbound|7080|v2|catalog.shop.svc.cluster.local 127.1.0.22:8080
        endpoints outbound|7080||catalog.shop.svc.cluster.local 127.1.0.21:8080,127.1.0.22:8080
        endpoints outbound|7080||frontend.shop.svc.cluster.local 127.1.0.10:8080
        endpoints outbound|7080||stock.shop.svc.cluster.local 127.1.0.30:8080
        endpoints outbound|7090||stock.shop.svc.cluster.local 127.1.0.30:9090
        listener 127.1.0.1_8080 at 127.1.0.1:8080
          chain []: http(grpc_web alpn fault cors router) -> http.8080.127.1.0.1
        routes http.8080.127.1.0.1
          host shop.example.com:8080 shop.example.com
            Prefix("/catalog") -> outbound|7080|v1|catalog.shop.svc.cluster.local
            Prefix("/") -> outbound|7080||frontend.shop.svc.cluster.local
    "#]]
    .assert_eq(&describe(&output));
}

#[test]
fn a_server_that_cannot_be_opened_is_told() {
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: late, namespace: istio-system}\n\
                   spec:\n  selector: {istio: ingressgateway}\n  servers:\n  - port: {number: 8080, name: tcp, protocol: TCP}\n    \
                   bind: 127.1.0.1\n    hosts: ['*']\n";
    let output = tables(
        &generator(&[SHOP, gateway]),
        "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local",
    );
    let told: Vec<String> = output.findings.iter().map(ToString::to_string).collect();
    assert!(
        told.iter()
            .any(|line| line.contains("Gateway istio-system/late") && line.contains("conflicts")),
        "{told:?}"
    );
    assert!(!describe(&output).contains("tcp_proxy"));
}
