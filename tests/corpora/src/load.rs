//! Loads one proxy's resources into a real Envoy that only checks them (`--mode validate`): what it refuses here it would
//! NACK. Route configurations and endpoints are put where they are named, for there is no control plane.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, bootstrap::StaticResources};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::util::pack_any;
use prost::Message;

/// The cluster of the agent's secrets, which each bootstrap has.
const SDS: &str = "sds-grpc";

/// The Envoy to check with: `ENVOY_BIN`, else the pinned version, fetched when missing.
pub(crate) fn envoy() -> anyhow::Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/fetch-envoy");
    let output = Command::new(&script)
        .output()
        .with_context(|| format!("cannot run {}", script.display()))?;
    if !output.status.success() {
        bail!("no Envoy: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Resources of one proxy.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    clusters: BTreeMap<String, Cluster>,
    endpoints: BTreeMap<String, ClusterLoadAssignment>,
    routes: BTreeMap<String, RouteConfiguration>,
    listeners: Vec<Listener>,
}

impl Loaded {
    /// Adds an encoded resource; other types are passed over.
    pub(crate) fn add(&mut self, type_url: &str, bytes: &[u8]) -> anyhow::Result<()> {
        match type_url.rsplit('.').next().unwrap_or_default() {
            "Cluster" => {
                let cluster = Cluster::decode(bytes)?;
                self.clusters.insert(cluster.name.clone(), cluster);
            }
            "ClusterLoadAssignment" => {
                let set = ClusterLoadAssignment::decode(bytes)?;
                self.endpoints.insert(set.cluster_name.clone(), set);
            }
            "RouteConfiguration" => {
                let routes = RouteConfiguration::decode(bytes)?;
                self.routes.insert(routes.name.clone(), routes);
            }
            "Listener" => self.listeners.push(Listener::decode(bytes)?),
            _ => {}
        }
        Ok(())
    }

    /// The resources as a bootstrap.
    pub(crate) fn bootstrap(mut self) -> anyhow::Result<Bootstrap> {
        for cluster in self.clusters.values_mut() {
            if cluster.eds_cluster_config.take().is_some() {
                let set = self.endpoints.remove(&cluster.name);
                let set = set.with_context(|| format!("cluster {} has no endpoints", cluster.name))?;
                cluster.load_assignment = Some(set);
                cluster.cluster_discovery_type =
                    Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
            }
        }
        let sds = Cluster {
            name: SDS.to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
            ..Default::default()
        };
        self.clusters.entry(SDS.to_owned()).or_insert(sds);
        for listener in &mut self.listeners {
            let chains = listener
                .filter_chains
                .iter_mut()
                .chain(&mut listener.default_filter_chain);
            for filter in chains.flat_map(|chain| &mut chain.filters) {
                inline(filter, &self.routes)?;
            }
        }
        Ok(Bootstrap {
            node: Some(Node {
                id: "test".to_owned(),
                cluster: "test".to_owned(),
                ..Default::default()
            }),
            static_resources: Some(StaticResources {
                clusters: self.clusters.into_values().collect(),
                listeners: self.listeners,
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    /// Has Envoy check them; `folder` takes the bootstrap.
    pub(crate) fn validate(self, envoy: &Path, folder: &Path) -> anyhow::Result<()> {
        let file = folder.join("bootstrap.pb");
        std::fs::write(&file, self.bootstrap()?.encode_to_vec())?;
        let seen = Command::new(envoy)
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
            .with_context(|| format!("cannot start {}", envoy.display()))?;
        if !seen.status.success() {
            bail!("{}", String::from_utf8_lossy(&seen.stderr).trim());
        }
        Ok(())
    }
}

fn inline(filter: &mut Filter, routes: &BTreeMap<String, RouteConfiguration>) -> anyhow::Result<()> {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else {
        return Ok(());
    };
    if !any.type_url.ends_with(".HttpConnectionManager") {
        return Ok(());
    }
    let mut manager = HttpConnectionManager::decode(any.value.as_slice())?;
    if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
        let name = &rds.route_config_name;
        let found = routes
            .get(name)
            .with_context(|| format!("there are no routes {name}"))?;
        manager.route_specifier = Some(RouteSpecifier::RouteConfig(found.clone()));
        filter.config_type = Some(ConfigType::TypedConfig(pack_any(manager)));
    }
    Ok(())
}
