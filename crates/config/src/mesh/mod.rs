//! MeshConfig: settings of the whole mesh (mesh.istio.io/v1alpha1), with the fields of Istio 1.4 that Mixer needs.
#![allow(
    missing_docs,
    reason = "fields are named and described by Istio's API reference; only the unobvious is noted"
)]

mod networks;
mod providers;
mod proxy;
mod tracing;

use crate::Duration;
use crate::api::{api, api_enum};
use crate::networking::{
    ClientTlsSettings, ConnectionPoolSettings, HttpRetry, LocalityLoadBalancerSetting, OutlierDetection,
    TcpKeepalive, ZoneAwareLoadBalancerSetting,
};
use crate::selector::LabelSelector;
pub use networks::*;
pub use providers::*;
pub use proxy::*;
pub use tracing::*;

api! {
    /// The mesh's settings. Absent fields have the defaults that [`MeshConfig::with_defaults`] fills in.
    pub struct MeshConfig {
        proxy_listen_port: i32,
        proxy_inbound_listen_port: i32,
        proxy_http_port: i32,
        connect_timeout: Option<Duration>,
        hbone_idle_timeout: Option<Duration>,
        protocol_detection_timeout: Option<Duration>,
        tcp_keepalive: Option<TcpKeepalive>,
        ingress_class: String,
        ingress_service: String,
        ingress_controller_mode: IngressControllerMode,
        ingress_selector: String,
        enable_tracing: bool,
        access_log_file: String,
        access_log_format: String,
        access_log_encoding: AccessLogEncoding,
        enable_envoy_access_log_service: bool,
        disable_envoy_listener_log: bool,
        default_config: Option<ProxyConfig>,
        outbound_traffic_policy: Option<MeshOutboundTrafficPolicy>,
        inbound_traffic_policy: Option<InboundTrafficPolicy>,
        config_sources: Vec<ConfigSource>,
        enable_auto_mtls: Option<bool>,
        trust_domain: String,
        trust_domain_aliases: Vec<String>,
        ca_certificates: Vec<CertificateData>,
        default_service_export_to: Vec<String>,
        default_virtual_service_export_to: Vec<String>,
        default_destination_rule_export_to: Vec<String>,
        root_namespace: String,
        locality_lb_setting: Option<LocalityLoadBalancerSetting>,
        zone_aware_lb_setting: Option<ZoneAwareLoadBalancerSetting>,
        dns_refresh_rate: Option<Duration>,
        h2_upgrade_policy: MeshH2UpgradePolicy,
        inbound_cluster_stat_name: String,
        outbound_cluster_stat_name: String,
        certificates: Vec<Certificate>,
        service_settings: Vec<ServiceSettings>,
        service_scope_configs: Vec<ServiceScopeConfigs>,
        enable_prometheus_merge: Option<bool>,
        verify_certificate_at_client: Option<bool>,
        ca: Option<CertificateAuthority>,
        extension_providers: Vec<ExtensionProvider>,
        default_providers: Option<DefaultProviders>,
        discovery_selectors: Vec<LabelSelector>,
        path_normalization: Option<ProxyPathNormalization>,
        default_http_retry_policy: Option<HttpRetry>,
        default_inbound_http_retry_policy: Option<HttpRetry>,
        #[serde(rename = "meshMTLS")]
        mesh_mtls: Option<TlsConfig>,
        tls_defaults: Option<TlsConfig>,
        default_traffic_policy: Option<DefaultTrafficPolicy>,
        service_entry_visibility: Option<ServiceEntryVisibility>,

        /// Istio 1.4: `host:port` of the Mixer that decides.
        mixer_check_server: String,
        /// Istio 1.4: `host:port` of the Mixer that hears about requests.
        mixer_report_server: String,
        /// Istio 1.4: no calls for policy at all.
        disable_policy_checks: bool,
        /// Istio 1.4: no reports over HTTP.
        disable_mixer_http_reports: bool,
        /// Istio 1.4: requests pass when Mixer cannot be reached.
        policy_check_fail_open: bool,
        /// Istio 1.4: the client's sidecar asks too.
        enable_client_side_policy_check: bool,
        /// Istio 1.4.
        sidecar_to_telemetry_session_affinity: bool,
        /// Istio 1.4: each report is sent by itself.
        disable_report_batch: bool,
        /// Istio 1.4: reports sent together; 0 means 100.
        report_batch_max_entries: u32,
        /// Istio 1.4: longest wait before reports are sent; absent means 1 s.
        report_batch_max_time: Option<Duration>,
        /// Istio 1.4: how often routes are polled; xDS pushes, so it has no effect.
        rds_refresh_delay: Option<Duration>,
        /// Istio 1.4: mutual TLS between the mesh's own components; always on here.
        auth_policy: Option<AuthenticationPolicy>,
        /// Istio 1.4: socket of the node agent's SDS.
        sds_uds_path: String,
        /// Istio 1.4.
        sds_refresh_delay: Option<Duration>,
        /// Istio 1.4.
        enable_sds_token_mount: bool,
        /// Istio 1.4.
        sds_use_k8s_sa_jwt: bool,
        /// Istio 1.5.
        termination_drain_duration: Option<Duration>,
    }

    /// What happens to traffic for hosts that the mesh does not know.
    pub struct MeshOutboundTrafficPolicy {
        mode: MeshOutboundTrafficPolicyMode,
        /// For `ALLOW_ANY_DYNAMIC_DNS`.
        tls: Option<ClientTlsSettings>,
    }

    /// What happens to inbound traffic on ports that no service has.
    pub struct InboundTrafficPolicy {
        mode: InboundTrafficPolicyMode,
    }

    /// Another source of configuration.
    pub struct ConfigSource {
        address: String,
        tls_settings: Option<ClientTlsSettings>,
        subscribed_resources: Vec<SubscribedResource>,
    }

    /// Extra roots of trust.
    #[schemars(extend("x-oneof" = [["pem", "spiffeBundleUrl"]]))]
    pub struct CertificateData {
        pem: Option<String>,
        spiffe_bundle_url: Option<String>,
        cert_signers: Vec<String>,
        trust_domains: Vec<String>,
    }

    /// A certificate for DNS names (deprecated).
    pub struct Certificate {
        secret_name: String,
        dns_names: Vec<String>,
    }

    /// Settings for services by host.
    pub struct ServiceSettings {
        settings: Option<ServiceSettingsSettings>,
        hosts: Vec<String>,
    }

    /// Whether a service is reached in its own cluster only.
    pub struct ServiceSettingsSettings {
        cluster_local: bool,
    }

    /// Scope of services by labels (ambient, multicluster).
    pub struct ServiceScopeConfigs {
        namespace_selector: Option<LabelSelector>,
        services_selector: Option<LabelSelector>,
        scope: ServiceScope,
    }

    /// An external certificate authority.
    pub struct CertificateAuthority {
        address: String,
        tls_settings: Option<ClientTlsSettings>,
        request_timeout: Option<Duration>,
        istiod_side: bool,
    }

    /// Extension providers used where no Telemetry says otherwise.
    pub struct DefaultProviders {
        tracing: Vec<String>,
        metrics: Vec<String>,
        access_logging: Vec<String>,
    }

    /// How request paths are normalised before matching.
    pub struct ProxyPathNormalization {
        normalization: NormalizationType,
    }

    /// Bounds on TLS in the mesh.
    pub struct TlsConfig {
        min_protocol_version: MeshTlsProtocol,
        ecdh_curves: Vec<String>,
        cipher_suites: Vec<String>,
    }

    /// Traffic policy where no DestinationRule says otherwise.
    pub struct DefaultTrafficPolicy {
        connection_pool: Option<ConnectionPoolSettings>,
        outlier_detection: Option<OutlierDetection>,
    }

    /// Who sees ServiceEntries that do not say so themselves.
    pub struct ServiceEntryVisibility {
        default_visibility: Visibility,
        apply_to_sidecars: bool,
        policies: Vec<VisibilityPolicy>,
    }

    /// Visibility by where the ServiceEntry is.
    pub struct VisibilityPolicy {
        visibility: Visibility,
        matching_rules: Vec<VisibilityMatchRule>,
    }

    /// A condition of a visibility policy.
    pub struct VisibilityMatchRule {
        namespace_selector: Option<LabelSelector>,
    }
}

