//! The endpoints of a dump, with what Envoy thinks of their health. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::dump::{Entry, address, list, text};

/// Which endpoints are wanted.
#[derive(clap::Args, Clone, Default)]
#[group(skip)]
pub(crate) struct Filter {
    /// Only endpoints at this address
    #[arg(long, value_name = "IP")]
    address: Option<String>,
    /// Only endpoints at this port
    #[arg(long)]
    port: Option<u64>,
    /// Only endpoints of this cluster
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Only endpoints of clusters whose host has this in it
    #[arg(long, value_name = "TEXT")]
    fqdn: Option<String>,
    /// Only endpoints in this state: healthy, unhealthy, draining, timeout, degraded
    #[arg(long)]
    status: Option<String>,
}

pub(crate) const HEAD: [&str; 5] = ["ENDPOINT", "STATUS", "OUTLIER CHECK", "WEIGHT", "CLUSTER"];

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    port: Option<u64>,
    status: String,
    weight: Option<u64>,
    cluster: String,
}

impl Endpoint {
    /// `HOST:PORT`, with brackets around an IPv6 address.
    fn at(&self) -> String {
        match self.port {
            Some(port) if self.host.contains(':') => format!("[{}]:{port}", self.host),
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}

impl Filter {
    fn wants(&self, one: &Endpoint) -> bool {
        let host = super::clusters::parts(&one.cluster).host;
        self.address.as_ref().is_none_or(|ip| one.host == *ip)
            && self.port.is_none_or(|port| one.port == Some(port))
            && self.cluster.as_ref().is_none_or(|name| one.cluster == *name)
            && self.fqdn.as_ref().is_none_or(|text| host.contains(text.as_str()))
            && self
                .status
                .as_ref()
                .is_none_or(|status| one.status.eq_ignore_ascii_case(status))
    }

    /// Whether an entry has an endpoint that is wanted.
    pub(crate) fn wants_some(&self, entry: &Entry) -> bool {
        of(entry).iter().any(|one| self.wants(one))
    }
}

/// The rows of wanted endpoints; `ejected` are those that outlier detection has ejected, where Envoy was asked.
pub(crate) fn rows(entry: &Entry, filter: &Filter, ejected: Option<&Ejected>) -> Vec<Vec<String>> {
    let wanted = of(entry).into_iter().filter(|one| filter.wants(one));
    wanted
        .map(|one| {
            let at = one.at();
            let check = match ejected.map(|all| all.contains(&(one.cluster.clone(), at.clone()))) {
                None => "",
                Some(true) => "FAILED",
                Some(false) => "OK",
            };
            let weight = one.weight.map(|weight| weight.to_string()).unwrap_or_default();
            vec![at, one.status, check.to_owned(), weight, one.cluster]
        })
        .collect()
}

fn of(entry: &Entry) -> Vec<Endpoint> {
    let all = list(&entry.config, "/endpoints").flat_map(|locality| list(locality, "/lb_endpoints"));
    let endpoint = |one: &Value| {
        let (host, port) = one.pointer("/endpoint/address").map(address).unwrap_or_default();
        Endpoint {
            host,
            port,
            status: match text(one, "/health_status") {
                // Envoy leaves out what is zero.
                "" => "UNKNOWN".to_owned(),
                status => status.to_owned(),
            },
            weight: one.get("load_balancing_weight").and_then(Value::as_u64),
            cluster: entry.name.clone(),
        }
    };
    all.map(endpoint).collect()
}

/// Endpoints, by cluster and address, that outlier detection has ejected.
pub(crate) type Ejected = BTreeSet<(String, String)>;

/// Reads Envoy's page `/clusters?format=json` (`envoy.admin.v3.Clusters`).
pub(crate) fn ejected(page: &Value) -> Ejected {
    let mut found = Ejected::new();
    for cluster in list(page, "/cluster_statuses") {
        for host in list(cluster, "/host_statuses") {
            let failed = host.pointer("/health_status/failed_outlier_check");
            if failed.and_then(Value::as_bool) == Some(true) {
                let (at, port) = host.get("address").map(address).unwrap_or_default();
                let endpoint = Endpoint {
                    host: at,
                    port,
                    status: String::new(),
                    weight: None,
                    cluster: text(cluster, "/name").to_owned(),
                };
                found.insert((endpoint.cluster.clone(), endpoint.at()));
            }
        }
    }
    found
}
