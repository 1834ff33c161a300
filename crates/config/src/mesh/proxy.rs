//! ProxyConfig of MeshConfig: settings of one proxy, given by the mesh or by a workload's annotation.

use std::collections::BTreeMap;

use super::Tracing;
use crate::Duration;
use crate::api::{api, api_enum};
use crate::networking::{ClientTlsSettings, ProxyImage, ReadinessProbe, TcpKeepalive};

api! {
    /// A proxy's settings.
    #[schemars(extend("x-oneof" = [["serviceCluster", "tracingServiceName"]]))]
    pub struct ProxyConfig {
        config_path: String,
        binary_path: String,
        service_cluster: Option<String>,
        tracing_service_name: Option<TracingServiceName>,
        drain_duration: Option<Duration>,
        /// Istio 1.x before 1.13, without effect.
        parent_shutdown_duration: Option<Duration>,
        discovery_address: String,
        discovery_refresh_delay: Option<Duration>,
        zipkin_address: String,
        /// Istio 1.4; now MeshConfig's.
        connect_timeout: Option<Duration>,
        statsd_udp_address: String,
        envoy_metrics_service_address: String,
        proxy_admin_port: i32,
        availability_zone: String,
        control_plane_auth_policy: AuthenticationPolicy,
        custom_config_file: String,
        stat_name_length: i32,
        /// Worker threads; 0 is one for each CPU.
        concurrency: Option<i32>,
        proxy_bootstrap_template_path: String,
        interception_mode: InboundInterceptionMode,
        tracing: Option<Tracing>,
        sds: Option<Sds>,
        envoy_access_log_service: Option<RemoteService>,
        envoy_metrics_service: Option<RemoteService>,
        proxy_metadata: BTreeMap<String, String>,
        runtime_values: BTreeMap<String, String>,
        status_port: i32,
        extra_stat_tags: Vec<String>,
        gateway_topology: Option<Topology>,
        termination_drain_duration: Option<Duration>,
        mesh_id: String,
        readiness_probe: Option<ReadinessProbe>,
        proxy_stats_matcher: Option<ProxyStatsMatcher>,
        hold_application_until_proxy_starts: Option<bool>,
        ca_certificates_pem: Vec<String>,
        image: Option<ProxyImage>,
        private_key_provider: Option<PrivateKeyProvider>,
        proxy_headers: Option<ProxyHeaders>,
        file_flush_interval: Option<Duration>,
        file_flush_min_size_kb: u32,
        stats_compression: Option<bool>,
        connection_settings: Option<ConnectionSettings>,
    }

    /// Istio 1.4's SDS settings.
    pub struct Sds {
        enabled: bool,
        k8s_sa_jwt_path: String,
    }

    /// A service outside that Envoy sends to.
    pub struct RemoteService {
        address: String,
        tls_settings: Option<ClientTlsSettings>,
        tcp_keepalive: Option<TcpKeepalive>,
    }

    /// What lies between clients and a gateway.
    pub struct Topology {
        num_trusted_proxies: u32,
        forward_client_cert_details: ForwardClientCertDetails,
        proxy_protocol: Option<ProxyProtocolConfiguration>,
    }

    /// The gateway accepts the PROXY protocol.
    pub struct ProxyProtocolConfiguration {}

    /// Which further statistics Envoy keeps.
    pub struct ProxyStatsMatcher {
        inclusion_prefixes: Vec<String>,
        inclusion_suffixes: Vec<String>,
        inclusion_regexps: Vec<String>,
    }

    /// Hardware that works with private keys.
    #[schemars(extend("x-oneof" = [["cryptomb", "qat"]]))]
    pub struct PrivateKeyProvider {
        cryptomb: Option<PrivateKeyMethod>,
        qat: Option<PrivateKeyMethod>,
    }

    /// Settings of such hardware.
    pub struct PrivateKeyMethod {
        poll_delay: Option<Duration>,
        fallback: Option<bool>,
    }

    /// Headers that the proxy itself adds.
    pub struct ProxyHeaders {
        forwarded_client_cert: ForwardClientCertDetails,
        set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
        request_id: Option<HeaderSwitch>,
        server: Option<ServerHeader>,
        attempt_count: Option<HeaderSwitch>,
        envoy_debug_headers: Option<HeaderSwitch>,
        metadata_exchange_headers: Option<MetadataExchangeHeaders>,
        preserve_http1_header_case: Option<bool>,
        x_forwarded_host: Option<HeaderEnabled>,
        x_forwarded_port: Option<HeaderEnabled>,
    }

    /// Parts of the client's certificate put into `x-forwarded-client-cert`.
    pub struct SetCurrentClientCertDetails {
        subject: Option<bool>,
        cert: Option<bool>,
        chain: Option<bool>,
        dns: Option<bool>,
        uri: Option<bool>,
    }

    /// Turns a header off.
    pub struct HeaderSwitch {
        disabled: Option<bool>,
    }

    /// Turns a header on.
    pub struct HeaderEnabled {
        enabled: Option<bool>,
    }

    /// The `server` header.
    pub struct ServerHeader {
        disabled: Option<bool>,
        value: String,
    }

    /// Where metadata exchange headers are sent.
    pub struct MetadataExchangeHeaders {
        mode: MetadataExchangeMode,
    }

    /// Bounds on a proxy's connections.
    pub struct ConnectionSettings {
        profile: ConnectionProfile,
        listener_per_connection_buffer_limit_bytes: Option<i32>,
        cluster_per_connection_buffer_limit_bytes: Option<i32>,
        http_idle_timeout: Option<Duration>,
        http_max_connection_duration: Option<Duration>,
        http_drain_timeout: Option<Duration>,
        http_request_timeout: Option<Duration>,
        http_request_headers_timeout: Option<Duration>,
        http_stream_idle_timeout: Option<Duration>,
        http_max_stream_duration: Option<Duration>,
        http_max_concurrent_streams: Option<i32>,
        http2_initial_stream_window_size: Option<i32>,
        http2_initial_connection_window_size: Option<i32>,
        http_headers_with_underscores_action: HeadersWithUnderscoresAction,
        http_merge_slashes: Option<bool>,
        http_path_with_escaped_slashes_action: PathWithEscapedSlashesAction,
        listener_connection_limit: Option<i32>,
        global_downstream_connection_limit: Option<i32>,
    }
}