api_enum! {
    /// Whether unknown hosts are reachable.
    pub enum MeshOutboundTrafficPolicyMode {
        #[default]
        RegistryOnly = "REGISTRY_ONLY",
        AllowAny = "ALLOW_ANY",
        AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS",
    }

    /// Which Kubernetes Ingresses are served.
    pub enum IngressControllerMode {
        #[default]
        Unspecified = "UNSPECIFIED",
        Off = "OFF",
        Default = "DEFAULT",
        Strict = "STRICT",
    }

    /// Form of access logs.
    pub enum AccessLogEncoding {
        #[default]
        Text = "TEXT",
        Json = "JSON",
    }

    /// Where unknown inbound traffic goes.
    pub enum InboundTrafficPolicyMode {
        #[default]
        Passthrough = "PASSTHROUGH",
        Localhost = "LOCALHOST",
    }

    /// What a configuration source gives.
    pub enum SubscribedResource {
        #[default]
        ServiceRegistry = "SERVICE_REGISTRY",
    }

    /// Whether HTTP/1.1 is turned into HTTP/2 between sidecars.
    pub enum MeshH2UpgradePolicy {
        #[default]
        DoNotUpgrade = "DO_NOT_UPGRADE",
        Upgrade = "UPGRADE",
    }

    /// Reach of a service.
    pub enum ServiceScope {
        #[default]
        Local = "LOCAL",
        Global = "GLOBAL",
    }

    /// Kinds of path normalisation.
    pub enum NormalizationType {
        #[default]
        Default = "DEFAULT",
        None = "NONE",
        Base = "BASE",
        MergeSlashes = "MERGE_SLASHES",
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
    }

    /// Versions of TLS that the mesh may demand.
    pub enum MeshTlsProtocol {
        #[default]
        Auto = "TLS_AUTO",
        V1_2 = "TLSV1_2",
        V1_3 = "TLSV1_3",
    }

    /// Who sees a ServiceEntry.
    pub enum Visibility {
        #[default]
        Unspecified = "VISIBILITY_UNSPECIFIED",
        None = "NONE",
        Namespace = "NAMESPACE",
        Public = "PUBLIC",
    }
}

