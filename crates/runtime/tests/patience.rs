//! Clients that keep a connection and do nothing with it: they are cut, whatever HTTP/2's keep-alive thinks of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::get;
use runtime::Context;
use runtime::grpc::{self, Limits};
use runtime::logging::LogHandle;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tonic::service::Routes;

const LONG: Duration = Duration::from_secs(20);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn limits() -> Limits {
    Limits {
        handshake: Duration::from_millis(500),
        blocked: Duration::from_millis(500),
        ..Limits::default()
    }
}

/// More than any window takes.
fn endless() -> Body {
    Body::from_stream(futures::stream::repeat_with(|| {
        Ok::<_, Infallible>("x".repeat(64 << 10))
    }))
}

async fn start(tls: Option<Arc<ServerConfig>>) -> (SocketAddr, Context) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let context = Context::new("test", LogHandle::detached(), Duration::from_secs(1));
    let stuck = |request: Request| async move {
        grpc::cut(request.extensions()).unwrap().cancel();
        endless()
    };
    let routes = Router::new()
        .route("/endless", get(|| async { endless() }))
        .route("/stuck", get(stuck));
    let served = context.clone();
    tokio::spawn(async move {
        grpc::serve("test", listener, tls, Routes::from(routes), &limits(), &served)
            .await
            .unwrap();
    });
    (address, context)
}

/// Waits until one connection was cut for that reason and none is open.
async fn cut(context: &Context, reason: &str) {
    let cut = format!(
        "argosy_grpc_connections_cut_total{{service=\"test\",listener=\"test\",reason=\"{reason}\"}} 1"
    );
    let closed = "argosy_grpc_connections{service=\"test\",listener=\"test\"} 0";
    let wait = async {
        while ![cut.as_str(), closed]
            .iter()
            .all(|line| context.metrics.encode().contains(line))
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let came = timeout(LONG, wait).await;
    assert!(came.is_ok(), "{reason}: {}", context.metrics.encode());
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// A client's first bytes: it asks for `path` and gives the largest windows (RFC 9113, section 6; RFC 7541, section 6).
fn asks(path: &str) -> Vec<u8> {
    let windows = frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    let connection = frame(8, 0, 0, &[0x7f, 0, 0, 0]);
    let mut headers = vec![0x82, 0x86, 0x01, 1, b'x', 0x04, u8::try_from(path.len()).unwrap()];
    headers.extend(path.as_bytes());
    [PREFACE, &windows, &connection, &frame(1, 5, 1, &headers)].concat()
}

#[tokio::test]
async fn who_says_nothing_after_the_tls_handshake_is_cut() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let (address, context) = start(Some(Arc::new(server))).await;
    let mut roots = RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = TlsConnector::from(Arc::new(client))
        .connect(name, tcp)
        .await
        .unwrap();
    tls.write_all(&PREFACE[..10]).await.unwrap();
    tls.flush().await.unwrap();
    cut(&context, "silent").await;
}

#[tokio::test]
async fn bytes_that_drip_are_no_preface() {
    let (address, context) = start(None).await;
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let drip = tokio::spawn(async move {
        for byte in PREFACE {
            _ = write.write_all(&[*byte]).await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    cut(&context, "silent").await;
    _ = timeout(LONG, read.read_to_end(&mut Vec::new()))
        .await
        .expect("it ends");
    drip.abort();
}

#[tokio::test]
async fn who_reads_nothing_is_cut_and_who_reads_is_not() {
    let (address, context) = start(None).await;
    let mut deaf = TcpStream::connect(address).await.unwrap();
    deaf.write_all(&asks("/endless")).await.unwrap();
    cut(&context, "blocked").await;
    let mut reader = TcpStream::connect(address).await.unwrap();
    reader.write_all(&asks("/endless")).await.unwrap();
    let (mut bytes, began) = (vec![0; 1 << 20], tokio::time::Instant::now());
    // For longer than a reader may pause.
    while began.elapsed() < limits().blocked * 3 {
        let read = timeout(LONG, reader.read(&mut bytes))
            .await
            .expect("bytes")
            .unwrap();
        assert!(read > 0, "a client that reads was cut");
    }
}

#[tokio::test]
async fn a_service_can_cut_a_clients_connection() {
    let (address, context) = start(None).await;
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&asks("/stuck")).await.unwrap();
    cut(&context, "stuck").await;
    _ = timeout(LONG, client.read_to_end(&mut Vec::new()))
        .await
        .expect("it ends");
}
