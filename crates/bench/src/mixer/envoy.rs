//! An Envoy with a listener for each thing that is compared, which answers requests by itself.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use runtime::Svid;
use serde_json::{Value, json};

use super::rules::NODE;
use crate::server::{free_port, get};

const START: Duration = Duration::from_secs(60);

/// A running Envoy; it ends with the value.
pub(super) struct Envoy {
    child: Child,
    admin: SocketAddr,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A listener and its filters before the router.
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) at: SocketAddr,
    pub(super) filters: Vec<Value>,
}

impl Envoy {
    /// Starts one whose clusters `mixer` and `yes` lead to these addresses, with a workload's identity.
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        svid: &Svid,
        clusters: [(&str, SocketAddr); 2],
        variants: &[Variant],
    ) -> anyhow::Result<Self> {
        let files = [
            ("chain", svid.chain_pem()),
            ("key", svid.key_pem().to_string()),
            ("root", svid.roots_pem()),
        ];
        for (kind, text) in files {
            std::fs::write(folder.join(kind), text)?;
        }
        let admin = free_port()?;
        let config = json!({
            "node": {"id": NODE, "cluster": "catalog"},
            "admin": {"address": socket(admin)},
            "static_resources": {
                "listeners": variants.iter().map(listener).collect::<Vec<_>>(),
                "clusters": clusters.map(|(name, to)| cluster(name, to, folder)),
            },
        });
        let file = folder.join("envoy.json");
        std::fs::write(&file, config.to_string())?;
        let log = std::fs::File::create(folder.join("envoy.log"))?;
        let child = Command::new(binary)
            .args([
                "--disable-hot-restart",
                "--concurrency",
                "2",
                "--log-level",
                "warning",
                "-c",
            ])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}; give --envoy or ENVOY_BIN", binary.display()))?;
        let mut envoy = Self { child, admin };
        let end = Instant::now() + START;
        while !get(admin, "/ready").is_ok_and(|page| page.contains("LIVE")) {
            let ended = envoy.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let log = std::fs::read_to_string(folder.join("envoy.log")).unwrap_or_default();
                anyhow::bail!("Envoy did not start: {ended:?} {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(envoy)
    }

    /// A counter of Envoy's.
    pub(super) fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let page = get(self.admin, &format!("/stats?filter=^{name}$"))?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(line
            .and_then(|count| count.trim().parse().ok())
            .unwrap_or_default())
    }
}

fn any(name: &str, mut value: Value) -> Value {
    if let Value::Object(fields) = &mut value {
        fields.insert(
            "@type".to_owned(),
            format!("type.googleapis.com/envoy.extensions.{name}").into(),
        );
    }
    value
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// A cluster over mutual TLS.
fn cluster(name: &str, to: SocketAddr, folder: &Path) -> Value {
    let file = |kind: &str| json!({"filename": folder.join(kind)});
    let context = json!({"common_tls_context": {
        "tls_certificates": [{"certificate_chain": file("chain"), "private_key": file("key")}],
        "validation_context": {"trusted_ca": file("root")},
        "alpn_protocols": ["h2"],
    }});
    let http2 = json!({"explicit_http_config": {"http2_protocol_options": {}}});
    json!({
        "name": name,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(to)}}]}]},
        "transport_socket": {"name": "tls", "typed_config": any("transport_sockets.tls.v3.UpstreamTlsContext", context)},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any("upstreams.http.v3.HttpProtocolOptions", http2),
        },
    })
}

/// The call as Pilot configures it.
pub(super) fn asks(cluster: &str) -> Vec<Value> {
    let config = json!({
        "grpc_service": {
            "envoy_grpc": {"cluster_name": cluster},
            "timeout": "5s",
            "initial_metadata": [{"key": policy::FAILURE_MODE_METADATA, "value": policy::FAIL_CLOSED}],
        },
        "transport_api_version": "V3",
        "include_tls_session": true,
        "stat_prefix": cluster,
        "allowed_headers": {"patterns": [{"exact": ":authority"}, {"exact": "x-user"}]},
    });
    vec![json!({"name": "authz", "typed_config": any("filters.http.ext_authz.v3.ExtAuthz", config)})]
}

/// A denier by a header, as Pilot compiles it: the header's values are joined, and then RBAC decides.
pub(super) fn compiled() -> Vec<Value> {
    let joined = json!({"mutations": {"request_mutations": [{"append": {
        "header": {"key": "x-user", "value": "%CEL(request.headers['x-user'])%"},
        "append_action": "OVERWRITE_IF_EXISTS",
        "keep_empty_value": true,
    }}]}});
    let test = json!({"header": {"name": "x-user", "string_match": {"exact": "mallory"}}});
    let policy = json!({"permissions": [{"any": true}], "principals": [test]});
    let rules = json!({"rules": {"action": "DENY", "policies": {"mixer-000000-deny.shop": policy}}});
    vec![
        json!({"name": "joined", "typed_config": any("filters.http.header_mutation.v3.HeaderMutation", joined)}),
        json!({"name": "rbac", "typed_config": any("filters.http.rbac.v3.RBAC", rules)}),
    ]
}

fn listener(variant: &Variant) -> Value {
    let mut filters = variant.filters.clone();
    filters.push(json!({"name": "router", "typed_config": any("filters.http.router.v3.Router", json!({}))}));
    let manager = json!({
        "stat_prefix": variant.name,
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}},
        ]}]},
    });
    let manager = any(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        manager,
    );
    json!({
        "name": variant.name,
        "address": socket(variant.at),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    })
}
