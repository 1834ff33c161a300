//! How Mixer reaches an adapter outside its process (istio.policy.v1beta1.Connection).

use std::collections::BTreeMap;

use crate::Duration;
use crate::api::{api, api_enum};

api! {
    /// Where an adapter listens.
    pub struct Connection {
        address: String,
        timeout: Option<Duration>,
        authentication: Option<Authentication>,
    }

    /// How the adapter and Mixer know each other.
    #[schemars(extend("x-oneof" = [["tls", "mutual"]]))]
    pub struct Authentication {
        tls: Option<Tls>,
        mutual: Option<Mutual>,
    }

    /// TLS, with a token for Mixer.
    #[schemars(extend("x-oneof" = [["tokenPath", "oauth"], ["authHeader", "customHeader"]]))]
    pub struct Tls {
        ca_certificates: String,
        token_path: Option<String>,
        oauth: Option<OAuth>,
        auth_header: Option<AuthHeader>,
        custom_header: Option<String>,
        server_name: String,
    }

    /// Where a token is had from.
    pub struct OAuth {
        client_id: String,
        client_secret: String,
        token_url: String,
        scopes: Vec<String>,
        endpoint_params: BTreeMap<String, String>,
    }

    /// Mutual TLS.
    pub struct Mutual {
        private_key: String,
        client_certificate: String,
        ca_certificates: String,
        server_name: String,
    }
}

api_enum! {
    /// How a token is sent.
    pub enum AuthHeader {
        #[default]
        Plain = "PLAIN",
        Bearer = "BEARER",
    }
}
