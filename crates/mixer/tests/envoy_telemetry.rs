//! A real Envoy tells Mixer of requests in OpenTelemetry's forms and by its metrics service: its access logger's records are
//! reports, its counters edges of the graph of services.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use common::server::SAMPLE;
use mixer::{Clock, Mixer};
use runtime::grpc::{self, Limits};
use runtime::logging::LogHandle;
use runtime::tls::{self, ClientAuth};
use runtime::{Context, Metrics};
use serde_json::{Value, json};
use testkit::http::Client;
use testkit::net::Block;
use testkit::{Rundir, Spec, envoy, wait};

const BOUND: Duration = Duration::from_secs(30);
const SERVICE: &str = "catalog.shop.svc.cluster.local";

fn any(name: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/envoy.{name}").into();
    value
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn grpc_service(cluster: &str) -> Value {
    json!({"envoy_grpc": {"cluster_name": cluster}, "timeout": "5s"})
}

fn cluster(name: &str, to: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": socket(to)}});
    json!({
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

/// Mixer, as `account`.
fn mixer(account: &str, to: SocketAddr, dir: &Path) -> Value {
    let file = |kind: &str| json!({"filename": dir.join(format!("{account}-{kind}.pem"))});
    let tls = json!({"common_tls_context": {
        "tls_certificates": [{"certificate_chain": file("chain"), "private_key": file("key")}],
        "validation_context": {"trusted_ca": file("root")},
        "alpn_protocols": ["h2"],
    }});
    let upstream = any("extensions.transport_sockets.tls.v3.UpstreamTlsContext", tls);
    let http2 = any(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({"explicit_http_config": {"http2_protocol_options": {}}}),
    );
    let mut cluster = cluster(&format!("mixer-{account}"), to);
    cluster["transport_socket"] = json!({"name": "tls", "typed_config": upstream});
    cluster["typed_extension_protocol_options"] =
        json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2});
    cluster
}

fn access_log() -> Value {
    let attributes = [
        ("request.method", "%REQ(:METHOD)%"),
        ("request.path", "%REQ(:PATH)%"),
        ("request.host", "%REQ(:AUTHORITY)%"),
        ("request.headers.x-user", "%REQ(X-USER)%"),
        ("request.time", "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%"),
        ("response.code", "%RESPONSE_CODE%"),
        ("response.duration", "%DURATION%"),
        ("response.size", "%BYTES_SENT%"),
        ("context.proxy_error_code", "%RESPONSE_FLAGS%"),
        ("context.protocol", "http"),
        ("source.ip", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"),
        ("destination.ip", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ];
    let values: Vec<Value> = attributes
        .iter()
        .map(|(key, text)| json!({"key": key, "value": {"string_value": text}}))
        .collect();
    json!([{"name": "otel", "typed_config": any(
        "extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
        json!({
            "common_config": {
                "log_name": policy::LOG_INBOUND,
                "grpc_service": grpc_service("mixer-catalog"),
                "transport_api_version": "V3",
                "buffer_flush_interval": "0.1s",
            },
            "attributes": {"values": values},
        }),
    )}])
}

fn listener(name: &str, at: SocketAddr, log: &Value, route: &Value) -> Value {
    let router =
        json!({"name": "router", "typed_config": any("extensions.filters.http.router.v3.Router", json!({}))});
    let manager = any(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": name,
            "http_filters": [router],
            "access_log": log,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        }),
    );
    let chain = json!({"filters": [{"name": "http", "typed_config": manager}]});
    json!({"name": name, "address": socket(at), "filter_chains": [chain]})
}

fn bootstrap(block: &Block, dir: &Path, at: SocketAddr) -> Value {
    let outbound = format!("outbound|7080||{SERVICE}");
    let forward = json!({"match": {"prefix": "/"}, "route": {"cluster": outbound}});
    let answer = json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 503, "body": {"inline_string": "closed"}},
    });
    json!({
        "node": {"id": format!("sidecar~{}~catalog-v1.shop~shop.svc.cluster.local", block.ip(21)), "cluster": "catalog"},
        "admin": {"address": socket(block.addr(21, 15000))},
        "stats_flush_interval": "0.2s",
        "stats_sinks": [
            {"name": "metrics", "typed_config": any("config.metrics.v3.MetricsServiceConfig", json!({
                "grpc_service": grpc_service("mixer-frontend"),
                "transport_api_version": "V3",
            }))},
            {"name": "otlp", "typed_config": any("extensions.stat_sinks.open_telemetry.v3.SinkConfig", json!({
                "grpc_service": grpc_service("mixer-catalog"),
                "emit_tags_as_attributes": false,
                "use_tag_extracted_name": false,
            }))},
        ],
        "static_resources": {
            "listeners": [
                listener("in", block.addr(21, 8080), &access_log(), &forward),
                listener("app", block.addr(21, 18080), &json!([]), &answer),
            ],
            "clusters": [
                cluster(&outbound, block.addr(21, 18080)),
                mixer("catalog", at, dir),
                mixer("frontend", at, dir),
            ],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn log_records_are_reports_and_counters_are_edges() {
    let (block, dir, root) = (
        Block::take().unwrap(),
        Rundir::new("mixer").unwrap(),
        common::Root::new(),
    );
    let [rules, services, workloads] = SAMPLE;
    let workloads = workloads.replace("127.1.0.", &block.prefix());
    let mixer = Mixer::new(&mixer::Args::default(), Clock::system(), &Metrics::new());
    mixer.configure(common::state([rules, services, workloads.as_str()]));
    let context = Context::new("mixer", LogHandle::detached(), Duration::from_secs(1));
    let at = block.addr(1, 15004);
    let listener = runtime::bind("--listen", at).await.unwrap();
    let tls = tls::server(&root.identity("argosy-system", "mixer"), ClientAuth::Required).unwrap();
    let (routes, working) = mixer.services(context.shutdown.clone());
    tokio::spawn(working);
    let own = context.clone();
    tokio::spawn(
        async move { grpc::serve("mixer", listener, Some(tls), routes, &Limits::default(), &own).await },
    );
    for account in ["catalog", "frontend"] {
        let svid = root.identity("shop", account).current();
        let write = |kind: &str, text: &str| {
            std::fs::write(dir.path().join(format!("{account}-{kind}.pem")), text).unwrap();
        };
        write("chain", &svid.chain_pem());
        write("key", &svid.key_pem());
        write("root", &svid.roots_pem());
    }
    let config = dir.path().join("envoy.json");
    std::fs::write(&config, bootstrap(&block, dir.path(), at).to_string()).unwrap();
    let spec = Spec::new("envoy", envoy::binary().unwrap(), dir.path())
        .path("--config-path", &config)
        .arg("--disable-hot-restart")
        .flag("--concurrency", 1);
    let mut process = spec.start().unwrap();
    let admin = envoy::Admin::new(block.addr(21, 15000));
    process
        .until("Envoy to be ready", BOUND, async || admin.ready().await)
        .await
        .unwrap();
    for _ in 0..3 {
        let client = Client::default();
        let request = client.get(format!("http://{}/items", block.addr(21, 8080)));
        let response = request.header("host", "catalog:7080").send().await.unwrap();
        assert_eq!(response.status, 503);
    }

    let counted = async || {
        let page = mixer.page();
        let line = |line: &str| {
            line.starts_with("istio_requests_total")
                && line.contains(r#"destination_workload="catalog-v1""#)
                && line.contains(r#"destination_service="catalog.shop.svc.cluster.local""#)
                && line.contains(r#"response_code="503""#)
                && line.ends_with("} 3")
        };
        if page.lines().any(line) { Ok(()) } else { Err(page) }
    };
    wait::until("log records", BOUND, counted).await.unwrap();
    // Who speaks is who the certificate of its stream says: here one Envoy has two. OTLP tells no node, and the account of the
    // catalog has two workloads.
    for workload in ["frontend-v1", "unknown"] {
        let drawn = async || {
            let graph = mixer.graph();
            let edge = |edge: &Value| {
                edge["source"]["workload"] == *workload
                    && edge["service"] == *SERVICE
                    && edge["reporter"] == "source"
                    && edge["requests"] == 3
                    && edge["errors"] == 3
            };
            let found = graph["edges"].as_array().unwrap().iter().any(edge);
            if found { Ok(()) } else { Err(graph.to_string()) }
        };
        wait::until("counters", BOUND, drawn).await.unwrap();
    }
    context.shutdown.cancel();
}
