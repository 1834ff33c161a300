//! The certificates of a dump. Private keys are not in dumps: Envoy leaves them out. Pure; the time comes in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::pem::Pem;
use x509_parser::time::ASN1Time;

use super::dump::{Entry, text};

pub(crate) const HEAD: [&str; 7] = [
    "RESOURCE NAME",
    "TYPE",
    "STATUS",
    "VALID CERT",
    "SERIAL NUMBER",
    "NOT AFTER",
    "NOT BEFORE",
];

/// A row for each certificate; one without where there is none yet.
pub(crate) fn rows(entry: &Entry, now: ASN1Time) -> Vec<Vec<String>> {
    let found = [
        ("Cert Chain", "/tls_certificate/certificate_chain"),
        ("CA", "/validation_context/trusted_ca"),
    ];
    let begin = |kind: &str| {
        [&*entry.name, kind, entry.state.word()]
            .map(str::to_owned)
            .to_vec()
    };
    let mut rows = Vec::new();
    for (kind, pointer) in found {
        let Some(source) = entry.config.pointer(pointer) else {
            continue;
        };
        let pem = bytes(source);
        for cells in Pem::iter_from_buffer(&pem)
            .map_while(Result::ok)
            .map(|one| certificate(&one, now))
        {
            rows.push([begin(kind), cells].concat());
        }
    }
    if rows.is_empty() {
        rows.push(begin(""));
    }
    rows
}

/// What a `DataSource` holds; nothing where it names a file.
fn bytes(source: &Value) -> Vec<u8> {
    match text(source, "/inline_string") {
        "" => STANDARD.decode(text(source, "/inline_bytes")).unwrap_or_default(),
        text => text.as_bytes().to_vec(),
    }
}

fn certificate(pem: &Pem, now: ASN1Time) -> Vec<String> {
    let Ok(certificate) = pem.parse_x509() else {
        return vec!["not a certificate".to_owned()];
    };
    let validity = certificate.validity();
    let serial: String = certificate
        .raw_serial()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    vec![
        validity.is_valid_at(now).to_string(),
        serial,
        time(validity.not_after),
        time(validity.not_before),
    ]
}

/// RFC 3339.
fn time(time: ASN1Time) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    time.to_datetime().format(format).unwrap_or_default()
}
