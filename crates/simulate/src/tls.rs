//! Whether client and filter chain agree on TLS.

use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::listener::v3::FilterChain;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;

use crate::call::{Call, Tls};
use crate::resources::unpack;
use crate::verdict::Refusal;

/// What a chain says about TLS.
pub(crate) enum Terminates {
    /// Bytes go on as they are.
    No,
    /// It ends TLS with the certificate of this SDS name (empty for one in the configuration).
    Yes {
        certificate: String,
        demands_client: bool,
    },
}

pub(crate) fn of(chain: &FilterChain) -> Terminates {
    let Some(socket) = &chain.transport_socket else {
        return Terminates::No;
    };
    let context = match &socket.config_type {
        Some(ConfigType::TypedConfig(any)) => unpack::<DownstreamTlsContext>(any),
        None => None,
    };
    let context = context.unwrap_or_default();
    let common = context.common_tls_context.unwrap_or_default();
    let secret = common.tls_certificate_sds_secret_configs.first();
    Terminates::Yes {
        certificate: secret.map(|secret| secret.name.clone()).unwrap_or_default(),
        demands_client: context
            .require_client_certificate
            .is_some_and(|demands| demands.value),
    }
}

impl Terminates {
    /// Why a client's connection fails, if it does.
    pub(crate) fn check(&self, call: &Call) -> Result<(), (Refusal, String)> {
        let Terminates::Yes {
            certificate,
            demands_client,
        } = self
        else {
            return Ok(());
        };
        match call.tls {
            Tls::Plaintext => Err((
                Refusal::TlsError,
                "the filter chain ends TLS and the client sends plaintext".to_owned(),
            )),
            Tls::Tls if *demands_client => Err((
                Refusal::MtlsError,
                "the filter chain demands a client's certificate".to_owned(),
            )),
            Tls::Mtls if !demands_client || *certificate != call.server_certificate => Err((
                Refusal::MtlsError,
                format!(
                    "the server presents certificate {certificate:?}; the client accepts {:?} under mutual TLS",
                    call.server_certificate
                ),
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Terminates::No => "TLS, if any, is not ended here".to_owned(),
            Terminates::Yes {
                certificate,
                demands_client,
            } => {
                let kind = if *demands_client { "mutual TLS" } else { "TLS" };
                format!("ends {kind} with certificate {certificate:?}")
            }
        }
    }
}
