//! TLS towards upstreams: mutual TLS within the mesh, with the certificates that the agent serves by SDS, and TLS to servers
//! outside.

use std::collections::BTreeSet;
use std::time::Duration;

use config::mesh::{MeshTlsProtocol, TlsConfig};
use config::networking::{ClientTlsMode, ClientTlsSettings, ProxyProtocolVersion};
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster::TransportSocketMatch};
use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService, ProxyProtocolConfig, TransportSocket,
    api_config_source::ApiType, config_source::ConfigSourceSpecifier, data_source::Specifier, grpc_service,
    proxy_protocol_config, transport_socket::ConfigType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, SubjectAltNameMatcher, TlsCertificate,
    TlsParameters, UpstreamTlsContext,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    subject_alt_name_matcher::SanType,
    tls_parameters::TlsProtocol,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::google::protobuf::Any;
use model::{Identity, Service, Snapshot};

use super::connection::{self, UpstreamProtocol};
use crate::endpoint::{ISTIO_MUTUAL, TLS_MODE};
use crate::names;
use crate::settings::Settings;
use crate::wire::{duration, exact, plain_any, prefix, string_struct};

/// Longest SNI that Envoy accepts.
const MAX_SNI: usize = 255;

/// What SDS names of Secrets begin with.
const SECRET_SCHEME: &str = "kubernetes://";

/// What decides a cluster's TLS.
pub(crate) struct Upstream<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) settings: &'a Settings,
    pub(crate) service: &'a Service,
    pub(crate) protocol: UpstreamProtocol,
    /// Whether the port's protocol is declared. Else it carries HTTP and other bytes: requests announce themselves.
    pub(crate) declared: bool,
    /// SNI within the mesh.
    pub(crate) sni: String,
}

impl Upstream<'_> {
    /// Mutual TLS with endpoints whose metadata says that they accept it, plaintext with the others.
    pub(crate) fn auto(&self, cluster: &mut Cluster) {
        let context = self.mutual(&self.sni, accounts(self.snapshot, self.service));
        // What matches nothing is plaintext: the cluster has no transport socket of its own.
        cluster.transport_socket_matches = vec![TransportSocketMatch {
            name: "tlsMode-istio".to_owned(),
            r#match: Some(string_struct([(TLS_MODE, ISTIO_MUTUAL.to_owned())])),
            transport_socket: Some(tls_socket(&context)),
        }];
    }

    /// TLS as a DestinationRule asks for it.
    pub(crate) fn explicit(&self, cluster: &mut Cluster, settings: &ClientTlsSettings) {
        match settings.mode {
            ClientTlsMode::Disable => {}
            ClientTlsMode::IstioMutual => {
                let sni = if settings.sni.is_empty() {
                    self.sni.as_str()
                } else {
                    settings.sni.as_str()
                };
                let names = if settings.subject_alt_names.is_empty() {
                    accounts(self.snapshot, self.service)
                } else {
                    uris(&settings.subject_alt_names)
                };
                cluster.transport_socket = Some(tls_socket(&self.mutual(sni, names)));
            }
            ClientTlsMode::Simple | ClientTlsMode::Mutual => {
                let verify = settings.insecure_skip_verify != Some(true);
                let no_names =
                    settings.subject_alt_names.is_empty() && self.service.subject_alt_names.is_empty();
                cluster.transport_socket = Some(tls_socket(&self.outside(settings, verify)));
                if settings.sni.is_empty() {
                    connection::auto_sni(cluster, true, verify && no_names);
                }
            }
        }
    }

    fn mutual(&self, sni: &str, names: Vec<SubjectAltNameMatcher>) -> UpstreamTlsContext {
        let alpn: &[&str] = match self.protocol {
            _ if !self.declared => &["istio"],
            UpstreamProtocol::Http1 => &["istio-http/1.1", "istio", "http/1.1"],
            UpstreamProtocol::Http2 => &["istio-h2", "istio", "h2"],
            UpstreamProtocol::Tcp | UpstreamProtocol::Downstream => &["istio"],
        };
        mesh_tls(sni, names, alpn, self.settings.secret_timeout)
    }

    /// TLS to a server outside the mesh, its certificate checked against the given or the system's roots.
    fn outside(&self, settings: &ClientTlsSettings, verify: bool) -> UpstreamTlsContext {
        let names = if settings.subject_alt_names.is_empty() {
            &self.service.subject_alt_names
        } else {
            &settings.subject_alt_names
        };
        let mut validation = CertificateValidationContext::default();
        if verify {
            validation.match_typed_subject_alt_names = any_type(names);
        }
        let credential = Some(settings.credential_name.as_str()).filter(|name| !name.is_empty());
        let mutual = settings.mode == ClientTlsMode::Mutual;
        let context = match credential {
            Some(name) => self.by_secret(name, mutual, verify.then_some(validation)),
            None => self.by_files(settings, mutual, verify.then_some(validation)),
        };
        let alpn: &[&str] = match self.protocol {
            UpstreamProtocol::Http2 => &["h2"],
            UpstreamProtocol::Http1 if self.declared => &["http/1.1"],
            _ => &[],
        };
        let mut params = params();
        defaults(&mut params, true, self.snapshot.mesh().tls_defaults.as_ref());
        UpstreamTlsContext {
            sni: settings.sni.clone(),
            common_tls_context: Some(CommonTlsContext {
                tls_params: Some(params),
                alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
                ..context
            }),
            ..Default::default()
        }
    }

    /// Certificate and roots from files beside the proxy.
    fn by_files(
        &self,
        settings: &ClientTlsSettings,
        mutual: bool,
        validation: Option<CertificateValidationContext>,
    ) -> CommonTlsContext {
        let roots = match settings.ca_certificates.as_str() {
            "" | "system" => self.settings.system_roots.as_str(),
            given => given,
        };
        let certificate = mutual.then(|| TlsCertificate {
            certificate_chain: Some(file(&settings.client_certificate)),
            private_key: Some(file(&settings.private_key)),
            ..Default::default()
        });
        CommonTlsContext {
            tls_certificates: certificate.into_iter().collect(),
            validation_context_type: validation.map(|validation| {
                ValidationContextType::ValidationContext(CertificateValidationContext {
                    trusted_ca: Some(file(roots)),
                    crl: (!settings.ca_crl.is_empty()).then(|| file(&settings.ca_crl)),
                    ..validation
                })
            }),
            ..Default::default()
        }
    }

    /// Certificate and roots of a Secret, which the agent gets from Citadel: under the Secret's name the key pair, and with
    /// `-cacert` behind it the roots.
    fn by_secret(
        &self,
        name: &str,
        mutual: bool,
        validation: Option<CertificateValidationContext>,
    ) -> CommonTlsContext {
        let timeout = self.settings.secret_timeout;
        let pair = mutual.then(|| secret(&format!("{SECRET_SCHEME}{name}"), timeout));
        CommonTlsContext {
            tls_certificate_sds_secret_configs: pair.into_iter().collect(),
            validation_context_type: validation.map(|validation| {
                ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                    default_validation_context: Some(validation),
                    validation_context_sds_secret_config: Some(secret(
                        &format!("{SECRET_SCHEME}{name}-cacert"),
                        timeout,
                    )),
                    ..Default::default()
                })
            }),
            ..Default::default()
        }
    }
}

