//! Where a dump comes from: a pod, an address, or a file that somebody sent.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use http::uri::Authority;
use serde_json::Value;

use super::dump::Dump;
use crate::reach::pods::Named;
use crate::reach::{Access, Place, Port, block_on};

/// With the endpoints, which Envoy leaves out otherwise.
const DUMP: &str = "/config_dump?include_eds";
/// What outlier detection says is not in the dump.
const CLUSTERS: &str = "/clusters?format=json";

/// Which Envoy.
#[derive(clap::Args, Clone)]
#[group(skip)]
pub(crate) struct Source {
    /// The proxy's pod, or a workload that has one: [KIND/]NAME[.NAMESPACE]
    #[arg(value_name = "POD", required_unless_present_any = ["file", "admin_address"], conflicts_with_all = ["file", "admin_address"])]
    pod: Option<Named>,
    /// A file with what Envoy's page /config_dump?include_eds said; - for standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "admin_address")]
    file: Option<PathBuf>,
    /// Envoy's admin server
    #[arg(long, value_name = "HOST:PORT")]
    admin_address: Option<Authority>,
    /// The pod's namespace; unless given, that of the context
    #[arg(long, short)]
    namespace: Option<String>,
    /// Port of Envoy's admin server in the pod
    #[arg(long, value_name = "PORT", default_value_t = 15000)]
    proxy_admin_port: u16,
    #[command(flatten)]
    access: Access,
}

impl Source {
    /// The dump; and `with_clusters`, where an Envoy can be asked, its page of clusters.
    pub(crate) fn read(&self, with_clusters: bool) -> Result<(Dump, Option<Value>)> {
        let (page, clusters) = match &self.file {
            Some(_) => (self.page()?, None),
            None => block_on(async {
                let place = self.place().await?;
                let page = place.json(DUMP).await?;
                let clusters = match with_clusters {
                    true => Some(place.json(CLUSTERS).await?),
                    false => None,
                };
                Ok((page, clusters))
            })?,
        };
        let dump = Dump::read(&page).context("this is not an Envoy's configuration")?;
        Ok((dump, clusters))
    }

    /// The page as it is.
    pub(crate) fn page(&self) -> Result<Value> {
        let Some(path) = &self.file else {
            return block_on(async { self.place().await?.json(DUMP).await });
        };
        let mut bytes = Vec::new();
        let read = match path.as_os_str() == "-" {
            true => std::io::stdin().lock().read_to_end(&mut bytes),
            false => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)),
        };
        read.with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is not JSON", path.display()))
    }

    /// A pod's Envoy.
    pub(crate) fn pod(pod: Named, namespace: Option<String>, port: u16, access: Access) -> Self {
        Self {
            pod: Some(pod),
            file: None,
            admin_address: None,
            namespace,
            proxy_admin_port: port,
            access,
        }
    }

    /// Where the Envoy is, unless it is a file that was named.
    pub(crate) async fn place(&self) -> Result<Place> {
        if let Some(address) = &self.admin_address {
            return Ok(Place::Address(address.clone()));
        }
        let pod = self.pod.as_ref().context("name a pod")?;
        let (client, default) = self.access.client().await?;
        let namespace = pod
            .namespace
            .as_ref()
            .or(self.namespace.as_ref())
            .unwrap_or(&default);
        Ok(Place::Pod(Port {
            pod: pod.pod(&client, namespace).await?,
            namespace: namespace.clone(),
            client,
            port: self.proxy_admin_port,
        }))
    }
}
