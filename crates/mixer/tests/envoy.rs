//! A real Envoy asks Mixer and reports to it: one proxy's outbound listener in front of another's inbound one, over mutual
//! TLS, with the filters that the sample's rules require. Shows that attributes are where Envoy's messages are read for them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::mesh::MeshConfig;
use feed::State;
use mixer::{Clock, Mixer};
use model::Snapshot;
use policy::{Direction, Headers, QuotaDescriptor, Requirements, Rules, Traffic, WorkloadView};
use runtime::grpc::{self, Limits};
use runtime::logging::LogHandle;
use runtime::tls::{self, ClientAuth};
use runtime::{Context, Metrics};
use serde_json::{Value, json};
use testkit::http::Client;
use testkit::net::Block;
use testkit::{Process, Rundir, Spec, envoy, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BOUND: Duration = Duration::from_secs(30);

/// Operations and keys of the catalog's API, and rules that read them.
const API: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: HTTPAPISpec
metadata: {name: catalog, namespace: shop}
spec:
  patterns:
  - {httpMethod: GET, uriTemplate: "/books/{id}", attributes: {attributes: {api.operation: {stringValue: readBook}}}}
  - {httpMethod: POST, uriTemplate: "/books/{id}", attributes: {attributes: {api.operation: {stringValue: writeBook}}}}
  apiKeys: [{query: token}]
---
apiVersion: config.istio.io/v1alpha2
kind: HTTPAPISpecBinding
metadata: {name: catalog, namespace: shop}
spec: {services: [{name: catalog}], apiSpecs: [{name: catalog}]}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: api, namespace: shop}
spec: {compiledAdapter: listchecker, params: {overrides: [readBook stolen, readBook none], blacklist: true}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: use, namespace: shop}
spec: {compiledTemplate: listentry, params: {value: 'api.operation + " " + (request.api_key | "none")'}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: api, namespace: shop}
spec: {match: 'api.operation != ""', actions: [{handler: api, instances: [use]}]}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: told, namespace: shop}
spec:
  match: request.query_params["told"] != ""
  requestHeaderOperations: [{name: x-told, values: ['request.query_params["told"]']}]
  responseHeaderOperations: [{name: x-told, values: ['request.query_params["told"]']}]
"#;

/// The sample's objects, with addresses of the test's own.
fn state(block: &Block) -> Arc<State> {
    let texts = [
        // Labels of the caller are Mixer's to know, so that the proxy must ask.
        include_str!("../../cli/src/sample/mixer.yaml").replace(
            r#"request.headers["x-user"] == "mallory""#,
            r#"request.headers["x-user"] == "mallory" && source.labels["app"] == "frontend""#,
        ),
        include_str!("../../cli/src/sample/services.yaml").to_owned(),
        include_str!("../../cli/src/sample/workloads.yaml").replace("127.1.0.", &block.prefix()),
        API.to_owned(),
    ];
    common::state(texts.iter().map(String::as_str))
}

fn requirements(state: &State, name: &str, direction: Direction) -> Requirements {
    let (rules, findings) = Rules::build(state.objects.values(), &MeshConfig::default().with_defaults());
    assert!(findings.is_empty(), "{findings:?}");
    let snapshot = Snapshot::build(state.objects.values().cloned());
    let own = WorkloadView::of(&snapshot, snapshot.workloads().get("shop", name).unwrap());
    rules.requirements(
        &own,
        Traffic {
            direction,
            tcp: false,
        },
    )
}

fn any(name: &str, mut value: Value) -> Value {
    value["@type"] = format!("type.googleapis.com/envoy.{name}").into();
    value
}

