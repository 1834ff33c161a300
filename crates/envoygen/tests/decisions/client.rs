//! Sends what a test wants to send, byte by byte as it says.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use authz::{Http, Place, Request, Token};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::mesh::Mesh;
use crate::requests::{Carried, Sent};

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An answer of this status.
    Status(u16),
    /// Nothing.
    Closed,
}

/// Sends in plaintext, and gives the whole answer: its body is the request's head as the application saw it.
pub(crate) fn ask(mesh: &Mesh, workload: usize, sent: &Sent) -> String {
    let stream = connect(mesh, workload, sent);
    exchange(stream, &text(mesh, sent).0)
}

fn connect(mesh: &Mesh, workload: usize, sent: &Sent) -> TcpStream {
    let port = if sent.tcp { 9090 } else { 8080 };
    let stream = TcpStream::connect((mesh.address(workload), port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Sends, and says what was sent as policies see it.
pub(crate) fn send(mesh: &Mesh, workload: usize, sent: &Sent) -> (Request, Answer) {
    send_as(mesh, workload, sent, "-")
}

/// The same with a name by which it is found in the log.
pub(crate) fn send_as(mesh: &Mesh, workload: usize, sent: &Sent, case: &str) -> (Request, Answer) {
    let address = mesh.address(workload);
    let stream = connect(mesh, workload, sent);
    let port = stream.peer_addr().unwrap().port();
    let source_ip = stream.local_addr().unwrap().ip();
    let (text, tokens) = text(mesh, sent);
    let text = text.replacen("\r\n", &format!("\r\nx-case: {case}\r\n"), 1);
    let answer = match sent.peer {
        None => exchange(stream, &text),
        Some(id) => {
            let connection = ClientConnection::new(config(mesh, id), name(sent.sni)).unwrap();
            exchange(StreamOwned::new(connection, stream), &text)
        }
    };
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let answer = status.map_or(Answer::Closed, Answer::Status);
    let of = |ip: &str| ip.parse::<IpAddr>().ok();
    let forwarded = sent.headers.iter().find(|(name, _)| *name == "x-forwarded-for");
    let mut headers = std::collections::BTreeMap::<String, Vec<String>>::new();
    for (name, value) in &sent.headers {
        headers
            .entry((*name).to_owned())
            .or_default()
            .push((*value).to_owned());
    }
    let request = Request {
        peer: sent.peer.map(str::to_owned),
        source_ip,
        remote_ip: forwarded
            .and_then(|(_, ip)| of(ip))
            .filter(|_| !sent.tcp)
            .unwrap_or(source_ip),
        destination_ip: address,
        port,
        sni: if sent.peer.is_some() {
            sent.sni.to_owned()
        } else {
            String::new()
        },
        http: (!sent.tcp).then(|| Http {
            method: sent.method.to_owned(),
            authority: sent.host.to_owned(),
            path: sent.path.to_owned(),
            headers,
            tokens,
        }),
    };
    (request, answer)
}

/// The request's bytes, with the tokens that are in it.
fn text(mesh: &Mesh, sent: &Sent) -> (String, Vec<Token>) {
    let mut path = sent.path.to_owned();
    let mut lines = String::new();
    let mut tokens = Vec::new();
    for Carried {
        place,
        claims,
        genuine,
    } in &sent.tokens
    {
        let signer = if *genuine { &mesh.signer } else { &mesh.stranger };
        let token = signer.sign(claims);
        match place {
            Place::Header(name, prefix) => lines += &format!("{name}: {prefix}{token}\r\n"),
            Place::Cookie(name) => lines += &format!("cookie: {name}={token}\r\n"),
            Place::Param(name) => {
                let and = if path.contains('?') { '&' } else { '?' };
                path += &format!("{and}{name}={token}");
            }
        }
        tokens.push(Token {
            place: place.clone(),
            claims: claims.as_object().unwrap().clone(),
            genuine: *genuine,
        });
    }
    for (name, value) in &sent.headers {
        lines += &format!("{name}: {value}\r\n");
    }
    let text = format!(
        "{} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{lines}\r\n",
        sent.method, sent.host
    );
    (text, tokens)
}

/// Sends a text, each character one byte, and reads to the end.
fn exchange(mut stream: impl Read + Write, text: &str) -> String {
    let bytes: Vec<u8> = text
        .chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect();
    // A refusal may come before all is sent.
    _ = stream.write_all(&bytes).and_then(|()| stream.flush());
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !crate::support::envoy::is_whole(&answer) {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn name(sni: &str) -> ServerName<'static> {
    ServerName::try_from(sni.to_owned()).unwrap()
}

fn config(mesh: &Mesh, id: &str) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let leaf = &mesh.peers[id];
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(vec![SignatureScheme::ECDSA_NISTP256_SHA256])))
        .with_client_auth_cert(leaf.chain.clone(), leaf.private_key())
        .unwrap();
    config.alpn_protocols = ["istio-http/1.1", "istio", "http/1.1"]
        .map(|p| p.as_bytes().to_vec())
        .to_vec();
    Arc::new(config)
}

/// The certificate that a server shows to a client that can verify these signatures.
pub(crate) fn certificate(address: &str, schemes: &[SignatureScheme]) -> CertificateDer<'static> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(schemes.to_vec())))
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name("shop.example")).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    let mut stream = loop {
        match TcpStream::connect(address) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < until, "{address}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    connection.complete_io(&mut stream).unwrap();
    connection.peer_certificates().unwrap()[0].clone().into_owned()
}

/// The test looks at what servers do, not at who they are.
#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
