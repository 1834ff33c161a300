//! Starts `argosy run` over a folder, and ends it. All its addresses are free ports of loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Longest start that is waited for.
const START: Duration = Duration::from_secs(120);

/// A child process, ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The admin server, where there is one.
    pub(crate) admin: Option<SocketAddr>,
}

impl Server {
    /// All four services in one process, xDS in plaintext.
    pub(crate) fn argosy(binary: &Path, config: &Path) -> anyhow::Result<Self> {
        let address = free_port()?;
        let admin = free_port()?;
        let mut command = Command::new(binary);
        command.arg("run").arg("--config").arg(config);
        command.args(["--xds-plaintext", &address.to_string()]);
        command.args(["--admin-address", &admin.to_string()]);
        for flag in ["pilot", "citadel", "galley", "mixer", "prometheus"] {
            command.args([format!("--{flag}-address"), free_port()?.to_string()]);
        }
        let log = std::fs::File::create(config.join("argosy.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| {
            format!(
                "cannot start {}; build it by `cargo build --release -p argosy`",
                binary.display()
            )
        })?;
        let mut server = Self {
            child,
            address,
            admin: Some(admin),
        };
        server.wait_until(|server| ready(server.admin), &config.join("argosy.log"))?;
        Ok(server)
    }

    /// This binary with other arguments; `{}` among them becomes the address that it is to serve on.
    pub(crate) fn own(arguments: &[&str], log: &Path) -> anyhow::Result<Self> {
        Self::pinned(arguments, log, None)
    }

    /// The same, on one processor alone where one is given (by taskset).
    pub(crate) fn pinned(arguments: &[&str], log: &Path, cpu: Option<u32>) -> anyhow::Result<Self> {
        let address = free_port()?;
        let own = std::env::current_exe()?;
        let mut command = match cpu {
            None => Command::new(own),
            Some(cpu) => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", &cpu.to_string()]).arg(own);
                command
            }
        };
        command.args(
            arguments
                .iter()
                .map(|argument| argument.replace("{}", &address.to_string())),
        );
        let file = std::fs::File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let mut server = Self {
            child: command.spawn()?,
            address,
            admin: None,
        };
        server.wait_until(|server| TcpStream::connect(server.address).is_ok(), log)?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until(&mut self, done: impl Fn(&Self) -> bool, log: &Path) -> anyhow::Result<()> {
        let end = Instant::now() + START;
        while !done(self) {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                anyhow::bail!("the server did not start: {ended:?} {last:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether `/readyz` says yes.
fn ready(admin: Option<SocketAddr>) -> bool {
    admin.is_some_and(|admin| get(admin, "/readyz").is_ok_and(|text| text.starts_with("HTTP/1.1 200")))
}

/// A page of the admin server, headers included.
pub(crate) fn get(admin: SocketAddr, path: &str) -> anyhow::Result<String> {
    use std::io::{Read, Write};
    let mut tcp = TcpStream::connect(admin)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        tcp,
        "GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    tcp.read_to_string(&mut text)?;
    Ok(text)
}

/// A port of loopback that nobody has now.
pub(crate) fn free_port() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// `argosy` beside this binary, unless told otherwise.
pub(crate) fn argosy_binary(given: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    match given {
        Some(path) => Ok(path),
        None => Ok(std::env::current_exe()?.with_file_name("argosy")),
    }
}
