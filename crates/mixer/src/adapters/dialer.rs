//! Connections to a backend: TCP, with TLS where the handler says so. Certificates are read anew for each connection, so that
//! those that were replaced are taken up; the server's is verified by its DNS name or address.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use policy::Tls;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::Kit;

/// How long a TCP connection and a handshake may take together.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection.
pub(super) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Makes connections to one address.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    address: String,
    tls: Option<Arc<Secured>>,
}

#[derive(Debug)]
struct Secured {
    folder: PathBuf,
    files: Tls,
    name: ServerName<'static>,
    alpn: Vec<Vec<u8>>,
}

impl Dialer {
    /// To `HOST:PORT`, speaking one of `protocols` where there is TLS. Files that are not there are told at once.
    pub(super) fn new(
        address: &str,
        tls: Option<&Tls>,
        protocols: &[&str],
        kit: &Kit,
    ) -> Result<Self, String> {
        let secured = tls
            .map(|tls| Secured::new(address, tls, protocols, kit))
            .transpose()?;
        if let Some(secured) = &secured {
            secured.config()?;
        }
        Ok(Self {
            address: address.to_owned(),
            tls: secured.map(Arc::new),
        })
    }

    /// A connection.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {LIMIT:?}"));
        tokio::time::timeout(LIMIT, self.dial()).await.map_err(late)?
    }

    async fn dial(&self) -> io::Result<Stream> {
        let tcp = TcpStream::connect(&self.address).await?;
        // Small messages must not wait for the other side's ACK; failure to set this only costs latency.
        let _ = tcp.set_nodelay(true);
        let Some(secured) = self.tls.clone() else {
            return Ok(Either::Left(tcp));
        };
        let (name, reading) = (secured.name.clone(), secured.clone());
        let config = tokio::task::spawn_blocking(move || reading.config()).await?;
        let config = config.map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        Ok(Either::Right(Box::new(tls)))
    }
}

impl Secured {
    fn new(address: &str, tls: &Tls, protocols: &[&str], kit: &Kit) -> Result<Self, String> {
        let folder = kit
            .certificates
            .clone()
            .ok_or("tls: Mixer has no folder of certificates; start it with --handler-certificates")?;
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let name = tls
            .server_name
            .as_deref()
            .unwrap_or(host)
            .trim_matches(['[', ']']);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("tls.serverName: {name:?} is no DNS name and no address"))?;
        Ok(Self {
            folder,
            files: tls.clone(),
            name,
            alpn: protocols.iter().map(|name| name.as_bytes().to_vec()).collect(),
        })
    }

    /// The configuration by the files as they are now. Blocks.
    fn config(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.folder, &self.files.authorities)? {
            let bad = |error: rustls::Error| format!("{}: {error}", self.files.authorities);
            roots.add(root).map_err(bad)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match &self.files.own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = certificates(&self.folder, chain)?;
                let own = PrivateKeyDer::from_pem_file(self.folder.join(key));
                let own = own.map_err(|error| format!("{key}: {error}"))?;
                builder
                    .with_client_auth_cert(chain, own)
                    .map_err(|error| format!("{key}: {error}"))?
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }
}

/// The certificates of a file, at least one.
fn certificates(folder: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(folder.join(name)).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|error| format!("{name}: {error}"))?;
    match found.is_empty() {
        true => Err(format!("{name}: holds no certificate in PEM")),
        false => Ok(found),
    }
}

impl tower::Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The address is the handler's, whatever the URI.
    fn call(&mut self, _: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.connect().await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use runtime::Metrics;
    use testkit::tls::Authority;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server for `backend.test` that wants a certificate of the same authority and says "hello".
    async fn serve(authority: &Authority) -> String {
        let acceptor = authority.acceptor("backend.test").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    let _ = tls.write_all(b"hello").await;
                    let _ = tls.shutdown().await;
                }
            }
        });
        address
    }

    fn kit(folder: Option<&Path>) -> Kit {
        let args = crate::Args {
            handler_certificates: folder.map(Path::to_owned),
            ..crate::Args::default()
        };
        Kit::new(&args, &Metrics::new())
    }

    /// What is heard by a dialer, or why nothing is.
    async fn heard(address: &str, tls: &Tls, kit: &Kit) -> Result<String, String> {
        let dialer = Dialer::new(address, Some(tls), &[], kit)?;
        let mut stream = dialer.connect().await.map_err(|error| error.to_string())?;
        let mut text = String::new();
        let read = stream.read_to_string(&mut text).await;
        read.map(|_| text).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn both_ends_prove_who_they_are() {
        let (own, other) = (Authority::new().unwrap(), Authority::new().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("ca.pem", own.pem());
        write("other.pem", other.pem());
        write("none.pem", "nothing");
        let (leaf, key) = own.sign("mixer.test").unwrap();
        write("mixer.pem", &leaf);
        write("mixer-key.pem", &key.serialize_pem());
        let address = serve(&own).await;
        let kit_with = kit(Some(folder.path()));
        let tls = Tls {
            authorities: "ca.pem".into(),
            own: Some(("mixer.pem".into(), "mixer-key.pem".into())),
            server_name: Some("backend.test".into()),
        };
        assert_eq!(heard(&address, &tls, &kit_with).await.as_deref(), Ok("hello"));

        let says = async |tls: &Tls, kit: &Kit, expected: &str| {
            let why = heard(&address, tls, kit).await.unwrap_err();
            assert!(why.contains(expected), "{expected}: {why}");
        };
        let with = |change: fn(&mut Tls)| {
            let mut tls = tls.clone();
            change(&mut tls);
            tls
        };
        says(
            &with(|tls| tls.authorities = "other.pem".into()),
            &kit_with,
            "invalid peer certificate",
        )
        .await;
        says(
            &with(|tls| tls.server_name = None),
            &kit_with,
            "not valid for name",
        )
        .await;
        says(&with(|tls| tls.own = None), &kit_with, "CertificateRequired").await;
        says(
            &with(|tls| tls.authorities = "none.pem".into()),
            &kit_with,
            "no certificate in PEM",
        )
        .await;
        says(
            &with(|tls| tls.authorities = "gone.pem".into()),
            &kit_with,
            "gone.pem",
        )
        .await;
        says(&tls, &kit(None), "--handler-certificates").await;
    }
}
