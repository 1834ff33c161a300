//! The binary `citadel` as a process of a test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::{Mesh, eventually};

/// A Citadel that does not outlive its test.
pub struct Process {
    pub child: Child,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now; another process may still take it, which is rare and makes the test fail loudly.
pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Adds to a command the flags of a mesh's Citadel at these addresses.
pub fn flags(command: &mut Command, mesh: &Mesh, listen: SocketAddr, admin: SocketAddr) {
    command.arg("--ca-dir").arg(mesh.path("ca"));
    command.arg("--identity").arg(mesh.path("identity.yaml"));
    command.args([
        "--listen",
        &listen.to_string(),
        "--admin-address",
        &admin.to_string(),
    ]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
}

/// A mesh's Citadel at these addresses.
pub fn command(mesh: &Mesh, listen: SocketAddr, admin: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_citadel"));
    flags(&mut command, mesh, listen, admin);
    command
}

impl Process {
    /// Starts what `command` makes of two addresses.
    pub fn start(command: impl FnOnce(SocketAddr, SocketAddr) -> Command) -> Self {
        let (listen, admin) = (free(), free());
        Self {
            child: command(listen, admin).spawn().unwrap(),
            listen,
            admin,
        }
    }

    /// Status and body of a request to the admin server; `None` while nobody answers.
    pub fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).ok()?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        eventually("ready", || {
            self.ask("GET", "/readyz")
                .is_some_and(|(status, _)| status == 200)
        })
        .await;
    }
}