/// A client's side of mutual TLS within the mesh.
pub(crate) fn mesh_tls(
    sni: &str,
    names: Vec<SubjectAltNameMatcher>,
    alpn: &[&str],
    timeout: Duration,
) -> UpstreamTlsContext {
    UpstreamTlsContext {
        sni: sni.to_owned(),
        common_tls_context: Some(mesh_context(names, alpn, timeout)),
        ..Default::default()
    }
}

/// The workload's certificate and the mesh's roots, both by SDS; peers must have one of `names`.
pub(crate) fn mesh_context(
    names: Vec<SubjectAltNameMatcher>,
    alpn: &[&str],
    timeout: Duration,
) -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(params()),
        tls_certificate_sds_secret_configs: vec![secret(names::DEFAULT_SECRET, timeout)],
        alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(
            CombinedCertificateValidationContext {
                default_validation_context: Some(CertificateValidationContext {
                    match_typed_subject_alt_names: names,
                    ..Default::default()
                }),
                validation_context_sds_secret_config: Some(secret(names::ROOT_SECRET, timeout)),
                ..Default::default()
            },
        )),
        ..Default::default()
    }
}

/// TLS 1.2 at least.
pub(crate) fn params() -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12 as i32,
        tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
        ..Default::default()
    }
}

/// TLS that is not the mesh's own, as MeshConfig's `tlsDefaults` has it: what the settings of the one server or client leave
/// open; the lowest version where `least` says that they leave that open too.
pub(crate) fn defaults(params: &mut TlsParameters, least: bool, defaults: Option<&TlsConfig>) {
    let Some(defaults) = defaults else { return };
    if params.cipher_suites.is_empty() {
        params.cipher_suites.clone_from(&defaults.cipher_suites);
    }
    if params.ecdh_curves.is_empty() {
        params.ecdh_curves.clone_from(&defaults.ecdh_curves);
    }
    if least && defaults.min_protocol_version == MeshTlsProtocol::V1_3 {
        params.tls_minimum_protocol_version = TlsProtocol::TlSv13 as i32;
    }
}

