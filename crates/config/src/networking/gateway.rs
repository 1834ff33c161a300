//! Gateway: ports that proxies at the mesh's edge open.

use std::collections::BTreeMap;

use crate::api::{api, api_enum};

api! {
    /// Servers opened by the workloads that `selector` chooses.
    pub struct Gateway {
        servers: Vec<Server>,
        /// Labels of the workloads (proxies) that open the servers.
        selector: BTreeMap<String, String>,
    }

    /// One open port and the hosts that it serves.
    #[schemars(extend("required" = ["port", "hosts"]))]
    pub struct Server {
        port: Option<Port>,
        /// IP or Unix socket (`unix:///…`, `unix://@…`) to listen on; all addresses when empty.
        bind: String,
        hosts: Vec<String>,
        tls: Option<ServerTlsSettings>,
        default_endpoint: String,
        name: String,
    }

    /// A port of a server.
    #[schemars(extend("required" = ["number", "protocol", "name"]))]
    pub struct Port {
        number: u32,
        protocol: String,
        name: String,
        /// Deprecated, without effect.
        target_port: u32,
    }

    /// TLS towards clients.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::ONE_CERTIFICATE])))]
    pub struct ServerTlsSettings {
        https_redirect: bool,
        mode: ServerTlsMode,
        server_certificate: String,
        private_key: String,
        ca_certificates: String,
        ca_crl: String,
        credential_name: String,
        #[schemars(length(min = 1, max = 2))]
        credential_names: Vec<String>,
        ca_cert_credential_name: String,
        #[schemars(length(min = 1, max = 2))]
        tls_certificates: Vec<TlsCertificate>,
        subject_alt_names: Vec<String>,
        verify_certificate_spki: Vec<String>,
        verify_certificate_hash: Vec<String>,
        min_protocol_version: TlsProtocol,
        max_protocol_version: TlsProtocol,
        cipher_suites: Vec<String>,
        ecdh_curves: Vec<String>,
        insecure_skip_verify: Option<bool>,
    }

    /// Certificate and key as files.
    pub struct TlsCertificate {
        server_certificate: String,
        private_key: String,
        ca_certificates: String,
    }
}

api_enum! {
    /// How a server secures its connections.
    pub enum ServerTlsMode {
        #[default]
        Passthrough = "PASSTHROUGH",
        Simple = "SIMPLE",
        Mutual = "MUTUAL",
        AutoPassthrough = "AUTO_PASSTHROUGH",
        IstioMutual = "ISTIO_MUTUAL",
        OptionalMutual = "OPTIONAL_MUTUAL",
    }

    /// Versions of TLS.
    pub enum TlsProtocol {
        #[default]
        Auto = "TLS_AUTO",
        V1_0 = "TLSV1_0",
        V1_1 = "TLSV1_1",
        V1_2 = "TLSV1_2",
        V1_3 = "TLSV1_3",
    }
}
