//! security.istio.io: who may talk to a workload and how the caller is known.
#![allow(
    missing_docs,
    reason = "fields are named and described by Istio's API reference; only the unobvious is noted"
)]

use std::collections::BTreeMap;

use crate::Duration;
use crate::api::{api, api_enum};
use crate::selector::{PolicyTargetReference, WorkloadSelector};

api! {
    /// Access rules for workloads.
    #[schemars(extend(
        "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::ATTACHED_ONCE, crate::cel::PROVIDER_DECIDES, crate::cel::RULES_TO_APPLY])
    ))]
    pub struct AuthorizationPolicy {
        selector: Option<WorkloadSelector>,
        target_ref: Option<PolicyTargetReference>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        /// No rule matches nothing; an empty rule matches all.
        #[schemars(length(max = 512))]
        rules: Vec<Rule>,
        action: Action,
        provider: Option<ExtensionProviderRef>,
    }

    /// The external authorizer of action CUSTOM, by its name in MeshConfig.
    pub struct ExtensionProviderRef {
        name: String,
    }

    /// Matches when a source, an operation and all conditions match.
    pub struct Rule {
        #[schemars(length(max = 512))]
        from: Vec<RuleFrom>,
        to: Vec<RuleTo>,
        when: Vec<Condition>,
    }

    /// Wraps a source.
    #[schemars(extend("required" = ["source"]))]
    pub struct RuleFrom {
        source: Option<Source>,
    }

    /// Wraps an operation.
    #[schemars(extend("required" = ["operation"]))]
    pub struct RuleTo {
        operation: Option<Operation>,
    }

    /// Who sends the request; all fields given must match.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::ACCOUNTS_ALONE])))]
    pub struct Source {
        principals: Vec<String>,
        not_principals: Vec<String>,
        request_principals: Vec<String>,
        not_request_principals: Vec<String>,
        namespaces: Vec<String>,
        not_namespaces: Vec<String>,
        #[schemars(length(max = 16), inner(length(max = 320)))]
        service_accounts: Vec<String>,
        #[schemars(length(max = 16), inner(length(max = 320)))]
        not_service_accounts: Vec<String>,
        trust_domains: Vec<String>,
        not_trust_domains: Vec<String>,
        ip_blocks: Vec<String>,
        not_ip_blocks: Vec<String>,
        remote_ip_blocks: Vec<String>,
        not_remote_ip_blocks: Vec<String>,
    }

    /// What the request does; all fields given must match.
    pub struct Operation {
        hosts: Vec<String>,
        not_hosts: Vec<String>,
        ports: Vec<String>,
        not_ports: Vec<String>,
        methods: Vec<String>,
        not_methods: Vec<String>,
        paths: Vec<String>,
        not_paths: Vec<String>,
    }

    /// A further condition on an attribute.
    #[schemars(extend("required" = ["key"]))]
    pub struct Condition {
        key: String,
        values: Vec<String>,
        not_values: Vec<String>,
    }

    /// Whether workloads demand mutual TLS.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::PORTS_OF_WORKLOADS])))]
    pub struct PeerAuthentication {
        selector: Option<WorkloadSelector>,
        mtls: Option<MutualTls>,
        /// By the workload's port.
        #[schemars(extend("minProperties" = 1, "x-kubernetes-validations" = crate::cel::rules(&[crate::cel::PORT_KEYS])))]
        port_level_mtls: BTreeMap<u32, MutualTls>,
    }

    /// A mutual TLS mode.
    pub struct MutualTls {
        mode: MutualTlsMode,
    }

    /// Which JWTs a workload accepts.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::ATTACHED_ONCE])))]
    pub struct RequestAuthentication {
        selector: Option<WorkloadSelector>,
        target_ref: Option<PolicyTargetReference>,
        #[schemars(length(max = 16))]
        target_refs: Vec<PolicyTargetReference>,
        #[schemars(length(max = 4096))]
        jwt_rules: Vec<JwtRule>,
    }

    /// One issuer's tokens: where they are found and how they are verified.
    #[schemars(extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::KEYS_ONCE]), "x-also" = [["jwksUri", "jwks_uri"]]))]
    pub struct JwtRule {
        #[schemars(length(min = 1))]
        issuer: String,
        #[schemars(inner(length(min = 1)))]
        audiences: Vec<String>,
        #[schemars(length(min = 1, max = 2048), extend("x-kubernetes-validations" = crate::cel::rules(&[crate::cel::BY_HTTP])))]
        jwks_uri: String,
        jwks: String,
        from_headers: Vec<JwtHeader>,
        #[schemars(inner(length(min = 1)))]
        from_params: Vec<String>,
        output_payload_to_header: String,
        #[schemars(inner(length(min = 1)))]
        from_cookies: Vec<String>,
        forward_original_token: bool,
        output_claim_to_headers: Vec<ClaimToHeader>,
        timeout: Option<Duration>,
        presence: Presence,
        #[schemars(length(max = 64), inner(length(min = 1)))]
        space_delimited_claims: Vec<String>,
    }

    /// A header that holds a token, after a prefix.
    #[schemars(extend("required" = ["name"]))]
    pub struct JwtHeader {
        #[schemars(length(min = 1))]
        name: String,
        prefix: String,
    }

    /// A claim copied into a header.
    #[schemars(extend("required" = ["header", "claim"]))]
    pub struct ClaimToHeader {
        #[schemars(length(min = 1), regex(pattern = r"^[-_A-Za-z0-9]+$"))]
        header: String,
        #[schemars(length(min = 1))]
        claim: String,
    }
}

api_enum! {
    /// What a matching rule does.
    pub enum Action {
        #[default]
        Allow = "ALLOW",
        Deny = "DENY",
        Audit = "AUDIT",
        Custom = "CUSTOM",
    }

    /// Mutual TLS modes of a server.
    pub enum MutualTlsMode {
        /// Inherited from the namespace or the mesh; PERMISSIVE when nothing is set there.
        #[default]
        Unset = "UNSET",
        Disable = "DISABLE",
        Permissive = "PERMISSIVE",
        Strict = "STRICT",
    }

    /// Whether a request must carry a token of the rule.
    pub enum Presence {
        #[default]
        Optional = "OPTIONAL",
        Required = "REQUIRED",
    }
}
