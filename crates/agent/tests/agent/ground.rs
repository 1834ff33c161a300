//! One workload of a test, its agent, and questions to both.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use runtime::{SpiffeId, tls};
use testkit::{Process, Spec, http::Client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use xds::Table;

use crate::common::{self, BOUND, Mesh, until, with_object, workload_entry};
use crate::listener;

/// One workload and its agent.
pub(crate) struct Ground {
    pub(crate) mesh: Mesh,
    envoy: PathBuf,
    pub(crate) client: Client,
}

impl Ground {
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            envoy: common::envoy()?,
            mesh: Mesh::new(),
            client: Client::default(),
        })
    }

    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        self.mesh.block.addr(21, port)
    }

    /// What Pilot gives the workload.
    pub(crate) fn table(&self) -> Table {
        listener::table(self.address(8080))
    }

    pub(crate) fn with_entry(&self, table: &Table) -> Table {
        with_object(table, &workload_entry("catalog-v1", self.mesh.block.ip(21)))
    }

    pub(crate) fn agent(&self, name: &str, token: &Path) -> Spec {
        Spec::new(name, env!("CARGO_BIN_EXE_argosy-agent"), self.mesh.folder.path())
            .flag("--workload", "shop/catalog-v1")
            .flag("--pilot-address", self.mesh.pilot_address())
            .flag("--citadel-address", self.mesh.citadel_address())
            .path("--ca-root", self.mesh.ca_root())
            .path("--token", token)
            .path("--envoy", &self.envoy)
            .path("--state-dir", self.mesh.path(name))
            .flag("--envoy-concurrency", 1)
            .flag("--shutdown-grace", "2s")
    }

    pub(crate) fn token(&self) -> PathBuf {
        self.mesh.token("shop", "catalog", Duration::from_secs(600))
    }

    pub(crate) async fn get(&self, port: u16, path: &str) -> Result<(u16, String), String> {
        let url = format!("http://{}{path}", self.address(port));
        let answer = self.client.get(url).timeout(Duration::from_secs(10)).send().await;
        answer
            .map(|answer| (answer.status, answer.text()))
            .map_err(|error| format!("{error:#}"))
    }

    /// Waits until the agent says that it is ready (200) or not (503), in these words.
    pub(crate) async fn says(&self, status: u16, words: &str) {
        until(&format!("{status} {words}"), || async {
            match self.get(15020, "/healthz/ready").await? {
                (seen, text) if seen == status && text.contains(words) => Ok(()),
                (seen, text) => Err(format!("{seen} {text}")),
            }
        })
        .await;
    }

    /// Connects to the workload over mutual TLS.
    pub(crate) async fn connect(&self, from: &runtime::Identity) -> std::io::Result<TlsStream<TcpStream>> {
        let own = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/catalog").unwrap();
        let connector = tls::connector(from, own).unwrap();
        let address = self.address(8080);
        let ip = address.ip().to_string();
        connector
            .connect(&ip, address.port())
            .await
            .map_err(std::io::Error::other)
    }

    pub(crate) async fn serves(&self, from: &runtime::Identity) {
        until("the listener to serve", || async {
            let stream = self.connect(from).await.map_err(|error| error.to_string())?;
            echoes(stream).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Envoys that were started with this test's files.
    pub(crate) fn envoys(&self) -> Vec<u32> {
        let folder = self.mesh.folder.path().to_string_lossy().into_owned();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.filter(|id| {
            let command = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            command.contains("--disable-hot-restart") && command.contains(&folder)
        })
        .collect()
    }
}

/// Whether the workload still answers on this connection.
pub(crate) async fn echoes(mut stream: TlsStream<TcpStream>) -> std::io::Result<TlsStream<TcpStream>> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, *b"hello");
    Ok(stream)
}

/// Gives a flag that is there already another value.
pub(crate) fn replace(mut spec: Spec, flag: &str, value: &str) -> Spec {
    let at = spec.args.iter().position(|arg| arg == flag).unwrap();
    *spec.args.get_mut(at + 1).unwrap() = value.into();
    spec
}

pub(crate) fn signal(id: u32, signal: &str) {
    assert!(
        Command::new("kill")
            .args([signal, &id.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

pub(crate) async fn ends(process: &mut Process) -> (bool, String) {
    let status = process.ended(BOUND).await.unwrap();
    (status.success(), process.output())
}