impl MeshConfig {
    /// Fills what is absent with Istio's defaults (istio/pkg/config/mesh `DefaultMeshConfig`).
    pub fn with_defaults(mut self) -> Self {
        fn text(field: &mut String, default: &str) {
            if field.is_empty() {
                default.clone_into(field);
            }
        }
        fn port(field: &mut i32, default: i32) {
            if *field == 0 {
                *field = default;
            }
        }
        port(&mut self.proxy_listen_port, 15001);
        port(&mut self.proxy_inbound_listen_port, 15006);
        self.connect_timeout.get_or_insert(Duration::from_secs(10));
        self.protocol_detection_timeout.get_or_insert(Duration::default());
        self.dns_refresh_rate.get_or_insert(Duration::from_secs(60));
        self.enable_auto_mtls.get_or_insert(true);
        self.enable_prometheus_merge.get_or_insert(true);
        text(&mut self.ingress_class, "istio");
        text(&mut self.ingress_service, "istio-ingressgateway");
        text(&mut self.trust_domain, "cluster.local");
        text(&mut self.root_namespace, "istio-system");
        self.outbound_traffic_policy
            .get_or_insert_with(|| MeshOutboundTrafficPolicy {
                mode: MeshOutboundTrafficPolicyMode::AllowAny,
                ..MeshOutboundTrafficPolicy::default()
            });
        if self.ingress_controller_mode == IngressControllerMode::Unspecified {
            self.ingress_controller_mode = IngressControllerMode::Strict;
        }
        for export in [
            &mut self.default_service_export_to,
            &mut self.default_virtual_service_export_to,
            &mut self.default_destination_rule_export_to,
        ] {
            if export.is_empty() {
                export.push("*".to_owned());
            }
        }
        let retries = self.default_http_retry_policy.get_or_insert_with(|| HttpRetry {
            attempts: 2,
            retry_on: "connect-failure,refused-stream,unavailable,cancelled".to_owned(),
            ..HttpRetry::default()
        });
        retries.retry_on.retain(|c| !c.is_whitespace());
        self.default_config = Some(self.default_config.take().unwrap_or_default().with_defaults());
        self
    }
}