fn socket(address: std::net::SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn grpc_service(cluster: &str) -> Value {
    json!({"envoy_grpc": {"cluster_name": cluster}, "timeout": "5s"})
}

/// Certificate, key and root of an account, from files.
fn tls_context(dir: &Path, account: &str) -> Value {
    let file = |kind: &str| json!({"filename": dir.join(format!("{account}-{kind}.pem"))});
    json!({
        "tls_certificates": [{"certificate_chain": file("chain"), "private_key": file("key")}],
        "validation_context": {"trusted_ca": file("root")},
        "alpn_protocols": ["h2"],
    })
}

fn plain_cluster(name: &str, to: std::net::SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": socket(to)}});
    json!({
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

/// HTTP/2 over mutual TLS, as `account`.
fn cluster(name: &str, to: std::net::SocketAddr, dir: &Path, account: &str) -> Value {
    let upstream = any(
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        json!({"common_tls_context": tls_context(dir, account)}),
    );
    let http2 = any(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        json!({"explicit_http_config": {"http2_protocol_options": {}}}),
    );
    let mut cluster = plain_cluster(name, to);
    cluster["transport_socket"] = json!({"name": "tls", "typed_config": upstream});
    cluster["typed_extension_protocol_options"] =
        json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2});
    cluster
}

/// The log as `envoygen` makes it.
fn access_log(log_name: &str, cluster: &str, report: &policy::Report) -> Value {
    let peer = json!([{"tag": policy::UPSTREAM_PEER_TAG, "value": "%UPSTREAM_PEER_URI_SAN%"}]);
    json!([{"name": "mixer", "typed_config": any("extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig", json!({
        "common_config": {
            "log_name": log_name,
            "grpc_service": grpc_service(cluster),
            "transport_api_version": "V3",
            "buffer_flush_interval": "0.1s",
            "custom_tags": if log_name == policy::LOG_OUTBOUND { peer } else { json!([]) },
        },
        "additional_request_headers_to_log": report.request_headers,
        "additional_response_headers_to_log": report.response_headers,
    }))}])
}

fn rate_limits(quotas: &[QuotaDescriptor]) -> Value {
    let limits = quotas.iter().map(|quota| {
        let actions = quota.entries.iter().map(|entry| {
            let descriptor = json!({"descriptor_key": entry.key, "text": entry.cel});
            let typed = any("extensions.rate_limit_descriptors.expr.v3.Descriptor", descriptor);
            json!({"extension": {"name": "envoy.rate_limit_descriptors.expr", "typed_config": typed}})
        });
        json!({"actions": actions.collect::<Vec<_>>()})
    });
    limits.collect()
}

fn filters(required: &Requirements) -> Vec<Value> {
    let mut filters: Vec<Value> = required
        .checks
        .iter()
        .map(|check| {
            let Headers::Named(names) = &check.headers else { panic!("all headers") };
            let patterns: Vec<Value> = names.iter().map(|name| json!({"exact": name})).collect();
            let mut service = grpc_service("mixer-catalog");
            let mode = if check.fail_open { policy::FAIL_OPEN } else { policy::FAIL_CLOSED };
            service["initial_metadata"] = json!([{"key": policy::FAILURE_MODE_METADATA, "value": mode}]);
            let config = json!({
                "grpc_service": service,
                "transport_api_version": "V3",
                "failure_mode_allow": check.fail_open,
                "allowed_headers": {"patterns": patterns},
                "include_tls_session": true,
            });
            json!({"name": "authz", "typed_config": any("extensions.filters.http.ext_authz.v3.ExtAuthz", config)})
        })
        .collect();
    let limit = json!({
        "domain": policy::RATE_LIMIT_DOMAIN,
        "failure_mode_deny": true,
        "timeout": "5s",
        "rate_limit_service": {"grpc_service": grpc_service("mixer-catalog"), "transport_api_version": "V3"},
    });
    filters.push(json!({"name": "limit", "typed_config": any("extensions.filters.http.ratelimit.v3.RateLimit", limit)}));
    filters.push(router());
    filters
}

fn router() -> Value {
    json!({"name": "router", "typed_config": any("extensions.filters.http.router.v3.Router", json!({}))})
}

fn listener(name: &str, at: std::net::SocketAddr, manager: Value, tls: Option<Value>) -> Value {
    let manager = any(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        manager,
    );
    let mut chain = json!({"filters": [{"name": "http", "typed_config": manager}]});
    if let Some(tls) = tls {
        chain["transport_socket"] = json!({"name": "tls", "typed_config": any(
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            json!({"common_tls_context": tls, "require_client_certificate": true}),
        )});
    }
    json!({"name": name, "address": socket(at), "filter_chains": [chain]})
}

fn bootstrap(block: &Block, dir: &Path, mixer: std::net::SocketAddr, state: &State) -> Value {
    let inbound = requirements(state, "catalog-v1", Direction::Inbound);
    let outbound = requirements(state, "frontend-v1", Direction::Outbound);
    // The rate limit filter leaves routes with a direct response alone, so the application is a listener of its own.
    let app = json!({
        "stat_prefix": "app",
        "http_filters": [router()],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}},
        ]}]},
    });
    let to_app = json!({"match": {"prefix": "/"}, "route": {"cluster": "inbound|8080||"}});
    let catalog = json!({
        "stat_prefix": "inbound",
        "http_filters": filters(&inbound),
        "access_log": access_log(policy::LOG_INBOUND, "mixer-catalog", &inbound.report.unwrap()),
        "route_config": {"virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [to_app], "rate_limits": rate_limits(&inbound.quotas)},
        ]},
    });
    let service = "outbound|7080||catalog.shop.svc.cluster.local";
    let frontend = json!({
        "stat_prefix": "outbound",
        "http_filters": [router()],
        "access_log": access_log(policy::LOG_OUTBOUND, "mixer-frontend", &outbound.report.unwrap()),
        "route_config": {"virtual_hosts": [
            {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": service}}]},
        ]},
    });
    let mut upstream = cluster(service, block.addr(21, 8080), dir, "frontend");
    upstream["upstream_bind_config"] =
        json!({"source_address": {"address": block.ip(10).to_string(), "port_value": 0}});
    json!({
        "node": {"id": format!("sidecar~{}~catalog-v1.shop~shop.svc.cluster.local", block.ip(21)), "cluster": "catalog"},
        "admin": {"address": socket(block.addr(21, 15000))},
        "static_resources": {
            "listeners": [
                listener("catalog", block.addr(21, 8080), catalog, Some(tls_context(dir, "catalog"))),
                listener("app", block.addr(21, 18080), app, None),
                listener("frontend", block.addr(10, 7080), frontend, None),
            ],
            "clusters": [
                upstream,
                plain_cluster("inbound|8080||", block.addr(21, 18080)),
                cluster("mixer-catalog", mixer, dir, "catalog"),
                cluster("mixer-frontend", mixer, dir, "frontend"),
            ],
        },
    })
}

