//! Kubernetes' own kinds, as far as the mesh reads them. What a cluster's objects carry beyond that is left alone, so these
//! types are open: unknown fields are no finding.
#![allow(
    missing_docs,
    reason = "fields are named and described by Kubernetes' API reference; only the unobvious is noted"
)]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod cluster;
pub mod gateway_api;
mod ingress;
mod secret;
mod secret_facts;

use crate::api::api;

pub use cluster::*;
pub use gateway_api::*;
pub use ingress::*;
pub use secret::Secret;
pub use secret_facts::*;

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum IntOrString {
    /// A port number.
    Int(u32),
    /// The name of a container's port.
    String(String),
}

api! {
    /// core/v1 Service.
    pub struct Service {
        spec: ServiceSpec,
        status: ServiceStatus,
    }

    /// What a Service selects and offers.
    pub struct ServiceSpec {
        /// ClusterIP (when empty), NodePort, LoadBalancer or ExternalName.
        r#type: String,
        selector: BTreeMap<String, String>,
        ports: Vec<ServicePort>,
        /// An IP, `None` for a headless service, or empty (files without a cluster).
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        #[serde(rename = "clusterIPs")]
        cluster_ips: Vec<String>,
        #[serde(rename = "externalIPs")]
        external_ips: Vec<String>,
        external_name: String,
        #[serde(rename = "loadBalancerIP")]
        load_balancer_ip: String,
        load_balancer_class: String,
        publish_not_ready_addresses: bool,
        session_affinity: String,
        internal_traffic_policy: String,
        external_traffic_policy: String,
        traffic_distribution: String,
        ip_families: Vec<String>,
        ip_family_policy: String,
    }

    /// One port of a Service.
    pub struct ServicePort {
        name: String,
        /// TCP (when empty), UDP or SCTP.
        protocol: String,
        app_protocol: String,
        port: u32,
        /// Port of the pods; absent means `port`.
        target_port: Option<IntOrString>,
        node_port: u32,
    }

    /// What the platform has given a Service.
    pub struct ServiceStatus {
        load_balancer: LoadBalancerStatus,
    }

    /// Addresses of a load balancer.
    pub struct LoadBalancerStatus {
        ingress: Vec<LoadBalancerIngress>,
    }

    /// One address of a load balancer.
    pub struct LoadBalancerIngress {
        ip: String,
        hostname: String,
    }

    /// core/v1 Namespace; all that the mesh reads of it is its metadata.
    pub struct Namespace {}

    /// discovery.k8s.io/v1 EndpointSlice.
    pub struct EndpointSlice {
        /// IPv4, IPv6 or FQDN.
        address_type: String,
        endpoints: Vec<Endpoint>,
        ports: Vec<EndpointPort>,
    }

    /// One endpoint of a slice.
    pub struct Endpoint {
        addresses: Vec<String>,
        conditions: EndpointConditions,
        hostname: String,
        node_name: String,
        target_ref: Option<ObjectReference>,
        zone: String,
        deprecated_topology: BTreeMap<String, String>,
    }

    /// An endpoint's state; absent means unknown, which counts as ready.
    pub struct EndpointConditions {
        ready: Option<bool>,
        serving: Option<bool>,
        terminating: Option<bool>,
    }

    /// A port of a slice's endpoints.
    pub struct EndpointPort {
        name: String,
        protocol: String,
        port: Option<u32>,
        app_protocol: String,
    }

    /// A reference to another object.
    pub struct ObjectReference {
        kind: String,
        namespace: String,
        name: String,
        uid: String,
    }

    /// core/v1 Pod.
    pub struct Pod {
        spec: PodSpec,
        status: PodStatus,
    }

    /// What a Pod runs.
    pub struct PodSpec {
        containers: Vec<Container>,
        init_containers: Vec<Container>,
        service_account_name: String,
        node_name: String,
        host_network: bool,
        hostname: String,
        subdomain: String,
        security_context: Option<SecurityContext>,
    }

    /// A container, as far as its ports and its user.
    pub struct Container {
        name: String,
        image: String,
        ports: Vec<ContainerPort>,
        security_context: Option<SecurityContext>,
        /// The variables that the mesh reads, see [`ENVIRONMENT`]; others are left out.
        #[serde(deserialize_with = "environment")]
        env: Vec<EnvVar>,
    }

    /// A variable of a container's environment.
    pub struct EnvVar {
        name: String,
        value: String,
    }

    /// As whom containers run; of a Pod or of one container.
    pub struct SecurityContext {
        run_as_user: Option<i64>,
    }

    /// A port of a container.
    pub struct ContainerPort {
        name: String,
        container_port: u32,
        protocol: String,
    }

    /// A Pod's state.
    pub struct PodStatus {
        phase: String,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "podIPs")]
        pod_ips: Vec<PodIp>,
        conditions: Vec<PodCondition>,
    }

    /// One address of a Pod.
    pub struct PodIp {
        ip: String,
    }

    /// A condition of a Pod.
    pub struct PodCondition {
        r#type: String,
        status: String,
    }
}

/// Variables of a container's environment that the mesh reads. Others may be secrets and are not kept.
pub const ENVIRONMENT: &[&str] = &["BLOCKED_CIDRS_IN_JWKS_URIS"];

fn environment<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<EnvVar>, D::Error> {
    let mut variables = Vec::<EnvVar>::deserialize(deserializer)?;
    variables.retain(|variable| ENVIRONMENT.contains(&variable.name.as_str()));
    Ok(variables)
}
