//! The mark that an authority was plugged in, in the Secret of its notes: a cluster that has it is no new one, even when nothing
//! was ever revoked. Pure.

use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use super::authority::Values;
use crate::ca::CERT_FILE;
use crate::ca::folder::fingerprint;

/// Its name in the Secret, and in the folder of notes.
pub(super) const FILE: &str = "plugged.json";

#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    /// SHA-256 of the first root, hexadecimal.
    root: String,
}

/// The mark of the authority with these files; `None` when they have no root.
pub(super) fn of(files: &Values) -> Option<String> {
    let pem = files.get(CERT_FILE)?;
    let first = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let root = fingerprint(&first);
    serde_json::to_string_pretty(&Mark { root }).ok()
}

/// The root by whose fingerprint (SHA-256, hexadecimal) a lost authority can be told among backups, as notes have it.
pub(super) fn root(notes: &Secret) -> Option<String> {
    let text = notes.data.as_ref()?.get(FILE)?;
    let mark: Mark = serde_json::from_slice(&text.0).ok()?;
    let fits = mark.root.len() == 64 && mark.root.bytes().all(|byte| byte.is_ascii_hexdigit());
    fits.then_some(mark.root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use zeroize::Zeroizing;

    fn secret(text: &str) -> Secret {
        let data = [(FILE.to_owned(), ByteString(text.as_bytes().to_vec()))];
        Secret {
            data: Some(data.into()),
            ..Secret::default()
        }
    }

    #[test]
    fn a_mark_names_the_root_that_it_was_made_of() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let files = |pem: String| Values::from([(CERT_FILE.to_owned(), Zeroizing::new(pem.into_bytes()))]);
        let mark = of(&files(certificate.pem())).unwrap();
        assert_eq!(root(&secret(&mark)), Some(fingerprint(certificate.der())));
        assert_eq!(of(&files("rubbish".into())), None);
        for other in ["", "{}", r#"{"root": "<b>"}"#] {
            assert_eq!(root(&secret(other)), None, "{other}");
        }
        assert_eq!(root(&Secret::default()), None);
    }
}
