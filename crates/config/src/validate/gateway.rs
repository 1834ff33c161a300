//! Gateway: its servers, and TLS settings of servers (which Sidecars have too).

use super::common::unique;
use super::fingerprint;
use super::host::{self, Owner};
use crate::networking::{Gateway, Port, Server, ServerTlsMode, ServerTlsSettings, TlsProtocol};
use crate::path::At;
use crate::{Protocol, syntax};

/// Cipher suites that Envoy knows (BoringSSL's names).
const CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// Checks a Gateway.
pub(super) fn check(spec: &Gateway, at: &At<'_>) {
    at.key("servers")
        .require(!spec.servers.is_empty(), "at least one server is needed");
    at.each("servers", &spec.servers, server);
    let names = spec
        .servers
        .iter()
        .map(|server| server.port.as_ref().map_or("", |port| port.name.as_str()));
    unique("servers", names, "the port's name", at);
}

fn server(server: &Server, at: &At<'_>) {
    at.key("hosts")
        .require(!server.hosts.is_empty(), "at least one host is needed");
    at.each("hosts", &server.hosts, |entry, at| {
        host::within_namespace(entry, Owner::Gateway, at)
    });
    at.some("port", server.port.as_ref(), |value, at| {
        port(value, &server.bind, at)
    });
    bind(server, at);
    at.some("tls", server.tls.as_ref(), tls);
    if let Some(protocol) = server
        .port
        .as_ref()
        .and_then(|port| Protocol::parse(&port.protocol))
    {
        tls_of_protocol(server.tls.as_ref(), protocol, at);
        if server.tls.as_ref().is_some_and(|tls| tls.https_redirect) && !protocol.is_http() {
            at.key("tls")
                .key("httpsRedirect")
                .warning("sends clients of plain HTTP elsewhere; on this port it has no effect");
        }
    }
}

fn port(port: &Port, bind: &str, at: &At<'_>) {
    if Protocol::parse(&port.protocol).is_none() {
        let message = format!("{:?} is not a protocol that is known", port.protocol);
        at.key("protocol")
            .error_help(message, format!("use one of {}", Protocol::NAMES));
    }
    if port.number != 0 || !bind.starts_with("unix://") {
        super::common::port(port.number, &at.key("number"));
    }
    if port.target_port != 0 {
        at.key("targetPort")
            .error("has no effect at a gateway; remove it");
    }
    at.key("name").require(!port.name.is_empty(), "must not be empty");
}

fn bind(server: &Server, at: &At<'_>) {
    let at_bind = at.key("bind");
    if let Some(path) = server.bind.strip_prefix("unix://") {
        host::report(host::unix_path(path), &at_bind);
        if server.port.as_ref().is_some_and(|port| port.number != 0) {
            at.key("port")
                .key("number")
                .error("must be 0 where bind is a Unix socket");
        }
    } else if !server.bind.is_empty() && syntax::ip(&server.bind).is_none() {
        at_bind.error(format!(
            "{:?} is neither an IP address nor unix:///PATH",
            server.bind
        ));
    }
}

/// Which protocols need TLS settings, and which have no use for them.
fn tls_of_protocol(tls: Option<&ServerTlsSettings>, protocol: Protocol, at: &At<'_>) {
    let Some(tls) = tls else {
        if protocol.is_tls() {
            at.key("tls")
                .error("needed by a port with the protocol HTTPS or TLS");
        }
        return;
    };
    let at = at.key("tls");
    if tls.https_redirect && !protocol.is_http() {
        at.key("httpsRedirect")
            .warning("has an effect on ports with HTTP only");
    }
    if protocol.is_tls() {
        return;
    }
    let passes = matches!(
        tls.mode,
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough
    );
    let files = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate];
    if !protocol.is_http() {
        at.error("of no use on a port that is neither HTTPS nor TLS; remove it or change port.protocol");
    } else if !passes || files.iter().any(|file| !file.is_empty()) {
        at.error("a port with plain HTTP has no TLS but httpsRedirect; use the protocol HTTPS");
    }
}

