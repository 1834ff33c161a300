//! Applications behind the proxies. Each tells by its status which it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use crate::support::envoy;

/// The status of the application `$ok`.
pub(crate) const OK: u16 = 200;
/// The status of the application `$other`.
pub(crate) const OTHER: u16 = 201;

/// The first lines that applications have seen.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether an application was asked with this first line.
pub(crate) fn seen(line: &str) -> bool {
    SEEN.lock().unwrap().iter().any(|one| one == line)
}

/// Starts all at these ports: `ok`, `other`, `bad`, one that greets, and one of WebSockets.
pub(crate) fn start([ok, other, bad, greeter, socket]: [u16; 5]) {
    let at = |port: u16| format!("127.0.0.1:{port}");
    envoy::serve(&at(ok), |head| {
        let line = head.lines().next().unwrap_or_default();
        SEEN.lock().unwrap().push(line.to_owned());
        if line.contains(" /slow ") {
            std::thread::sleep(Duration::from_secs(1));
        }
        if head.contains("upgrade: websocket") {
            101
        } else {
            OK
        }
    });
    envoy::serve(&at(other), |_| OTHER);
    envoy::serve(&at(bad), |_| 503);
    // As MySQL's servers, the one speaks first; the other once it was asked for an upgrade.
    echo(&at(greeter), 0, b"greeting ");
    echo(&at(socket), 1, SWITCHED);
}

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";

/// Takes so many heads of requests, says `first`, and then again what it hears.
fn echo(address: &str, heads: usize, first: &'static [u8]) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || say_again(stream, heads, first));
        }
    });
}

fn say_again(mut stream: TcpStream, heads: usize, first: &[u8]) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while head.windows(4).filter(|end| end == b"\r\n\r\n").count() < heads {
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    stream.write_all(first)?;
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length])?,
        }
    }
}
