//! Certificates for a Redis that speaks TLS, as they are in the files that a handler names.

use std::path::Path;

use ::redis::{ClientTlsConfig, TlsCertificates};
use policy::Security;

/// Longest file of certificates, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// PEM of authorities, and of Mixer's own certificate and key; nothing of it where the system's authorities count.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Certificates {
    authorities: Option<Vec<u8>>,
    own: Option<(Vec<u8>, Vec<u8>)>,
}

impl Certificates {
    /// Reads the files below Mixer's folder of them. Blocks.
    pub(super) fn read(security: &Security, folder: Option<&Path>) -> Result<Self, String> {
        let Security::Files(files) = security else {
            return Ok(Self {
                authorities: None,
                own: None,
            });
        };
        let folder =
            folder.ok_or("tls: Mixer has no folder of certificates; start it with --handler-certificates")?;
        let read = |name: &String| pem(&folder.join(name)).map_err(|why| format!("{name}: {why}"));
        let own = files.own.as_ref();
        let own = own.map(|(certificate, key)| Ok::<_, String>((read(certificate)?, read(key)?)));
        Ok(Self {
            authorities: Some(read(&files.authorities)?),
            own: own.transpose()?,
        })
    }

    /// As the client library takes them.
    pub(super) fn client(&self) -> TlsCertificates {
        TlsCertificates {
            client_tls: self.own.clone().map(|(client_cert, client_key)| ClientTlsConfig {
                client_cert,
                client_key,
            }),
            root_cert: self.authorities.clone(),
        }
    }
}

fn pem(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    match size > MAX_BYTES {
        true => Err(format!("is longer than {MAX_BYTES} bytes")),
        false => std::fs::read(path).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use policy::{RedisPlace, RedisServer, Tls};
    use rcgen::{CertificateParams, KeyPair};

    use super::super::Stores;
    use super::*;

    #[tokio::test]
    async fn certificates_that_were_replaced_are_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let issue = || {
            let key = KeyPair::generate().unwrap();
            let own = CertificateParams::default().self_signed(&key).unwrap();
            std::fs::write(folder.path().join("ca.pem"), own.pem()).unwrap();
        };
        issue();
        let server = RedisServer {
            place: RedisPlace::Server("127.0.0.1:1".into()),
            connections: 1,
            security: Some(Security::Files(Tls {
                authorities: "ca.pem".into(),
                own: None,
                server_name: None,
            })),
        };
        let stores = Stores::new(Duration::from_millis(15), Some(folder.path().to_owned()));
        assert_eq!(stores.keep(&[Arc::new(server.clone())]), []);
        let first = stores.of(&server).unwrap();
        stores.refresh();
        assert!(
            Arc::ptr_eq(&first, &stores.of(&server).unwrap()),
            "nothing changed"
        );
        issue();
        stores.refresh();
        assert!(!Arc::ptr_eq(&first, &stores.of(&server).unwrap()));
        // What cannot be read changes nothing.
        let second = stores.of(&server).unwrap();
        std::fs::remove_file(folder.path().join("ca.pem")).unwrap();
        stores.refresh();
        assert!(Arc::ptr_eq(&second, &stores.of(&server).unwrap()));
    }
}
