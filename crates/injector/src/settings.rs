//! What the injector's operator decides, as the injector's configuration file has it. Fields have Istio's defaults.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use crate::wishes::Interception;

/// Whether pods that say nothing get a proxy. The webhook's selectors have chosen their namespaces already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    /// They do.
    #[default]
    Enabled,
    /// Only those that ask for it.
    Disabled,
}

/// How the kubelet finds out whether the proxy is ready.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Readiness {
    /// Seconds before the first probe.
    pub initial_delay_seconds: i32,
    /// Seconds between probes.
    pub period_seconds: i32,
    /// Failures until it is not ready.
    pub failure_threshold: i32,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            initial_delay_seconds: 0,
            period_seconds: 15,
            failure_threshold: 4,
        }
    }
}

/// What is redirected to the proxy, in the words of the annotations that change it for a pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Traffic {
    /// Ranges of destinations, with commas; `*` is all.
    #[serde(rename = "includeIPRanges")]
    pub include_ip_ranges: String,
    /// Ranges that are left alone.
    #[serde(rename = "excludeIPRanges")]
    pub exclude_ip_ranges: String,
    /// Ports of incoming traffic; `*` is all.
    pub include_inbound_ports: String,
    /// Ports of incoming traffic that are left alone.
    pub exclude_inbound_ports: String,
    /// Destination ports that are redirected whatever the address.
    pub include_outbound_ports: String,
    /// Destination ports that are left alone.
    pub exclude_outbound_ports: String,
}

impl Default for Traffic {
    fn default() -> Self {
        let all = || "*".to_owned();
        Self {
            include_ip_ranges: all(),
            exclude_ip_ranges: String::new(),
            include_inbound_ports: all(),
            exclude_inbound_ports: String::new(),
            include_outbound_ports: String::new(),
            exclude_outbound_ports: String::new(),
        }
    }
}