/// TLS settings of a server.
pub(super) fn tls(tls: &ServerTlsSettings, at: &At<'_>) {
    ciphers(tls, at);
    at.each(
        "verifyCertificateHash",
        &tls.verify_certificate_hash,
        |hash, at| {
            fingerprint::certificate(hash, at);
        },
    );
    at.each(
        "verifyCertificateSpki",
        &tls.verify_certificate_spki,
        |hash, at| {
            fingerprint::public_key(hash, at);
        },
    );
    super::spiffe::subject_alt_names(&tls.subject_alt_names, &at.key("subjectAltNames"));
    let sources = [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
    ];
    let given: Vec<&str> = sources
        .iter()
        .filter(|(_, given)| *given)
        .map(|(key, _)| *key)
        .collect();
    match tls.mode {
        ServerTlsMode::IstioMutual => {
            for key in given {
                at.key(key)
                    .error("mode ISTIO_MUTUAL uses the mesh's own certificates; remove it");
            }
        }
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            for key in given {
                at.key(key).warning(format!(
                    "mode {} uses no certificates; this has no effect",
                    tls.mode.as_str()
                ));
            }
            one_source(tls, at);
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            one_source(tls, at);
            certificates(tls, at);
        }
    }
}

fn ciphers(tls: &ServerTlsSettings, at: &At<'_>) {
    let old = matches!(tls.min_protocol_version, TlsProtocol::V1_0 | TlsProtocol::V1_1);
    if old && tls.cipher_suites.is_empty() {
        at.key("minProtocolVersion")
            .warning("versions below 1.2 need cipherSuites that work with them");
    }
    if tls.max_protocol_version != TlsProtocol::Auto && tls.min_protocol_version > tls.max_protocol_version {
        at.key("minProtocolVersion").error("is above maxProtocolVersion");
    }
    let mut seen = Vec::new();
    at.each("cipherSuites", &tls.cipher_suites, |suite, at| {
        let special = suite == "ALL" || !suite.starts_with(|c: char| c.is_alphanumeric());
        if !special && !CIPHERS.contains(&suite.as_str()) {
            at.warning(format!(
                "{suite:?} is not a cipher suite that Envoy knows, and is left out"
            ));
        }
    });
    for (index, suite) in tls.cipher_suites.iter().enumerate() {
        if seen.contains(&suite) {
            at.key("cipherSuites")
                .index(index)
                .warning(format!("{suite:?} is given twice"));
        }
        seen.push(suite);
    }
}

/// The server's certificate comes from one place.
fn one_source(tls: &ServerTlsSettings, at: &At<'_>) {
    let sources = [
        !tls.server_certificate.is_empty() && !tls.private_key.is_empty(),
        !tls.credential_name.is_empty(),
        !tls.credential_names.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    if sources.iter().filter(|given| **given).count() > 1 {
        at.error("credentialName, credentialNames, tlsCertificates and serverCertificate exclude one another; keep one");
    }
}

fn certificates(tls: &ServerTlsSettings, at: &At<'_>) {
    if !tls.ca_crl.is_empty() && tls.mode == ServerTlsMode::Simple {
        at.key("caCrl")
            .error("mode SIMPLE looks at no client certificates; use MUTUAL");
    }
    if !tls.credential_name.is_empty() || !tls.credential_names.is_empty() {
        if !tls.ca_crl.is_empty() {
            at.key("caCrl")
                .error("excluded by credentialName, which brings its own");
        }
        return;
    }
    let mode = tls.mode.as_str();
    if tls.mode != ServerTlsMode::Simple
        && tls.ca_certificates.is_empty()
        && tls.ca_cert_credential_name.is_empty()
    {
        at.key("caCertificates")
            .error(format!("mode {mode} needs the roots of client certificates"));
    }
    let needed = |key: &str, file: &str, at: &At<'_>| {
        if file.is_empty() {
            at.key(key).error_help(
                format!("needed by mode {mode}"),
                "give credentialName instead to take it from a secret",
            );
        }
    };
    match tls.tls_certificates.is_empty() {
        true => {
            needed("serverCertificate", &tls.server_certificate, at);
            needed("privateKey", &tls.private_key, at);
        }
        false => at.each("tlsCertificates", &tls.tls_certificates, |pair, at| {
            needed("serverCertificate", &pair.server_certificate, at);
            needed("privateKey", &pair.private_key, at);
        }),
    }
}
