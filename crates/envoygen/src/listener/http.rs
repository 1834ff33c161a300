//! HTTP connection managers.

use config::mesh::{MeshConfig, NormalizationType};
use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::{Http1ProtocolOptions, Http3ProtocolOptions};
use envoy_types::pb::envoy::config::listener::v3::Filter;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, LocalReplyConfig, Rds, ResponseMapper,
    http_connection_manager::{
        CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
        SetCurrentClientCertDetails, UpgradeConfig,
    },
};
use std::time::Duration;

use crate::cluster::ads;
use crate::filter;
use crate::telemetry::{Traced, request_ids};
use crate::topology::Topology;
use crate::wire::{any, bool_value, duration};

/// Where a connection manager stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// For requests of the sidecar's application.
    SidecarOutbound,
    /// For requests to the sidecar's application.
    SidecarInbound,
    /// At the mesh's edge.
    Gateway,
}

/// What a connection manager routes by.
pub(crate) enum Routes {
    /// A route configuration by its name.
    Named(String),
    /// One inside the listener.
    Inline(Box<RouteConfiguration>),
}

/// A connection manager to build.
pub(crate) struct Http<'a> {
    pub(crate) mesh: &'a MeshConfig,
    pub(crate) class: Class,
    pub(crate) stat_prefix: String,
    pub(crate) routes: Routes,
    /// All but the router.
    pub(crate) filters: Vec<HttpFilter>,
    pub(crate) access_log: Vec<AccessLog>,
    pub(crate) tracing: Option<Traced>,
    /// Answers of the proxy's own that read otherwise.
    pub(crate) replies: Vec<ResponseMapper>,
    /// Whether it stands on QUIC.
    pub(crate) http3: bool,
    /// Whether it takes HTTP/1.0.
    pub(crate) http10: bool,
    /// What lies between clients and a gateway.
    pub(crate) topology: Topology,
    /// Whether policies decide by path here, so that a path must have one spelling only.
    pub(crate) decides: bool,
}

impl Http<'_> {
    /// The network filter.
    pub(crate) fn build(self) -> Filter {
        let mut manager = HttpConnectionManager {
            stat_prefix: self.stat_prefix,
            http_filters: self.filters,
            server_name: server_name(self.class).to_owned(),
            access_log: self.access_log,
            use_remote_address: bool_value(self.class == Class::Gateway),
            stream_idle_timeout: duration(Duration::ZERO),
            upgrade_configs: vec![UpgradeConfig {
                upgrade_type: "websocket".to_owned(),
                ..Default::default()
            }],
            route_specifier: Some(match self.routes {
                Routes::Named(name) => RouteSpecifier::Rds(Rds {
                    config_source: Some(ads()),
                    route_config_name: name,
                }),
                Routes::Inline(routes) => RouteSpecifier::RouteConfig(*routes),
            }),
            ..Default::default()
        };
        manager.http_filters.push(filter::router());
        manager.local_reply_config = (!self.replies.is_empty()).then(|| LocalReplyConfig {
            mappers: self.replies,
            ..Default::default()
        });
        if let Some(traced) = self.tracing {
            manager.request_id_extension = Some(request_ids(traced.by_request_id));
            manager.tracing = Some(traced.tracing);
        }
        if self.http3 {
            manager.codec_type = CodecType::Http3 as i32;
            manager.http3_protocol_options = Some(Http3ProtocolOptions::default());
        }
        manager.http_protocol_options = self.http10.then(|| Http1ProtocolOptions {
            accept_http_10: true,
            ..Default::default()
        });
        normalize(&mut manager, self.mesh, self.decides);
        client_certificate(&mut manager, self.class, self.topology);
        filter::network(filter::HTTP_CONNECTION_MANAGER, any(&manager))
    }
}

/// The `server` header of answers; Envoy's own name for what only the application sees (Istio).
fn server_name(class: Class) -> &'static str {
    match class {
        Class::SidecarOutbound => "",
        Class::SidecarInbound | Class::Gateway => "istio-envoy",
    }
}

/// How paths are normalised before anything looks at them. Without a setting, listeners that decide by path decode escaped
/// slashes too and merge repeated ones, so that no spelling gets around a policy; the others do as Istio does.
fn normalize(manager: &mut HttpConnectionManager, mesh: &MeshConfig, decides: bool) {
    let asked = mesh
        .path_normalization
        .as_ref()
        .map(|p| p.normalization)
        .unwrap_or_default();
    let kind = match asked {
        NormalizationType::Default if decides => NormalizationType::DecodeAndMergeSlashes,
        NormalizationType::Default => NormalizationType::Base,
        other => other,
    };
    manager.normalize_path = bool_value(kind != NormalizationType::None);
    manager.merge_slashes = matches!(
        kind,
        NormalizationType::MergeSlashes | NormalizationType::DecodeAndMergeSlashes
    );
    let escaped = match kind {
        NormalizationType::DecodeAndMergeSlashes => PathWithEscapedSlashesAction::UnescapeAndForward,
        _ => PathWithEscapedSlashesAction::KeepUnchanged,
    };
    manager.path_with_escaped_slashes_action = escaped as i32;
}

/// What becomes of `x-forwarded-client-cert`: sidecars add the peer's identity to what trusted peers sent, gateways replace
/// what clients send unless the topology says otherwise.
fn client_certificate(manager: &mut HttpConnectionManager, class: Class, topology: Topology) {
    let forward = match class {
        Class::SidecarOutbound => ForwardClientCertDetails::Sanitize,
        Class::SidecarInbound => ForwardClientCertDetails::AppendForward,
        Class::Gateway => {
            manager.xff_num_trusted_hops = topology.trusted_proxies;
            topology.forward()
        }
    };
    manager.forward_client_cert_details = forward as i32;
    if matches!(
        forward,
        ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet
    ) {
        manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails {
            subject: bool_value(true),
            cert: class == Class::Gateway,
            dns: true,
            uri: true,
            ..Default::default()
        });
    }
}
