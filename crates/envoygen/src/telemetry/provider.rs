//! MeshConfig's extension providers, and the services and clusters behind them.

use std::sync::Arc;

use config::mesh::{ExtensionProvider, FileAccessLogProvider, HttpHeader};
use envoy_types::pb::envoy::config::core::v3::{
    GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri, grpc_service,
    header_value_option::HeaderAppendAction, http_uri::HttpUpstreamType,
};
use model::{Service, Snapshot};

use crate::names;
use crate::wire::duration;

/// The provider of access logs that Istio has without being told: a file, the standard output.
pub(super) const ENVOY: &str = "envoy";

/// Where providers are looked up for a proxy.
pub(super) struct Providers<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// The proxy's namespace.
    pub(super) namespace: &'a str,
}

/// A service that a provider names.
pub(super) struct Upstream {
    pub(super) cluster: String,
    pub(super) host: String,
    service: Arc<Service>,
}

impl Upstream {
    /// gRPC to the service.
    pub(super) fn grpc(&self) -> GrpcService {
        let target = grpc_service::EnvoyGrpc {
            cluster_name: self.cluster.clone(),
            authority: self.host.clone(),
            ..Default::default()
        };
        GrpcService {
            target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(target)),
            ..Default::default()
        }
    }

    /// HTTP to the service.
    pub(super) fn http(
        &self,
        path: &str,
        timeout: Option<config::Duration>,
        headers: &[HttpHeader],
    ) -> HttpService {
        let timeout = timeout.unwrap_or(config::Duration::from_secs(5));
        HttpService {
            http_uri: Some(HttpUri {
                uri: format!("http://{}/{}", self.host, path.trim_start_matches('/')),
                timeout: duration(timeout.0),
                http_upstream_type: Some(HttpUpstreamType::Cluster(self.cluster.clone())),
            }),
            request_headers_to_add: headers.iter().map(header).collect(),
            ..Default::default()
        }
    }
}

/// A header with its value, or with that of a variable of the proxy's environment.
fn header(header: &HttpHeader) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(header_value(header)),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..Default::default()
    }
}

/// The same for gRPC's metadata.
pub(super) fn header_value(header: &HttpHeader) -> HeaderValue {
    let value = match (&header.value, &header.env_name) {
        (_, Some(name)) => format!("%ENVIRONMENT({name})%"),
        (value, None) => value.clone().unwrap_or_default(),
    };
    HeaderValue {
        key: header.name.clone(),
        value,
        ..Default::default()
    }
}

impl<'a> Providers<'a> {
    /// The provider of this name: MeshConfig's, or `envoy`, which is always there.
    pub(super) fn get(&self, name: &str) -> Result<ExtensionProvider, String> {
        let known = self
            .snapshot
            .mesh()
            .extension_providers
            .iter()
            .find(|p| p.name == name);
        match known {
            Some(provider) => Ok(provider.clone()),
            None if name == ENVOY => Ok(ExtensionProvider {
                name: ENVOY.to_owned(),
                envoy_file_access_log: Some(FileAccessLogProvider::default()),
                ..Default::default()
            }),
            None => Err(format!(
                "there is no extension provider {name:?}; add it to MeshConfig's extensionProviders"
            )),
        }
    }

    /// The service that the provider of a name sends to, if it is one.
    pub(super) fn service_of(&self, name: &str) -> Option<Arc<Service>> {
        let provider = self.get(name).ok()?;
        let (service, port) = address(&provider)?;
        Some(self.upstream(name, service, port).ok()?.service)
    }

    /// The cluster of `host` or `namespace/host`.
    pub(super) fn upstream(&self, name: &str, service: &str, port: u32) -> Result<Upstream, String> {
        let missing = || {
            format!(
                "extension provider {name:?}: there is no service {service:?} with port {port}; give its full host name, \
                 or add a ServiceEntry for it"
            )
        };
        let number = u16::try_from(port).map_err(|_| missing())?;
        let (namespace, host) = match service.split_once('/') {
            Some((namespace, host)) => (Some(namespace), host),
            None => (None, service),
        };
        let hosts = [
            host.to_owned(),
            format!("{host}.svc.{}", model::DNS_DOMAIN),
            format!("{host}.{}", model::DNS_DOMAIN),
        ];
        let services = self.snapshot.services();
        let found = hosts.iter().find_map(|host| match namespace {
            Some(namespace) => services.get(host, namespace),
            None => services.seen_from(host, self.namespace),
        });
        let found = found
            .filter(|service| service.port(number).is_some())
            .ok_or_else(missing)?;
        Ok(Upstream {
            cluster: names::outbound_cluster(number, "", &found.host),
            host: found.host.clone(),
            service: Arc::clone(found),
        })
    }
}

/// The service and port that a provider of logs or traces names.
fn address(provider: &ExtensionProvider) -> Option<(&str, u32)> {
    let zipkin = provider.zipkin.as_ref().map(|p| (p.service.as_str(), p.port));
    let datadog = provider.datadog.as_ref().map(|p| (p.service.as_str(), p.port));
    let skywalking = provider.skywalking.as_ref().map(|p| (p.service.as_str(), p.port));
    let otel = provider
        .opentelemetry
        .as_ref()
        .map(|p| (p.service.as_str(), p.port));
    let http = provider
        .envoy_http_als
        .as_ref()
        .map(|p| (p.service.as_str(), p.port));
    let tcp = provider
        .envoy_tcp_als
        .as_ref()
        .map(|p| (p.service.as_str(), p.port));
    let otel_log = provider
        .envoy_otel_als
        .as_ref()
        .map(|p| (p.service.as_str(), p.port));
    zipkin
        .or(datadog)
        .or(skywalking)
        .or(otel)
        .or(http)
        .or(tcp)
        .or(otel_log)
}
