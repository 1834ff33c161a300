//! TLS towards clients: mutual TLS of the mesh on inbound ports, and what Gateways ask for.

use std::time::Duration;

use config::mesh::{MeshTlsProtocol, TlsConfig};
use config::networking::{ServerTlsMode, ServerTlsSettings, TlsProtocol as Version};
use envoy_types::pb::envoy::config::core::v3::{DataSource, TransportSocket, data_source::Specifier};
use envoy_types::pb::envoy::extensions::transport_sockets::quic::v3::QuicDownstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SubjectAltNameMatcher,
    TlsCertificate, TlsParameters,
    certificate_validation_context::TrustChainVerification,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    tls_parameters::TlsProtocol,
};
use model::Snapshot;

use crate::cluster::tls::{any_type, defaults, mesh_context, params, secret, socket, uri};
use crate::wire::{bool_value, exact, plain_any, prefix};

/// What names of Secrets begin with in SDS.
const SECRET_SCHEME: &str = "kubernetes://";
/// What servers of HTTP agree on.
const HTTP_ALPN: [&str; 2] = ["h2", "http/1.1"];
/// And those of HTTP/3.
const HTTP3_ALPN: &str = "h3";

/// A server's side of mutual TLS within the mesh: clients must have an identity of the trust domain or one of its aliases.
pub(crate) fn mutual(snapshot: &Snapshot, timeout: Duration) -> TransportSocket {
    let mut common = mesh_context(trusted(snapshot), &HTTP_ALPN, timeout);
    if let Some(bounds) = &snapshot.mesh().mesh_mtls {
        common.tls_params = Some(bounded(bounds));
    }
    downstream(&DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: bool_value(true),
        ..Default::default()
    })
}

/// TLS as MeshConfig's `meshMTLS` bounds it; 1.2 at least.
fn bounded(bounds: &TlsConfig) -> TlsParameters {
    let default = params();
    TlsParameters {
        tls_minimum_protocol_version: match bounds.min_protocol_version {
            MeshTlsProtocol::V1_3 => TlsProtocol::TlSv13 as i32,
            MeshTlsProtocol::Auto | MeshTlsProtocol::V1_2 => default.tls_minimum_protocol_version,
        },
        cipher_suites: bounds.cipher_suites.clone(),
        ecdh_curves: bounds.ecdh_curves.clone(),
        ..default
    }
}

fn trusted(snapshot: &Snapshot) -> Vec<SubjectAltNameMatcher> {
    let mesh = snapshot.mesh();
    let domains = std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases);
    domains
        .map(|domain| uri(prefix(&format!("spiffe://{domain}/"))))
        .collect()
}

/// The TLS that a Gateway's server ends. Certificates are the mesh's own (ISTIO_MUTUAL) or files beside the proxy.
pub(crate) fn gateway(
    snapshot: &Snapshot,
    settings: &ServerTlsSettings,
    timeout: Duration,
) -> Result<TransportSocket, String> {
    context(snapshot, settings, timeout).map(|context| downstream(&context))
}

/// The same on QUIC, whose TLS is 1.3 and agrees on HTTP/3 alone.
pub(crate) fn quic(
    snapshot: &Snapshot,
    settings: &ServerTlsSettings,
    timeout: Duration,
) -> Result<TransportSocket, String> {
    let mut context = context(snapshot, settings, timeout)?;
    if let Some(common) = &mut context.common_tls_context {
        common.alpn_protocols = vec![HTTP3_ALPN.to_owned()];
        common.tls_params = None;
    }
    let config = QuicDownstreamTransport {
        downstream_tls_context: Some(context),
        ..Default::default()
    };
    Ok(socket("envoy.transport_sockets.quic", plain_any(&config)))
}

fn context(
    snapshot: &Snapshot,
    settings: &ServerTlsSettings,
    timeout: Duration,
) -> Result<DownstreamTlsContext, String> {
    let demands = matches!(
        settings.mode,
        ServerTlsMode::Mutual | ServerTlsMode::IstioMutual | ServerTlsMode::OptionalMutual
    );
    let mut common = match settings.mode {
        ServerTlsMode::IstioMutual => {
            let names = &settings.subject_alt_names;
            let names = if names.is_empty() {
                trusted(snapshot)
            } else {
                names.iter().map(|name| uri(exact(name))).collect()
            };
            mesh_context(names, &HTTP_ALPN, timeout)
        }
        _ if !names(settings).is_empty() => from_secrets(settings, demands, timeout)?,
        _ => from_files(settings, demands)?,
    };
    if let (Some(params), ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) =
        (&mut common.tls_params, settings.mode)
    {
        let least = settings.min_protocol_version == Version::Auto;
        defaults(params, least, snapshot.mesh().tls_defaults.as_ref());
    }
    Ok(DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: bool_value(demands && settings.mode != ServerTlsMode::OptionalMutual),
        ..Default::default()
    })
}

