//! Sidecar: what one workload's proxy opens and what it can reach.

use super::{ConnectionPoolSettings, Destination, LabelsSelector, ServerTlsSettings};
use crate::api::{api, api_enum};

api! {
    /// Ingress and egress of the proxies that `workloadSelector` chooses, or of the whole namespace.
    pub struct Sidecar {
        workload_selector: Option<LabelsSelector>,
        ingress: Vec<IstioIngressListener>,
        egress: Vec<IstioEgressListener>,
        inbound_connection_pool: Option<ConnectionPoolSettings>,
        outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    }

    /// A port for traffic to the workload.
    #[schemars(extend("required" = ["port"]))]
    pub struct IstioIngressListener {
        port: Option<SidecarPort>,
        bind: String,
        capture_mode: CaptureMode,
        /// `127.0.0.1:PORT`, `[::1]:PORT`, `0.0.0.0:PORT`, `[::]:PORT`, `unix:///…`; outside interception any IP.
        default_endpoint: String,
        tls: Option<ServerTlsSettings>,
        connection_pool: Option<ConnectionPoolSettings>,
    }

    /// A port for traffic from the workload and the hosts that it reaches.
    #[schemars(extend("required" = ["hosts"]))]
    pub struct IstioEgressListener {
        port: Option<SidecarPort>,
        bind: String,
        capture_mode: CaptureMode,
        /// `namespace/host`, where namespace may be `*`, `.` (own) or `~` (none).
        hosts: Vec<String>,
    }

    /// A port of a sidecar's listener.
    pub struct SidecarPort {
        number: u32,
        protocol: String,
        name: String,
        /// Deprecated, without effect.
        target_port: u32,
    }

    /// What happens to traffic for hosts that the mesh does not know.
    pub struct OutboundTrafficPolicy {
        mode: OutboundTrafficPolicyMode,
        egress_proxy: Option<Destination>,
    }
}

api_enum! {
    /// How traffic reaches a listener.
    pub enum CaptureMode {
        /// The proxy's own interception mode.
        #[default]
        Default = "DEFAULT",
        Iptables = "IPTABLES",
        /// None: the application connects to the listener.
        None = "NONE",
    }

    /// Whether unknown hosts are reachable.
    pub enum OutboundTrafficPolicyMode {
        #[default]
        RegistryOnly = "REGISTRY_ONLY",
        AllowAny = "ALLOW_ANY",
    }
}
