//! Floods of HTTP/2 frames against a real Envoy: who sends them is cut off, others are served (RFC 9113, section 10.5).

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::cases::{OK, path, policy};
use crate::client;
use crate::mesh::Mesh;

/// Types of frames (RFC 9113, section 6), and flags.
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
/// `GET / HTTP/2` to `a` (RFC 7541: indexed fields, and one literal).
const REQUEST: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
/// More than any server takes of it, and how many frames are sent at once.
const ENOUGH: u32 = 2_000_000;
const BATCH: u32 = 100;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Sends what `next` makes, by number, and reads nothing, until the server ends the connection; says whether it did before
/// [`ENOUGH`].
fn is_cut_off(mesh: &Mesh, next: impl Fn(u32) -> Vec<u8>) -> bool {
    let mut stream = TcpStream::connect((mesh.address(0), 8080)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let start = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
    ]
    .concat();
    stream.write_all(&start).unwrap();
    for batch in 0..ENOUGH / BATCH {
        let frames: Vec<u8> = (0..BATCH)
            .flat_map(|number| next(batch * BATCH + number))
            .collect();
        if let Err(error) = stream.write_all(&frames) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "neither served nor cut off");
            return true;
        }
    }
    false
}

#[test]
fn istio_security_2019_004_2023_004_2024_002_floods_of_frames_are_cut_off() {
    let all = policy("DENY", "{to: [{operation: {paths: [/admin]}}]}").replace("NAMESPACE", "w0");
    let Some(mesh) = Mesh::start(&[all]) else {
        return;
    };
    // 2023-004 (CVE-2023-44487): requests that are taken back as soon as they are sent.
    let reset = |number: u32| {
        let stream = 2 * number + 1;
        let request = frame(HEADERS, END_STREAM | END_HEADERS, stream, &REQUEST);
        [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    assert!(is_cut_off(&mesh, reset), "requests that are reset at once");
    // 2024-002 (CVE-2024-30255): headers that never end.
    let endless = |number: u32| match number {
        0 => frame(HEADERS, END_STREAM, 1, &REQUEST),
        _ => frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b"),
    };
    assert!(is_cut_off(&mesh, endless), "headers without end");
    // 2019-004 (CVE-2019-9515): settings that each want an answer.
    let settings = |_| frame(SETTINGS, 0, 0, &[]);
    assert!(is_cut_off(&mesh, settings), "settings without end");
    assert_eq!(client::send(&mesh, 0, &path("/")).1, OK, "others are served");
}