/// The names of the Secrets with the server's certificates.
fn names(settings: &ServerTlsSettings) -> Vec<&String> {
    let one = std::iter::once(&settings.credential_name).filter(|name| !name.is_empty());
    one.chain(&settings.credential_names).collect()
}

/// Certificates of Secrets, which the proxy's agent gets from Citadel; a name with `-cacert` behind it holds the roots for
/// clients' certificates.
fn from_secrets(
    settings: &ServerTlsSettings,
    demands: bool,
    timeout: Duration,
) -> Result<CommonTlsContext, String> {
    let named = names(settings);
    if let Some(other) = named
        .iter()
        .find(|name| name.contains("://") && !name.starts_with(SECRET_SCHEME))
    {
        return Err(format!(
            "credentialName {other:?}: only Secrets are served; name one without a scheme"
        ));
    }
    let full = |name: &str| format!("{SECRET_SCHEME}{}", name.trim_start_matches(SECRET_SCHEME));
    let roots = match (settings.ca_cert_credential_name.as_str(), named.first()) {
        ("", Some(first)) => format!("{}-cacert", full(first)),
        (own, _) => full(own),
    };
    let validation = demands.then(|| CombinedCertificateValidationContext {
        default_validation_context: Some(clients(settings)),
        validation_context_sds_secret_config: Some(secret(&roots, timeout)),
        ..Default::default()
    });
    Ok(CommonTlsContext {
        tls_params: Some(versions(settings)),
        tls_certificate_sds_secret_configs: named.iter().map(|name| secret(&full(name), timeout)).collect(),
        alpn_protocols: HTTP_ALPN.iter().map(|name| (*name).to_owned()).collect(),
        validation_context_type: validation.map(ValidationContextType::CombinedValidationContext),
        ..Default::default()
    })
}

/// What clients' certificates must be, beside being signed by the roots.
fn clients(settings: &ServerTlsSettings) -> CertificateValidationContext {
    let trust = if settings.insecure_skip_verify == Some(true) {
        TrustChainVerification::AcceptUntrusted
    } else {
        TrustChainVerification::VerifyTrustChain
    };
    CertificateValidationContext {
        crl: (!settings.ca_crl.is_empty()).then(|| file(&settings.ca_crl)),
        verify_certificate_spki: settings.verify_certificate_spki.clone(),
        verify_certificate_hash: settings.verify_certificate_hash.clone(),
        match_typed_subject_alt_names: any_type(&settings.subject_alt_names),
        trust_chain_verification: trust as i32,
        ..Default::default()
    }
}

fn from_files(settings: &ServerTlsSettings, demands: bool) -> Result<CommonTlsContext, String> {
    let own = (
        settings.server_certificate.as_str(),
        settings.private_key.as_str(),
    );
    let more = settings
        .tls_certificates
        .iter()
        .map(|c| (c.server_certificate.as_str(), c.private_key.as_str()));
    let pairs: Vec<_> = std::iter::once(own)
        .chain(more)
        .filter(|(chain, _)| !chain.is_empty())
        .collect();
    if pairs.is_empty() {
        return Err("no certificate is named; set serverCertificate and privateKey".to_owned());
    }
    let validation = demands.then(|| CertificateValidationContext {
        trusted_ca: (!settings.ca_certificates.is_empty()).then(|| file(&settings.ca_certificates)),
        ..clients(settings)
    });
    Ok(CommonTlsContext {
        tls_params: Some(versions(settings)),
        tls_certificates: pairs.into_iter().map(certificate).collect(),
        alpn_protocols: HTTP_ALPN.iter().map(|name| (*name).to_owned()).collect(),
        validation_context_type: validation.map(ValidationContextType::ValidationContext),
        ..Default::default()
    })
}

fn certificate((chain, key): (&str, &str)) -> TlsCertificate {
    TlsCertificate {
        certificate_chain: Some(file(chain)),
        private_key: Some(file(key)),
        ..Default::default()
    }
}

fn versions(settings: &ServerTlsSettings) -> TlsParameters {
    let version = |asked: Version, default: i32| match asked {
        Version::Auto => default,
        Version::V1_0 => TlsProtocol::TlSv10 as i32,
        Version::V1_1 => TlsProtocol::TlSv11 as i32,
        Version::V1_2 => TlsProtocol::TlSv12 as i32,
        Version::V1_3 => TlsProtocol::TlSv13 as i32,
    };
    let default = params();
    TlsParameters {
        tls_minimum_protocol_version: version(
            settings.min_protocol_version,
            default.tls_minimum_protocol_version,
        ),
        tls_maximum_protocol_version: version(
            settings.max_protocol_version,
            default.tls_maximum_protocol_version,
        ),
        cipher_suites: settings.cipher_suites.clone(),
        ecdh_curves: settings.ecdh_curves.clone(),
        ..default
    }
}

fn file(path: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::Filename(path.to_owned())),
        ..Default::default()
    }
}

fn downstream(context: &DownstreamTlsContext) -> TransportSocket {
    socket("envoy.transport_sockets.tls", plain_any(context))
}
