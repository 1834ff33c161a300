//! TLS errors as sentences: rustls' own texts show Rust structures.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, OtherError};

/// What went wrong in a handshake, in words for an operator.
pub(crate) fn explain(error: &io::Error) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    tls.map_or_else(|| error.to_string(), explain_tls)
}

fn explain_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => {
            format!("the peer's certificate is refused: {}", certificate(error))
        }
        Error::AlertReceived(alert) => format!("the peer ended the handshake: {}", alert_text(*alert)),
        Error::NoCertificatesPresented => "the peer showed no certificate".into(),
        Error::InvalidMessage(_) => "the peer does not speak TLS".into(),
        other => other.to_string(),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Other(OtherError(ours)) => ours.to_string(),
        CertificateError::UnknownIssuer => "it was issued by no root of the trust bundle".into(),
        CertificateError::BadSignature => "its signature does not verify".into(),
        CertificateError::BadEncoding => "it is not a valid X.509 certificate".into(),
        other => other.to_string(),
    }
}

fn alert_text(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA => "our certificate is issued by no root that it trusts".into(),
        AlertDescription::CertificateExpired => "our certificate has expired by its clock".into(),
        AlertDescription::CertificateRequired => "it demands a certificate, and we showed none".into(),
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => format!("it does not accept our certificate (alert {alert:?})"),
        other => format!("alert {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rust_structures_are_shown() {
        let said = |error: Error| explain(&io::Error::other(error));
        assert!(said(CertificateError::UnknownIssuer.into()).contains("no root of the trust bundle"));
        assert!(said(Error::AlertReceived(AlertDescription::UnknownCA)).contains("no root that it trusts"));
        let plain = rustls::InvalidMessage::InvalidContentType;
        assert!(said(Error::InvalidMessage(plain)).contains("does not speak TLS"));
        assert_eq!(explain(&io::Error::other("x")), "x");
    }
}
