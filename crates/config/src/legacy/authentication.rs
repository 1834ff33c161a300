//! authentication.istio.io/v1alpha1: Policy and MeshPolicy, replaced by PeerAuthentication and RequestAuthentication.

use std::collections::BTreeMap;

use crate::api::{api, api_enum};

api! {
    /// How callers of services authenticate. MeshPolicy has the same fields.
    pub struct Policy {
        targets: Vec<TargetSelector>,
        peers: Vec<PeerAuthenticationMethod>,
        peer_is_optional: bool,
        origins: Vec<OriginAuthenticationMethod>,
        origin_is_optional: bool,
        principal_binding: PrincipalBinding,
    }

    /// A service, by its short name, and its ports.
    pub struct TargetSelector {
        name: String,
        labels: BTreeMap<String, String>,
        ports: Vec<TargetPort>,
    }

    /// A port by number or name.
    #[schemars(extend("x-oneof" = [["number", "name"]]))]
    pub struct TargetPort {
        number: Option<u32>,
        name: Option<String>,
    }

    /// How a peer is authenticated.
    #[schemars(extend("x-oneof" = [["mtls", "jwt"]]))]
    pub struct PeerAuthenticationMethod {
        mtls: Option<MutualTls>,
        jwt: Option<Jwt>,
    }

    /// How the request's origin is authenticated.
    pub struct OriginAuthenticationMethod {
        jwt: Option<Jwt>,
    }

    /// Mutual TLS.
    pub struct MutualTls {
        /// Deprecated: TLS without a client certificate is enough.
        allow_tls: bool,
        mode: MutualTlsMode,
    }

    /// An issuer's tokens.
    pub struct Jwt {
        issuer: String,
        audiences: Vec<String>,
        jwks_uri: String,
        jwks: String,
        jwt_headers: Vec<String>,
        jwt_params: Vec<String>,
        trigger_rules: Vec<TriggerRule>,
    }

    /// For which paths tokens are looked at.
    pub struct TriggerRule {
        excluded_paths: Vec<PathMatch>,
        included_paths: Vec<PathMatch>,
    }

    /// How a path is compared.
    #[schemars(extend("x-oneof" = [["exact", "prefix", "suffix", "regex"]]))]
    pub struct PathMatch {
        exact: Option<String>,
        prefix: Option<String>,
        suffix: Option<String>,
        regex: Option<String>,
    }
}

api_enum! {
    /// Which identity is the request's principal.
    pub enum PrincipalBinding {
        #[default]
        UsePeer = "USE_PEER",
        UseOrigin = "USE_ORIGIN",
    }

    /// Mutual TLS modes.
    pub enum MutualTlsMode {
        #[default]
        Strict = "STRICT",
        Permissive = "PERMISSIVE",
    }
}