/// All that the operator decides.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Image of agent and Envoy.
    pub image: String,
    /// When the image is pulled; Kubernetes' default unless set.
    pub image_pull_policy: Option<String>,
    /// Secrets of the pod's namespace to pull it with.
    pub image_pull_secrets: Vec<String>,
    /// Whether pods that say nothing get a proxy.
    pub policy: Policy,
    /// Pods that get none though they say nothing.
    pub never_inject_selector: Vec<LabelSelector>,
    /// Pods that get one though they say nothing.
    pub always_inject_selector: Vec<LabelSelector>,
    /// Namespaces that are never injected, beside Kubernetes' own and the control plane's.
    pub ignored_namespaces: Vec<String>,
    /// Name of this control plane; `default` unless several stand side by side.
    pub revision: String,
    /// The control plane's namespace. Its pods are never injected.
    pub namespace: String,
    /// The namespace whose ProxyConfigs without selector are the whole mesh's.
    pub root_namespace: String,
    /// DNS domain of the cluster's services.
    pub cluster_domain: String,
    /// Trust domain of the mesh's identities.
    pub trust_domain: String,
    /// Id of the cluster.
    pub cluster_id: String,
    /// Network of the cluster's pods; empty is the default one.
    pub network: String,
    /// Id of the mesh; the trust domain unless set.
    pub mesh_id: String,
    /// Where Pilot is; `pilot.NAMESPACE.svc:15012` unless set.
    pub pilot_address: String,
    /// Where Citadel is; `citadel.NAMESPACE.svc:8060` unless set.
    pub citadel_address: String,
    /// Audience of the token that the agent shows to Citadel.
    pub token_audience: String,
    /// Lifetime of that token in seconds.
    pub token_expiration_seconds: i64,
    /// The agent's port. 0 is none: then nothing tells whether the proxy is ready, and probes are not rewritten.
    pub status_port: u16,
    /// Envoy's log level.
    pub log_level: String,
    /// Log levels of Envoy's parts.
    pub component_log_level: String,
    /// The agent's log level.
    pub agent_log_level: String,
    /// What is redirected.
    pub traffic: Traffic,
    /// How traffic comes to the proxy, unless ProxyConfig or the pod say otherwise.
    pub interception_mode: Option<Interception>,
    /// The proxy's resources, unless the pod has annotations for them.
    pub resources: ResourceRequirements,
    /// Whether readiness is asked for, and how.
    pub readiness: Readiness,
    /// Whether the application starts only when the proxy is ready. Native sidecars always do so.
    pub hold_application_until_proxy_starts: bool,
    /// Whether the kubelet's probes pass through the agent. Without, those by HTTP fail under strict mutual TLS.
    pub rewrite_app_probes: bool,
    /// Whether the agent's metrics page has the application's too.
    pub merge_metrics: bool,
    /// Whether the cluster has native sidecars (Kubernetes 1.29), and the proxy is one.
    pub native_sidecars: bool,
    /// ProxyConfig of the mesh, as MeshConfig's `defaultConfig` has it.
    pub default_config: Value,
    /// Templates of the operator's: parts of a pod by name, laid over it. `sidecar` and `gateway` are there always.
    pub templates: BTreeMap<String, Value>,
    /// Templates of a pod that names none.
    pub default_templates: Vec<String>,
    /// Names that stand for several templates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Annotations for each pod that is injected.
    pub injected_annotations: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        let text = |text: &str| text.to_owned();
        Self {
            image: text("argosy/proxy:latest"),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            policy: Policy::Enabled,
            never_inject_selector: Vec::new(),
            always_inject_selector: Vec::new(),
            ignored_namespaces: Vec::new(),
            revision: text("default"),
            namespace: text("argosy-system"),
            root_namespace: text("istio-system"),
            cluster_domain: text("cluster.local"),
            trust_domain: text("cluster.local"),
            cluster_id: text("Kubernetes"),
            network: String::new(),
            mesh_id: String::new(),
            pilot_address: String::new(),
            citadel_address: String::new(),
            token_audience: text("istio-ca"),
            token_expiration_seconds: 43_200,
            status_port: 15020,
            log_level: text("warning"),
            component_log_level: String::new(),
            agent_log_level: text("info"),
            traffic: Traffic::default(),
            interception_mode: None,
            resources: resources(),
            readiness: Readiness::default(),
            hold_application_until_proxy_starts: false,
            rewrite_app_probes: true,
            merge_metrics: true,
            native_sidecars: true,
            default_config: Value::Object(serde_json::Map::new()),
            templates: BTreeMap::new(),
            default_templates: vec![text("sidecar")],
            aliases: BTreeMap::new(),
            injected_annotations: BTreeMap::new(),
        }
    }
}

/// Istio's defaults.
fn resources() -> ResourceRequirements {
    let of = |cpu: &str, memory: &str| {
        let pairs = [("cpu", cpu), ("memory", memory)];
        Some(
            pairs
                .map(|(name, value)| (name.to_owned(), Quantity(value.to_owned())))
                .into(),
        )
    };
    ResourceRequirements {
        claims: None,
        requests: of("100m", "128Mi"),
        limits: of("2000m", "1024Mi"),
    }
}

impl Settings {
    /// Where Pilot is.
    pub(crate) fn pilot(&self) -> String {
        or(&self.pilot_address, || {
            format!("pilot.{}.svc:15012", self.namespace)
        })
    }

    /// Where Citadel is.
    pub(crate) fn citadel(&self) -> String {
        or(&self.citadel_address, || {
            format!("citadel.{}.svc:8060", self.namespace)
        })
    }

    /// Id of the mesh.
    pub(crate) fn mesh(&self) -> &str {
        if self.mesh_id.is_empty() {
            &self.trust_domain
        } else {
            &self.mesh_id
        }
    }
}

fn or(value: &str, other: impl FnOnce() -> String) -> String {
    if value.is_empty() {
        other()
    } else {
        value.to_owned()
    }
}