/// A secret that the agent serves on its Unix socket, a static cluster of the bootstrap.
pub(crate) fn secret(name: &str, timeout: Duration) -> SdsSecretConfig {
    let agent = grpc_service::EnvoyGrpc {
        cluster_name: names::SDS_CLUSTER.to_owned(),
        ..Default::default()
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3 as i32,
            initial_fetch_timeout: duration(timeout),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
                api_type: ApiType::Grpc as i32,
                transport_api_version: ApiVersion::V3 as i32,
                set_node_on_first_message_only: true,
                grpc_services: vec![GrpcService {
                    target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(agent)),
                    ..Default::default()
                }],
                ..Default::default()
            })),
            ..Default::default()
        }),
    }
}

/// The identities that a service's endpoints may have. Where an account is not known, any of the endpoint's namespace.
fn accounts(snapshot: &Snapshot, service: &Service) -> Vec<SubjectAltNameMatcher> {
    let mesh = snapshot.mesh();
    let domains: Vec<&String> = std::iter::once(&mesh.trust_domain)
        .chain(&mesh.trust_domain_aliases)
        .collect();
    let known: BTreeSet<(&str, Option<&str>)> = service
        .endpoints
        .iter()
        .map(|e| (e.namespace.as_str(), e.service_account.as_deref()))
        .collect();
    let mut out = uris(&service.subject_alt_names);
    for (namespace, account) in known {
        out.extend(domains.iter().map(|domain| match account {
            Some(account) => uri(exact(&Identity::new(domain, namespace, account).to_string())),
            None => uri(prefix(&format!("spiffe://{domain}/ns/{namespace}/"))),
        }));
    }
    if out.is_empty() {
        out.extend(
            domains
                .iter()
                .map(|d| uri(prefix(&format!("spiffe://{d}/ns/{}/", service.namespace)))),
        );
    }
    out
}

/// A certificate's URI must match.
pub(crate) fn uri(matcher: StringMatcher) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: SanType::Uri as i32,
        matcher: Some(matcher),
        ..Default::default()
    }
}

fn uris(names: &[String]) -> Vec<SubjectAltNameMatcher> {
    names.iter().map(|name| uri(exact(name))).collect()
}

/// Names of a server outside: DNS names, or URIs where they look so.
pub(crate) fn any_type(names: &[String]) -> Vec<SubjectAltNameMatcher> {
    let san_type = |name: &str| match name {
        name if name.contains("://") => SanType::Uri,
        name if name.parse::<std::net::IpAddr>().is_ok() => SanType::IpAddress,
        _ => SanType::Dns,
    };
    let matcher = |name: &String| SubjectAltNameMatcher {
        san_type: san_type(name) as i32,
        matcher: Some(exact(name)),
        ..Default::default()
    };
    names.iter().map(matcher).collect()
}

fn file(path: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::Filename(path.to_owned())),
        ..Default::default()
    }
}

/// `outbound_.PORT_.SUBSET_.HOST`; empty where it would be too long.
pub(crate) fn mesh_sni(port: u16, subset: &str, host: &str) -> String {
    let sni = format!("outbound_.{port}_.{subset}_.{host}");
    if sni.len() > MAX_SNI { String::new() } else { sni }
}

/// A TLS socket of a client.
pub(crate) fn tls_socket(context: &UpstreamTlsContext) -> TransportSocket {
    socket("envoy.transport_sockets.tls", plain_any(context))
}

/// Tells the server by the PROXY protocol who the client is, before TLS or whatever else the cluster speaks.
pub(super) fn introduce(cluster: &mut Cluster, version: ProxyProtocolVersion) {
    let version = match version {
        ProxyProtocolVersion::V1 => proxy_protocol_config::Version::V1,
        ProxyProtocolVersion::V2 => proxy_protocol_config::Version::V2,
    };
    let wrap = |inner: Option<TransportSocket>| {
        let config = ProxyProtocolUpstreamTransport {
            config: Some(ProxyProtocolConfig {
                version: version as i32,
                ..Default::default()
            }),
            transport_socket: Some(inner.unwrap_or_else(raw_socket)),
            ..Default::default()
        };
        Some(socket(
            "envoy.transport_sockets.upstream_proxy_protocol",
            plain_any(&config),
        ))
    };
    for chosen in &mut cluster.transport_socket_matches {
        chosen.transport_socket = wrap(chosen.transport_socket.take());
    }
    cluster.transport_socket = wrap(cluster.transport_socket.take());
}

/// A plaintext socket.
pub(crate) fn raw_socket() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", plain_any(&RawBuffer {}))
}

pub(crate) fn socket(name: &str, config: Any) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(config)),
    }
}
