//! ReferenceGrant and BackendTLSPolicy.

use std::collections::BTreeMap;

use super::ParametersReference;
use crate::api::{api, api_enum};

api! {
    /// gateway.networking.k8s.io ReferenceGrant: references into its namespace that are allowed.
    #[schemars(extend("required" = ["spec"]))]
    pub struct ReferenceGrant {
        spec: ReferenceGrantSpec,
    }

    /// From where to what.
    #[schemars(extend("required" = ["from", "to"]))]
    pub struct ReferenceGrantSpec {
        #[schemars(length(min = 1, max = 16))]
        from: Vec<ReferenceGrantFrom>,
        #[schemars(length(min = 1, max = 16))]
        to: Vec<ReferenceGrantTo>,
    }

    /// Objects that may refer.
    #[schemars(extend("required" = ["group", "kind", "namespace"]))]
    pub struct ReferenceGrantFrom {
        group: Option<String>,
        #[schemars(length(min = 1))]
        kind: String,
        #[schemars(length(min = 1))]
        namespace: String,
    }

    /// Objects that may be referred to; all of the kind when `name` is empty.
    #[schemars(extend("required" = ["group", "kind"]))]
    pub struct ReferenceGrantTo {
        group: Option<String>,
        #[schemars(length(min = 1))]
        kind: String,
        name: String,
    }

    /// gateway.networking.k8s.io BackendTLSPolicy: TLS towards backends.
    #[schemars(extend("required" = ["spec"]))]
    pub struct BackendTlsPolicy {
        spec: BackendTlsPolicySpec,
    }

    /// For which backends, and how they are verified.
    #[schemars(extend("required" = ["targetRefs", "validation"]))]
    pub struct BackendTlsPolicySpec {
        #[schemars(length(min = 1, max = 16))]
        target_refs: Vec<SectionReference>,
        validation: BackendTlsValidation,
        #[schemars(extend("maxProperties" = 16))]
        options: BTreeMap<String, String>,
    }

    /// An object of the own namespace, or a part of it.
    #[schemars(extend("required" = ["group", "kind", "name"]))]
    pub struct SectionReference {
        group: Option<String>,
        kind: String,
        name: String,
        section_name: String,
    }

    /// Which certificate a backend must show.
    #[schemars(extend("required" = ["hostname"]))]
    pub struct BackendTlsValidation {
        #[schemars(length(max = 8))]
        ca_certificate_refs: Vec<ParametersReference>,
        /// System, or a name with a domain; excludes `caCertificateRefs`.
        #[serde(rename = "wellKnownCACertificates")]
        well_known_ca_certificates: String,
        #[schemars(length(min = 1, max = 253))]
        hostname: String,
        #[schemars(length(max = 5))]
        subject_alt_names: Vec<BackendSubjectAltName>,
    }

    /// A name that the certificate may have; `type` says which of the fields holds it.
    #[schemars(extend("required" = ["type"]))]
    pub struct BackendSubjectAltName {
        r#type: Option<SubjectAltNameType>,
        hostname: String,
        uri: String,
    }
}

api_enum! {
    /// Kinds of names in a certificate.
    pub enum SubjectAltNameType {
        #[default]
        Hostname = "Hostname",
        Uri = "URI",
    }
}