api_enum! {
    /// Mutual TLS towards the control plane (Istio 1.4's field; always on here).
    pub enum AuthenticationPolicy {
        #[default]
        None = "NONE",
        MutualTls = "MUTUAL_TLS",
        Inherit = "INHERIT",
    }

    /// What a service is called in traces.
    pub enum TracingServiceName {
        #[default]
        AppLabelAndNamespace = "APP_LABEL_AND_NAMESPACE",
        CanonicalNameOnly = "CANONICAL_NAME_ONLY",
        CanonicalNameAndNamespace = "CANONICAL_NAME_AND_NAMESPACE",
    }

    /// How traffic reaches the proxy.
    pub enum InboundInterceptionMode {
        #[default]
        Redirect = "REDIRECT",
        Tproxy = "TPROXY",
        None = "NONE",
    }

    /// What becomes of `x-forwarded-client-cert`.
    pub enum ForwardClientCertDetails {
        #[default]
        Undefined = "UNDEFINED",
        Sanitize = "SANITIZE",
        ForwardOnly = "FORWARD_ONLY",
        AppendForward = "APPEND_FORWARD",
        SanitizeSet = "SANITIZE_SET",
        AlwaysForwardOnly = "ALWAYS_FORWARD_ONLY",
    }

    /// Where metadata exchange headers are sent.
    pub enum MetadataExchangeMode {
        #[default]
        Undefined = "UNDEFINED",
        InMesh = "IN_MESH",
    }

    /// Which set of defaults a proxy's connections have.
    pub enum ConnectionProfile {
        #[default]
        Sidecar = "SIDECAR",
        Edge = "EDGE",
    }

    /// What happens to headers with underscores.
    pub enum HeadersWithUnderscoresAction {
        #[default]
        Unspecified = "HEADERS_WITH_UNDERSCORES_UNSPECIFIED",
        Allow = "HEADERS_WITH_UNDERSCORES_ALLOW",
        RejectRequest = "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
        DropHeader = "HEADERS_WITH_UNDERSCORES_DROP_HEADER",
    }

    /// What happens to escaped slashes in a path.
    pub enum PathWithEscapedSlashesAction {
        #[default]
        Unspecified = "PATH_WITH_ESCAPED_SLASHES_UNSPECIFIED",
        KeepUnchanged = "KEEP_UNCHANGED",
        RejectRequest = "REJECT_REQUEST",
        UnescapeAndRedirect = "UNESCAPE_AND_REDIRECT",
        UnescapeAndForward = "UNESCAPE_AND_FORWARD",
    }
}

impl ProxyConfig {
    /// Fills what is absent with Istio's defaults (istio/pkg/config/mesh `DefaultProxyConfig`).
    pub fn with_defaults(mut self) -> Self {
        if self.service_cluster.is_none() && self.tracing_service_name.is_none() {
            self.service_cluster = Some("istio-proxy".to_owned());
        }
        self.drain_duration.get_or_insert(Duration::from_secs(45));
        self.termination_drain_duration
            .get_or_insert(Duration::from_secs(5));
        if self.proxy_admin_port == 0 {
            self.proxy_admin_port = 15000;
        }
        if self.status_port == 0 {
            self.status_port = 15020;
        }
        self
    }
}
