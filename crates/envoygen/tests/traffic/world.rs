//! A mesh of one proxy and what it reaches, on free ports.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use envoygen::{Interception, Proxy, Scope};

use crate::applications;
use crate::support::{envoy, generator};

/// The objects, `$NAME` for ports and `$LOG` for the log's file.
const MESH: &str = include_str!("mesh.yaml");

/// A running proxy.
pub(crate) struct World {
    ports: BTreeMap<&'static str, u16>,
    folder: tempfile::TempDir,
    _envoy: envoy::Running,
}

const NAMES: [&str; 11] = [
    "ok", "other", "bad", "greeter", "socket", "http", "mysql", "mongo", "tunnel", "gateway", "admin",
];

/// Free ports, all taken at once so that they differ.
fn ports() -> BTreeMap<&'static str, u16> {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let taken: Vec<TcpListener> = NAMES.iter().map(|_| free()).collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    NAMES.into_iter().zip(taken.iter().map(port)).collect()
}

impl World {
    /// The sidecar of the client. `None` where there is no Envoy.
    pub(crate) fn sidecar(http10: bool) -> Option<Self> {
        let mut proxy = Proxy::parse("sidecar~127.0.0.1~client.w~w.svc.cluster.local", None).unwrap();
        proxy.interception = Some(Interception::None);
        proxy.http10 = http10;
        Self::start(&proxy)
    }

    /// A gateway.
    pub(crate) fn gateway() -> Option<Self> {
        let node = "router~127.0.0.1~edge.istio-system~istio-system.svc.cluster.local";
        Self::start(&Proxy::parse(node, None).unwrap())
    }

    fn start(proxy: &Proxy) -> Option<Self> {
        let (ports, folder) = (ports(), tempfile::tempdir().unwrap());
        applications::start(["ok", "other", "bad", "greeter", "socket"].map(|name| ports[name]));
        let log = folder.path().join("log").display().to_string();
        let text = ports
            .iter()
            .fold(MESH.replace("$LOG", &log), |text, (name, port)| {
                text.replace(&format!("${name}"), &port.to_string())
            });
        let generator = generator(&[&text]);
        let output = generator.generate(&Scope::of(proxy, &generator));
        let envoy = envoy::run(&output, &format!("127.0.0.1:{}", ports["admin"]), |_| ())?;
        Some(Self {
            ports,
            folder,
            _envoy: envoy,
        })
    }

    fn address(&self, name: &str) -> String {
        format!("127.0.0.1:{}", self.ports[name])
    }

    /// The whole answer to a request for `HOST.example`.
    pub(crate) fn ask_as(&self, host: &str, line: &str, headers: &[&str]) -> String {
        let port = if host == "shop" { "gateway" } else { "http" };
        let host = format!("host: {host}.example");
        let headers: Vec<&str> = headers.iter().copied().chain([host.as_str()]).collect();
        envoy::request(&self.address(port), line, &headers).unwrap_or_default()
    }

    pub(crate) fn ask(&self, host: &str, path: &str, headers: &[&str]) -> String {
        self.ask_as(host, &format!("GET {path} HTTP/1.1"), headers)
    }

    pub(crate) fn status(&self, host: &str, path: &str) -> u16 {
        self.status_with(host, path, &[])
    }

    /// The status of an answer; 0 for none.
    pub(crate) fn status_with(&self, host: &str, path: &str, headers: &[&str]) -> u16 {
        let answer = self.ask(host, path, headers);
        let status = answer.split(' ').nth(1);
        status.and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn connect(&self, name: &str) -> TcpStream {
        let stream = TcpStream::connect(self.address(name)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// What a server says: first by itself, then to these bytes.
    pub(crate) fn talk(&self, name: &str, bytes: &[u8]) -> String {
        let mut stream = self.connect(name);
        let mut greeting = vec![0; "greeting ".len()];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer).unwrap();
        String::from_utf8([greeting, answer].concat()).unwrap()
    }

    /// What a WebSocket says after its head of the answer, to these bytes.
    pub(crate) fn upgraded(&self, host: &str, bytes: &[u8]) -> (String, String) {
        let mut stream = self.connect("http");
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {host}.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        stream.write_all(bytes).unwrap();
        let mut said = vec![0; bytes.len()];
        stream.read_exact(&mut said).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(answer), text(said))
    }

    /// Sends bytes on a connection and waits for what comes.
    pub(crate) fn send(&self, name: &str, bytes: &[u8]) {
        let mut stream = self.connect(name);
        stream.write_all(bytes).unwrap();
        let _ = stream.read(&mut [0; 64]);
    }

    /// The access log so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}
