//! MeshConfig's extension providers, and the services and clusters behind them.

use std::sync::Arc;

use config::mesh::{DatadogProvider, ExtensionProvider, FileAccessLogProvider, HttpHeader, ZipkinProvider};
use envoy_types::pb::envoy::config::core::v3::{
    GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri, grpc_service,
    header_value_option::HeaderAppendAction, http_uri::HttpUpstreamType,
};
use model::{Service, Snapshot};

use super::resolve::PROXY_CONFIG;
use crate::names;
use crate::wire::duration;

/// The provider of access logs that Istio has without being told: a file, the standard output.
pub(super) const ENVOY: &str = "envoy";

/// Where providers are looked up for a proxy.
pub(crate) struct Providers<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// The proxy's namespace.
    pub(crate) namespace: &'a str,
}

/// A service that a provider names.
pub(crate) struct Upstream {
    pub(crate) cluster: String,
    pub(crate) host: String,
    pub(crate) service: Arc<Service>,
}

impl Upstream {
    /// gRPC to the service.
    pub(crate) fn grpc(&self) -> GrpcService {
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
    pub(crate) fn get(&self, name: &str) -> Result<ExtensionProvider, String> {
        let known = self
            .snapshot
            .mesh()
            .extension_providers
            .iter()
            .find(|p| p.name == name);
        match known {
            Some(provider) => Ok(provider.clone()),
            None if name == PROXY_CONFIG => self.of_proxy_config(),
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

    /// The tracer of MeshConfig's `defaultConfig`: Zipkin's or Datadog's address.
    fn of_proxy_config(&self) -> Result<ExtensionProvider, String> {
        let config = self.snapshot.mesh().default_config.clone().unwrap_or_default();
        let tracing = config.tracing.unwrap_or_default();
        let old = Some(config.zipkin_address).filter(|address| !address.is_empty());
        let zipkin = tracing.zipkin.map(|tracer| tracer.address).or(old);
        let mut out = ExtensionProvider {
            name: PROXY_CONFIG.to_owned(),
            ..Default::default()
        };
        if let Some(address) = zipkin {
            let (service, port) = host_and_port(&address)?;
            out.zipkin = Some(ZipkinProvider {
                service,
                port,
                ..Default::default()
            });
        } else if let Some(tracer) = tracing.datadog {
            let (service, port) = host_and_port(&tracer.address)?;
            out.datadog = Some(DatadogProvider {
                service,
                port,
                ..Default::default()
            });
        } else {
            return Err(
                "enableTracing needs an address in defaultConfig.tracing.zipkin or datadog".to_owned(),
            );
        }
        Ok(out)
    }

    /// The service that the provider of a name sends to, if it is one.
    pub(super) fn service_of(&self, name: &str) -> Option<Arc<Service>> {
        let provider = self.get(name).ok()?;
        let (service, port) = address(&provider)?;
        Some(self.upstream(name, service, port).ok()?.service)
    }

    /// The cluster of `host` or `namespace/host`.
    pub(crate) fn upstream(&self, name: &str, service: &str, port: u32) -> Result<Upstream, String> {
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

fn host_and_port(address: &str) -> Result<(String, u32), String> {
    let parts = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?)));
    parts.ok_or_else(|| format!("defaultConfig.tracing: {address:?} is not HOST:PORT"))
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
