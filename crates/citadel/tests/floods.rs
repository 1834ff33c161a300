//! Floods of HTTP/2 frames against Citadel's port, by callers that nobody knows (CVE-2023-44487, CVE-2024-27316 and their like,
//! ISTIO-SECURITY-2023-004 and 2024-002): the connection ends or waits, and others are served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::sync::Arc;

use runtime::SpiffeId;
use runtime::TrustDomain;
use runtime::tls::{self, Connector};
use support::{Anonymous, Mesh, PATIENCE, Running, spiffe};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Types of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
/// Codes of errors (section 7).
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header as a literal that enters no table (RFC 7541, section 6.2.2).
fn header(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// A request's headers.
fn request() -> Vec<u8> {
    [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "citadel"),
        (
            ":path",
            "/istio.v1.auth.IstioCertificateService/CreateCertificate",
        ),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .map(|(name, value)| header(name, value))
    .concat()
}

/// Clients' stream ids.
fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

/// A connection without a certificate, on which the preface was said.
async fn connect(mesh: &Mesh, citadel: &Running) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
    let id = SpiffeId::system(&TrustDomain::default(), "citadel").unwrap();
    let config = tls::client(Arc::new(Anonymous(Arc::new(mesh.bundle()))), id).unwrap();
    let (host, port) = ("127.0.0.1", citadel.address.port());
    let mut stream = Connector::new(config).connect(host, port).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
    stream
}

/// The next frame's type and first error code, where it has one; `None` at the end of the connection.
async fn next(from: &mut (impl AsyncRead + Unpin)) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    from.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    from.read_exact(&mut payload).await.ok()?;
    let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
    Some(match head[3] {
        RST_STREAM => (RST_STREAM, code(0)),
        GOAWAY => (GOAWAY, code(4)),
        kind => (kind, 0),
    })
}

/// What ends the connection on which this is said: the last GOAWAY's code, if there was one.
async fn end_of(stream: impl AsyncRead + AsyncWrite + Send + 'static, flood: Vec<u8>) -> Option<u32> {
    let (mut read, mut write) = tokio::io::split(stream);
    // The other end may have closed already.
    let saying = tokio::spawn(async move { write.write_all(&flood).await });
    let reading = async {
        let mut last = None;
        while let Some((kind, code)) = next(&mut read).await {
            last = if kind == GOAWAY { Some(code) } else { last };
        }
        last
    };
    let last = tokio::time::timeout(PATIENCE, reading).await;
    saying.abort();
    last.expect("the connection ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn istio_security_2023_004_requests_that_are_reset_at_once_end_the_connection() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let pair = |id| {
        [
            frame(HEADERS, END_HEADERS, id, &request()),
            frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()),
        ]
        .concat()
    };
    let flood: Vec<u8> = streams().take(20_000).flat_map(pair).collect();
    let code = end_of(connect(&mesh, &citadel).await, flood).await;
    // The connection may be reset before that is read.
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM)), "{code:?}");
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    assert_eq!(orders.id(), spiffe("shop", "orders"));
    citadel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn istio_security_2024_002_headers_without_end_end_the_connection() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let more = header("x-more", &"y".repeat(100)).repeat(140);
    let mut flood = frame(HEADERS, END_STREAM, 1, &request());
    for _ in 0..1000 {
        flood.extend(frame(CONTINUATION, 0, 1, &more));
    }
    end_of(connect(&mesh, &citadel).await, flood).await;
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    assert_eq!(orders.id(), spiffe("shop", "orders"));
    citadel.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn istio_security_2019_004_streams_beyond_the_bound_are_refused_and_pings_hold_nobody_up() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    let mut many = connect(&mesh, &citadel).await;
    // Requests whose messages never come.
    for id in streams().take(40) {
        let open = frame(HEADERS, END_HEADERS, id, &request());
        many.write_all(&open).await.unwrap();
        many.write_all(&frame(DATA, 0, id, &[0])).await.unwrap();
    }
    let refused = async {
        let mut refused = 0;
        while refused < 40 - 16 {
            let seen = next(&mut many).await.expect("the connection stays");
            refused += usize::from(seen == (RST_STREAM, REFUSED_STREAM));
        }
    };
    tokio::time::timeout(PATIENCE, refused)
        .await
        .expect("24 are refused");
    // Who sends PINGs and reads no answer has to wait at some time.
    let mut pinging = connect(&mesh, &citadel).await;
    let flood = frame(PING, 0, 0, &[0; 8]).repeat(1000);
    let pings = tokio::spawn(async move { while pinging.write_all(&flood).await.is_ok() {} });
    let orders = mesh.identity(citadel.address, "shop", "orders").await;
    assert_eq!(orders.id(), spiffe("shop", "orders"));
    pings.abort();
    drop(many);
    citadel.stop().await;
}
