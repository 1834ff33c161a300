//! Who the proxy says it is: node id, cluster, locality and metadata, in Istio's form.

use std::{fmt, net::IpAddr, str::FromStr};

use serde_json::{Map, Value, json};

use super::Values;

/// Release of Istio whose proxy metadata and configuration API Argosy follows; EnvoyFilters match on it.
const ISTIO_VERSION: &str = "1.27.0";

/// What kind of proxy an agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProxyType {
    /// Beside an application.
    #[default]
    Sidecar,
    /// A gateway of its own.
    Router,
}

impl fmt::Display for ProxyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
        })
    }
}

/// Region, zone and sub-zone, as WorkloadEntry's `locality` writes them: `us-west/zone1/rack3`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Locality {
    /// First part.
    pub region: String,
    /// Second part.
    pub zone: String,
    /// Third part.
    pub sub_zone: String,
}

impl FromStr for Locality {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '/').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_default();
        Ok(Self {
            region: part(),
            zone: part(),
            sub_zone: part(),
        })
    }
}

/// The node id: `sidecar~IP~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN`.
pub fn node_id(proxy_type: ProxyType, address: IpAddr, name: &str, namespace: &str, domain: &str) -> String {
    format!("{proxy_type}~{address}~{name}.{namespace}~{namespace}.svc.{domain}")
}

pub(super) fn node(values: &Values) -> Value {
    let Values {
        proxy_type,
        address,
        name,
        namespace,
        domain,
        locality,
        ..
    } = values;
    json!({
        "id": node_id(*proxy_type, *address, name, namespace, domain),
        "cluster": cluster(values),
        "locality": not_empty([
            ("region", &locality.region),
            ("zone", &locality.zone),
            ("sub_zone", &locality.sub_zone),
        ]),
        "metadata": metadata(values),
    })
}

/// Istio's default `serviceCluster`: the `app` label, else the workload, with the namespace.
fn cluster(values: &Values) -> String {
    if let Some(own) = &values.service_cluster {
        return own.clone();
    }
    format!(
        "{}.{}",
        values.labels.get("app").unwrap_or(&values.name),
        values.namespace
    )
}

fn metadata(values: &Values) -> Value {
    let mut metadata = derived(values);
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.extend(values.metadata.clone());
        // Its label says more than what made the pod; policies name it by the same.
        metadata.insert("WORKLOAD_NAME".to_owned(), json!(workload_name(values)));
    }
    metadata
}

fn derived(values: &Values) -> Value {
    json!({
        "NAME": values.name,
        "NAMESPACE": values.namespace,
        "WORKLOAD_NAME": workload_name(values),
        "CANONICAL_NAME": canonical_name(values),
        "CANONICAL_REVISION": canonical_revision(values),
        "PEER": peer(values),
        "SERVICE_ACCOUNT": values.service_account,
        "OWNER": format!(
            "kubernetes://apis/networking.istio.io/v1/namespaces/{}/workloadentries/{}",
            values.namespace, values.name
        ),
        "LABELS": values.labels,
        "ANNOTATIONS": values.annotations,
        "INSTANCE_IPS": values.address.to_string(),
        "INTERCEPTION_MODE": "NONE",
        "CLUSTER_ID": values.cluster_id,
        "MESH_ID": values.trust_domain,
        "NETWORK": values.network,
        "DNS_DOMAIN": format!("{}.svc.{}", values.namespace, values.domain),
        "ENVOY_STATUS_PORT": values.health_port,
        "ENVOY_PROMETHEUS_PORT": values.prometheus_port,
        "ISTIO_VERSION": ISTIO_VERSION,
        "ARGOSY_VERSION": env!("CARGO_PKG_VERSION"),
    })
}

/// What telemetry calls the workload: Istio's label when it is set, else what made the pod, else the entry's own name.
fn workload_name(values: &Values) -> &str {
    let label = values
        .labels
        .get("service.istio.io/workload-name")
        .map(String::as_str);
    let owner = || values.metadata.get("WORKLOAD_NAME").and_then(Value::as_str);
    label.or_else(owner).unwrap_or(&values.name)
}

/// Istio's canonical service: its label, else the app, else the workload's name.
fn canonical_name(values: &Values) -> &str {
    let label = |name: &str| values.labels.get(name);
    let found = label("service.istio.io/canonical-name").or_else(|| label("app"));
    found.map_or_else(|| workload_name(values), String::as_str)
}

/// Istio's canonical revision: its label, else the version.
fn canonical_revision(values: &Values) -> &str {
    let label = |name: &str| values.labels.get(name);
    let found = label("service.istio.io/canonical-revision").or_else(|| label("version"));
    found.map_or("latest", String::as_str)
}

/// What the proxy tells the proxies of other workloads about its own (header `x-argosy-peer`): workload, namespace, app, version,
/// canonical name and revision, cluster.
fn peer(values: &Values) -> String {
    let label = |name: &str| values.labels.get(name).map_or("", String::as_str);
    let parts = [
        workload_name(values),
        &values.namespace,
        label("app"),
        label("version"),
        canonical_name(values),
        canonical_revision(values),
        &values.cluster_id,
    ];
    parts.join(";")
}

fn not_empty<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a String)>) -> Value {
    let kept = pairs.into_iter().filter(|(_, text)| !text.is_empty());
    Value::Object(
        kept.map(|(key, text)| (key.to_owned(), json!(text)))
            .collect::<Map<_, _>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locality_is_split_at_slashes() {
        let locality = |region: &str, zone: &str, sub_zone: &str| Locality {
            region: region.into(),
            zone: zone.into(),
            sub_zone: sub_zone.into(),
        };
        let cases = [
            ("", locality("", "", "")),
            ("us-west", locality("us-west", "", "")),
            ("us-west/zone1", locality("us-west", "zone1", "")),
            ("us-west/zone1/rack3", locality("us-west", "zone1", "rack3")),
            ("us-west//rack3", locality("us-west", "", "rack3")),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Locality>(), Ok(expected), "{text}");
        }
    }
}