/// Mixer and Envoy, running.
struct Mesh {
    block: Block,
    mixer: Mixer,
    context: Context,
    _envoy: Process,
    _dir: Rundir,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

impl Mesh {
    async fn start() -> Self {
        let (block, dir, root) = (
            Block::take().unwrap(),
            Rundir::new("mixer").unwrap(),
            common::Root::new(),
        );
        let mixer = Mixer::new(&mixer::Args::default(), Clock::system(), &Metrics::new());
        let objects = state(&block);
        mixer.configure(objects.clone());
        let context = Context::new("mixer", LogHandle::detached(), Duration::from_secs(1));
        let listener = runtime::bind("--listen", block.addr(1, 15004)).await.unwrap();
        let tls = tls::server(&root.identity("argosy-system", "mixer"), ClientAuth::Required).unwrap();
        let (routes, working) = mixer.services(context.shutdown.clone());
        tokio::spawn(working);
        let own = context.clone();
        tokio::spawn(async move {
            grpc::serve("mixer", listener, Some(tls), routes, &Limits::default(), &own).await
        });

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
        let bootstrap = bootstrap(&block, dir.path(), block.addr(1, 15004), &objects);
        std::fs::write(&config, bootstrap.to_string()).unwrap();
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
        Self {
            block,
            mixer,
            context,
            _envoy: process,
            _dir: dir,
        }
    }

    /// Calls the catalog through the frontend's proxy.
    async fn call(&self, path: &str, user: Option<&str>) -> (u16, String) {
        let client = Client::default();
        let request = client
            .get(format!("http://{}{path}", self.block.addr(10, 7080)))
            .header("host", "catalog:7080");
        let request = match user {
            Some(user) => request.header("x-user", user),
            None => request,
        };
        let response = request.send().await.unwrap();
        (response.status, response.text())
    }

