//! What is known of a Secret without its keys. Citadel, which alone reads Secrets, publishes it for analysis.

use crate::api::api;

api! {
    /// Facts about the Secret of the same name and namespace.
    pub struct SecretFacts {
        spec: SecretFactsSpec,
    }

    /// What a Secret has, as far as it may be known.
    pub struct SecretFactsSpec {
        /// Opaque (when empty), kubernetes.io/tls and so on.
        r#type: String,
        /// The names of its keys that have a value.
        keys: Vec<String>,
        /// The certificates in it, in the order of keys and, of each, in the order of the file.
        certificates: Vec<CertificateFacts>,
        /// Whether the private key belongs to the certificate; absent when one of them is not there.
        key_matches: Option<bool>,
        /// Why something in it cannot be read, in words that show nothing of it.
        problems: Vec<String>,
    }

    /// What a certificate says of itself.
    #[schemars(extend("required" = ["key"]))]
    pub struct CertificateFacts {
        /// The Secret's key that has it, such as `tls.crt`.
        key: String,
        /// The subject, as RFC 4514 writes it.
        subject: String,
        /// The issuer, as RFC 4514 writes it.
        issuer: String,
        /// The serial number in hexadecimal.
        serial: String,
        dns_names: Vec<String>,
        ip_addresses: Vec<String>,
        uris: Vec<String>,
        /// Seconds since 1970 from which it holds.
        not_before: i64,
        /// Seconds since 1970 until which it holds.
        not_after: i64,
        /// Whether it may issue certificates.
        is_ca: bool,
    }
}
