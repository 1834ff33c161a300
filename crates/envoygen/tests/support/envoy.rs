//! A real Envoy that says whether it accepts tables: turned into a static bootstrap, they must pass `--mode validate`. It is
//! taken from `ENVOY_BIN` or the development tools' cache; in CI (`CI` set) it must be there.

#![allow(clippy::disallowed_methods, reason = "it starts Envoys")]

use std::path::PathBuf;
use std::process::Command;

use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, bootstrap::StaticResources};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType,
};
use envoy_types::pb::envoy::config::core::v3::{Address, Node, Pipe, address};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::util::pack_any;
use envoygen::{Output, type_url};
use prost::Message;

use super::routes;

/// The Envoy to try with.
fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY_BIN").map(PathBuf::from);
    let cache = || {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
        let tools = std::fs::read_dir(cache.join("argosy/tools")).ok()?;
        let mut found = tools
            .flatten()
            .map(|entry| entry.path())
            .filter(|p| p.to_string_lossy().contains("envoy"));
        found.find_map(|path| {
            if path.is_file() {
                Some(path)
            } else {
                Some(path.join("envoy")).filter(|p| p.is_file())
            }
        })
    };
    let found = named.filter(|path| path.is_file()).or_else(cache);
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "CI must have an Envoy: set ENVOY_BIN"
    );
    found
}

/// The tables as a bootstrap without any control plane.
fn bootstrap(output: &Output) -> Bootstrap {
    let decode = |url| output.of_type(url).map(|r| r.bytes.clone()).collect::<Vec<_>>();
    let mut clusters: Vec<Cluster> = decode(type_url::CLUSTER)
        .into_iter()
        .map(|b| Cluster::decode(b).unwrap())
        .collect();
    for cluster in &mut clusters {
        if cluster.eds_cluster_config.take().is_some() {
            let set = output.get(type_url::ENDPOINTS, &cluster.name).unwrap();
            cluster.load_assignment = Some(ClusterLoadAssignment::decode(set.bytes.clone()).unwrap());
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
        }
    }
    clusters.push(agent());
    let mut listeners: Vec<Listener> = decode(type_url::LISTENER)
        .into_iter()
        .map(|b| Listener::decode(b).unwrap())
        .collect();
    for listener in &mut listeners {
        let chains = listener
            .filter_chains
            .iter_mut()
            .chain(&mut listener.default_filter_chain);
        chains
            .flat_map(|chain| &mut chain.filters)
            .for_each(|filter| inline_routes(filter, output));
    }
    Bootstrap {
        node: Some(Node {
            id: "test".into(),
            cluster: "test".into(),
            ..Default::default()
        }),
        static_resources: Some(StaticResources {
            clusters,
            listeners,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The agent's socket, which serves secrets.
fn agent() -> Cluster {
    let pipe = Address {
        address: Some(address::Address::Pipe(Pipe {
            path: "/tmp/agent.sock".into(),
            mode: 0,
        })),
    };
    let endpoint = Endpoint {
        address: Some(pipe),
        ..Default::default()
    };
    let only = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let locality = LocalityLbEndpoints {
        lb_endpoints: vec![only],
        ..Default::default()
    };
    Cluster {
        name: "sds-grpc".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: "sds-grpc".into(),
            endpoints: vec![locality],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn inline_routes(filter: &mut Filter, output: &Output) {
    let Some(mut manager): Option<HttpConnectionManager> = super::manager(filter) else {
        return;
    };
    if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
        let found: RouteConfiguration = routes(output, &rds.route_config_name);
        manager.route_specifier = Some(RouteSpecifier::RouteConfig(found));
        filter.config_type = Some(ConfigType::TypedConfig(pack_any(manager)));
    }
}

/// Checks that Envoy accepts the tables.
pub(crate) fn validate(output: &Output) {
    let Some(envoy) = envoy() else {
        eprintln!("skipped: no Envoy here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.pb");
    std::fs::write(&file, bootstrap(output).encode_to_vec()).unwrap();
    let seen = Command::new(&envoy)
        .args([
            "--mode",
            "validate",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "-c",
        ])
        .arg(&file)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&seen.stderr);
    assert!(seen.status.success(), "{log}");
}