    /// Sends a request's head as it is, and gives the head of the answer.
    async fn raw(&self, head: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.block.addr(10, 7080)).await.unwrap();
        stream.write_all(head).await.unwrap();
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = tokio::time::timeout(BOUND, stream.read_buf(&mut answer)).await;
            assert!(read.unwrap().unwrap() > 0, "{}", String::from_utf8_lossy(&answer));
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn counted(&self, labels: &[&str], value: u64) {
        let look = async || {
            let page = self.mixer.page();
            let found = page.lines().any(|line| {
                labels.iter().all(|label| line.contains(label)) && line.ends_with(&format!("}} {value}"))
            });
            if found { Ok(()) } else { Err(page) }
        };
        wait::until("reports", BOUND, look).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_envoy_is_answered_and_its_reports_are_understood() {
    let mesh = Mesh::start().await;
    assert_eq!(mesh.call("/items", Some("jason")).await, (200, "hello".into()));
    assert_eq!(mesh.call("/items", None).await.0, 200);
    let refused = "PERMISSION_DENIED:doorman.istio-system:mallory is not welcome here";
    assert_eq!(mesh.call("/items", Some("mallory")).await, (403, refused.into()));

    let listed = |entry: &str| (403, format!("PERMISSION_DENIED:api.shop:{entry} is blacklisted"));
    assert_eq!(mesh.call("/books/7", None).await, listed("readBook none"));
    assert_eq!(
        mesh.call("/books/7?token=stolen", None).await,
        listed("readBook stolen")
    );
    assert_eq!(mesh.call("/books/7?token=bought", None).await.0, 200);

    for _ in 0..5 {
        assert_eq!(mesh.call("/limited", Some("jason")).await.0, 200);
    }
    let exhausted = "RESOURCE_EXHAUSTED:Quota is exhausted for: catalogquota";
    assert_eq!(
        mesh.call("/limited", Some("jason")).await,
        (429, exhausted.into())
    );
    assert_eq!(mesh.call("/limited", Some("anna")).await.0, 200);
    // Who names no user shares one quota: an absent header does not get a request past it.
    for _ in 0..5 {
        assert_eq!(mesh.call("/limited", None).await.0, 200);
    }
    assert_eq!(mesh.call("/limited", None).await.0, 429);
    let back = async || match mesh.call("/limited", Some("jason")).await.0 {
        200 => Ok(()),
        status => Err(status),
    };
    wait::until("the quota to come back", BOUND, back).await.unwrap();

    let inbound = [
        "reporter=\"destination\"",
        "source_workload=\"frontend-v1\"",
        "source_principal=\"cluster.local/ns/shop/sa/frontend\"",
        "destination_workload=\"catalog-v1\"",
        "destination_principal=\"cluster.local/ns/shop/sa/catalog\"",
        "destination_service=\"catalog.shop.svc.cluster.local\"",
        "request_protocol=\"http\"",
        "connection_security_policy=\"mutual_tls\"",
        "response_code=\"403\"",
    ];
    mesh.counted(&inbound, 3).await;
    let outbound = [
        "reporter=\"source\"",
        "source_workload=\"frontend-v1\"",
        "destination_workload=\"catalog-v1\"",
        "destination_principal=\"cluster.local/ns/shop/sa/catalog\"",
        "destination_service=\"catalog.shop.svc.cluster.local\"",
        "response_code=\"403\"",
    ];
    mesh.counted(&outbound, 3).await;
}

/// What a client writes into its request becomes no header of its own making.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_cannot_add_headers_to_the_answer() {
    let mesh = Mesh::start().await;
    let answer = async |told: &str| {
        let head = format!("GET /items?told={told} HTTP/1.1\r\nhost: catalog:7080\r\n\r\n");
        mesh.raw(head.as_bytes()).await
    };
    let fine = answer("so").await;
    assert!(
        fine.starts_with("HTTP/1.1 200") && fine.contains("x-told: so\r\n"),
        "{fine}"
    );
    let split = answer("b%0d%0aset-cookie:%20evil=1").await;
    assert!(
        split.starts_with("HTTP/1.1 200") && !split.contains("evil") && !split.contains("x-told"),
        "{split}"
    );
}

/// Envoy gives the rate limit service headers' bytes as they came: one that is no text must not get a request past it.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_values_that_are_no_text() {
    let mesh = Mesh::start().await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let head = b"GET /limited HTTP/1.1\r\nhost: catalog:7080\r\nx-user: \xff\xfe\r\n\r\n";
        let answer = mesh.raw(head).await;
        seen.push(answer.split(' ').nth(1).unwrap().to_owned());
    }
    assert_eq!(seen, ["200", "200", "200", "200", "200", "429"]);
}
