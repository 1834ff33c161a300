//! TLS towards an upstream: which settings each mode needs and excludes.

use crate::networking::{ClientTlsMode, ClientTlsSettings};
use crate::path::At;

/// Checks TLS settings of a client in `namespace`.
pub(super) fn check(tls: &ClientTlsSettings, namespace: &str, at: &At<'_>) {
    super::spiffe::subject_alt_names(&tls.subject_alt_names, &at.key("subjectAltNames"));
    let verifies = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    if let Some(name) = tls.credential_name.strip_prefix("configmap://") {
        let fine = name
            .split_once('/')
            .is_none_or(|(of, name)| of == namespace && !name.is_empty())
            && !name.is_empty();
        at.key("credentialName")
            .require(fine, "must be configmap://NAME, in the object's own namespace");
    }
    if tls.insecure_skip_verify == Some(true) && verifies {
        let files = [
            ("caCertificates", !tls.ca_certificates.is_empty()),
            ("subjectAltNames", !tls.subject_alt_names.is_empty()),
            (
                "credentialName",
                !tls.credential_name.is_empty() && tls.mode == ClientTlsMode::Simple,
            ),
        ];
        for (key, _) in files.iter().filter(|(_, given)| *given) {
            at.key(key)
                .error("of no use with insecureSkipVerify, which turns verification off; remove one of them");
        }
    }
    if verifies && !tls.credential_name.is_empty() {
        let files = [
            ("clientCertificate", &tls.client_certificate),
            ("privateKey", &tls.private_key),
            ("caCertificates", &tls.ca_certificates),
            ("caCrl", &tls.ca_crl),
        ];
        for (key, _) in files.iter().filter(|(_, file)| !file.is_empty()) {
            at.key(key)
                .error("excluded by credentialName, which brings its own");
        }
    } else if tls.mode == ClientTlsMode::Mutual {
        for (key, file) in [
            ("clientCertificate", &tls.client_certificate),
            ("privateKey", &tls.private_key),
        ] {
            at.key(key).require(
                !file.is_empty(),
                "needed by mode MUTUAL, unless credentialName is given",
            );
        }
    }
}
