//! An Envoy with a listener for each thing that is compared, in front of an application.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use envoy_types::pb::envoy::config::bootstrap::v3::bootstrap::StaticResources;
use envoy_types::pb::envoy::config::bootstrap::v3::{Admin, Bootstrap};
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, Node, SocketAddress, address};
use envoy_types::pb::envoy::config::metrics::v3::StatsConfig;
use envoy_types::pb::google::protobuf::BoolValue;
use prost::Message;
use runtime::Svid;

use super::generated::{Inbound, is_mixer};
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

impl Envoy {
    /// Starts one with these listeners and a workload's identity. Clusters of one name are one.
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        svid: &Svid,
        inbound: Vec<Inbound>,
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
        let file = folder.join("envoy.pb");
        std::fs::write(&file, bootstrap(admin, inbound).encode_to_vec())?;
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

    /// The calls so far to each Mixer, by its cluster's name, those included that Envoy made again.
    pub(super) fn calls(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let page = get(self.admin, "/stats?filter=upstream_rq_total$")?;
        let calls = page.lines().filter_map(|line| {
            let (name, count) = line
                .strip_prefix("cluster.")?
                .split_once(".upstream_rq_total: ")?;
            let known = is_mixer(name).then(|| name.to_owned())?;
            Some((known, count.trim().parse().ok()?))
        });
        Ok(calls.collect())
    }
}

fn bootstrap(admin: SocketAddr, inbound: Vec<Inbound>) -> Bootstrap {
    let mut clusters = BTreeMap::new();
    let mut listeners = Vec::new();
    for one in inbound {
        listeners.push(one.listener);
        clusters.extend(
            one.clusters
                .into_iter()
                .map(|cluster| (cluster.name.clone(), cluster)),
        );
    }
    let socket = SocketAddress {
        address: admin.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(admin.port().into())),
        ..Default::default()
    };
    Bootstrap {
        node: Some(Node {
            id: NODE.to_owned(),
            cluster: "catalog".to_owned(),
            ..Default::default()
        }),
        admin: Some(Admin {
            address: Some(Address {
                address: Some(address::Address::SocketAddress(socket)),
            }),
            ..Default::default()
        }),
        // Counters keep their clusters' names.
        stats_config: Some(StatsConfig {
            use_all_default_tags: Some(BoolValue { value: false }),
            ..Default::default()
        }),
        static_resources: Some(StaticResources {
            clusters: clusters.into_values().collect(),
            listeners,
            ..Default::default()
        }),
        ..Default::default()
    }
}
