//! The root that Istio made for itself: the Secret `istio-ca-secret` (`istio.io/ca-root`, with `ca-key.pem` and `ca-cert.pem`; see
//! Istio, "Plug in CA certificates"). Where there is no authority yet, it becomes the first one, so that whoever moves from Istio
//! keeps the root that all workloads trust. The Secret is read, never written.

use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::authority::{Values, values};
use crate::ca::{CERT_FILE, KEY_FILE, is_key_of};

/// Its name.
pub(super) const SECRET: &str = "istio-ca-secret";

/// The files of an authority with this root; the error says what is wrong with the Secret.
pub(super) fn files(secret: Secret) -> Result<Values, String> {
    let mut held = values(secret);
    // Istio writes keys without a value as well.
    held.retain(|_, value| !value.is_empty());
    let mut take = |name: &str| held.remove(name).ok_or_else(|| format!("it has no {name}"));
    let (key, mut certificates) = (take("ca-key.pem")?, take("ca-cert.pem")?);
    let signs = CertificateDer::from_pem_slice(&certificates)
        .map_err(|error| format!("ca-cert.pem is no certificate: {error}"))?;
    match is_key_of(&key, Some(&signs)) {
        Ok(true) => {}
        Ok(false) => return Err("ca-key.pem is not the key of ca-cert.pem".to_owned()),
        Err(reason) => return Err(format!("ca-key.pem: {reason}")),
    }
    if let Ok(roots) = take("root-cert.pem")
        && *roots != *certificates
    {
        certificates.push(b'\n');
        certificates.extend_from_slice(&roots);
    }
    Ok(Values::from([
        (KEY_FILE.to_owned(), key),
        (CERT_FILE.to_owned(), certificates),
    ]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    fn root() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        (key.serialize_pem(), params.self_signed(&key).unwrap().pem())
    }

    fn secret(data: &[(&str, &str)]) -> Secret {
        let data: BTreeMap<String, ByteString> = data
            .iter()
            .map(|(name, value)| ((*name).to_owned(), ByteString(value.as_bytes().to_vec())))
            .collect();
        Secret {
            data: Some(data),
            ..Secret::default()
        }
    }

    fn check(data: &[(&str, &str)], expected: Result<&str, &str>) {
        let seen = files(secret(data)).map(|files| String::from_utf8(files[CERT_FILE].to_vec()).unwrap());
        match expected {
            Ok(roots) => assert_eq!(seen.as_deref(), Ok(roots)),
            Err(part) => assert!(seen.as_ref().is_err_and(|said| said.contains(part)), "{seen:?}"),
        }
    }

    #[test]
    fn the_key_and_all_roots_or_why_not() {
        let ((key, cert), (other, root)) = (self::root(), self::root());
        let both = [("ca-key.pem", key.as_str()), ("ca-cert.pem", cert.as_str())];
        let with =
            |more: [(&'static str, &str); 1]| [both[0], both[1], more[0]].map(|(n, v)| (n, v.to_owned()));
        check(&both, Ok(&cert));
        let shown = |all: &[(&'static str, String); 3], expected| {
            let all: Vec<(&str, &str)> = all.iter().map(|(n, v)| (*n, v.as_str())).collect();
            check(&all, expected);
        };
        // As Istio writes it: its other keys are empty, or its root is there twice.
        shown(&with([("root-cert.pem", "")]), Ok(&cert));
        shown(&with([("root-cert.pem", &cert)]), Ok(&cert));
        shown(&with([("root-cert.pem", &root)]), Ok(&format!("{cert}\n{root}")));
        check(&[both[0]], Err("no ca-cert.pem"));
        check(&[("ca-key.pem", &other), both[1]], Err("not the key"));
        check(&[("ca-key.pem", "x"), both[1]], Err("ca-key.pem: "));
        check(&[both[0], ("ca-cert.pem", "x")], Err("no certificate"));
    }
}
