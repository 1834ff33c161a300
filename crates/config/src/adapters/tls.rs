//! TLS to the backend of a handler: which files Mixer proves it by. Files are named relative to the folder that Mixer's flag
//! `--handler-certificates` gives, so that a handler can read no other.

use std::path::{Component, Path};

use crate::mixer::{Authentication, Connection};
use serde::Deserialize;

use super::params::Problem;

/// How a backend and Mixer know each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tls {
    /// PEM of the authorities that sign the backend's certificate.
    pub authorities: String,
    /// PEM of Mixer's certificate, with its chain, and of its key; without them it shows none.
    pub own: Option<(String, String)>,
    /// The name that the backend's certificate must have, where it is not the address'.
    pub server_name: Option<String>,
}

/// `tls` of a handler's parameters, with the names of Istio's `connection.authentication`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    ca_certificates: String,
    client_certificate: String,
    private_key: String,
    server_name: String,
}

/// Reads `tls`.
pub(super) fn read(params: Option<Params>) -> Result<Option<Tls>, Problem> {
    params
        .map(tls)
        .transpose()
        .map_err(|problem| problem.below("tls"))
}

impl Tls {
    /// What a handler's `connection.authentication` asks for; none where it asks for nothing.
    ///
    /// # Errors
    /// What is not served, or names no file.
    pub fn of_connection(connection: &Connection) -> Result<Option<Self>, Problem> {
        let Some(authentication) = &connection.authentication else {
            return Ok(None);
        };
        let below = |problem: Problem| problem.below("connection.authentication");
        given(authentication).and_then(tls).map(Some).map_err(below)
    }
}

fn given(authentication: &Authentication) -> Result<Params, Problem> {
    match (&authentication.tls, &authentication.mutual) {
        (Some(tls), None) => {
            let token = [
                ("tokenPath", tls.token_path.is_some()),
                ("oauth", tls.oauth.is_some()),
                ("authHeader", tls.auth_header.is_some()),
                ("customHeader", tls.custom_header.is_some()),
            ];
            if let Some((field, _)) = token.iter().find(|(_, given)| *given) {
                let message = "is not served yet: Mixer shows no token; use mutual";
                return Err(Problem::new(format!("tls.{field}"), message));
            }
            Ok(Params {
                ca_certificates: tls.ca_certificates.clone(),
                server_name: tls.server_name.clone(),
                ..Params::default()
            })
        }
        (None, Some(mutual)) => Ok(Params {
            ca_certificates: mutual.ca_certificates.clone(),
            client_certificate: mutual.client_certificate.clone(),
            private_key: mutual.private_key.clone(),
            server_name: mutual.server_name.clone(),
        }),
        _ => Err(Problem::new("", "needs tls or mutual")),
    }
}

fn tls(params: Params) -> Result<Tls, Problem> {
    let own = match (params.client_certificate.as_str(), params.private_key.as_str()) {
        ("", "") => None,
        ("", _) => return Err(Problem::new("clientCertificate", "is needed beside privateKey")),
        (_, "") => return Err(Problem::new("privateKey", "is needed beside clientCertificate")),
        (certificate, key) => Some((file("clientCertificate", certificate)?, file("privateKey", key)?)),
    };
    Ok(Tls {
        authorities: file("caCertificates", &params.ca_certificates)?,
        own,
        server_name: Some(params.server_name).filter(|name| !name.is_empty()),
    })
}

fn file(path: &str, given: &str) -> Result<String, Problem> {
    let plain = |component: Component<'_>| matches!(component, Component::Normal(_));
    if given.is_empty() || given.len() > super::MAX_TEXT || !Path::new(given).components().all(plain) {
        let message =
            format!("{given:?} is not the name of a file in the folder of Mixer's --handler-certificates");
        return Err(Problem::new(path, message));
    }
    Ok(given.to_owned())
}
