//! The two processes, and how to reach them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::OnceCell;

use super::binaries::Binaries;
use super::pki::{Pki, write};
use crate::http::Client as Http;
use crate::net::Block;
use crate::{Process, Rundir, Spec, reaper};

/// How long a part may take to serve. The API server takes five seconds on a machine at rest.
const BOUND: Duration = Duration::from_secs(120);
/// How long the API server may take to end when asked; it drains for a while.
const STOP: Duration = Duration::from_secs(90);
/// The group that RBAC lets do everything.
const ADMINS: &str = "system:masters";
const ADDRESS: (u8, u16) = (2, 6443);
const ETCD: (u8, u16) = (1, 2379);
const ETCD_PEER: u16 = 2380;

/// A running Kubernetes API. Dropped, both processes end and their folder goes, unless the test failed.
pub struct ApiServer {
    // In this order they end.
    apiserver: Process,
    etcd: Process,
    specs: Specs,
    block: Block,
    pki: Pki,
    dir: Rundir,
}

struct Specs {
    apiserver: Spec,
    etcd: Spec,
}

impl ApiServer {
    /// Starts both parts and waits until the API is ready.
    ///
    /// # Errors
    /// No executables (see [`Binaries::find`]), or a part that does not come up; with the end of its log.
    pub async fn start() -> anyhow::Result<Self> {
        // A first run may build for minutes.
        let binaries = tokio::task::spawn_blocking(Binaries::find).await??;
        let dir = Rundir::new("argosy-kube")?;
        let block = Block::take()?;
        let pki = Pki::new()?;
        pki.server(block.ip(ADDRESS.0))?.write(dir.path(), "server")?;
        pki.client("service-accounts", None)?
            .write(dir.path(), "accounts")?;
        write(&dir.path().join("ca.crt"), &pki.ca)?;
        let specs = Specs {
            etcd: etcd(&binaries, &dir, &block),
            apiserver: apiserver(&binaries, &dir, &block),
        };
        let etcd = specs.etcd.start()?;
        let apiserver = specs.apiserver.start()?;
        let mut server = Self {
            apiserver,
            etcd,
            specs,
            block,
            pki,
            dir,
        };
        server.write_kubeconfig("admin", Some(ADMINS))?;
        if let Err(error) = server.ready().await {
            server.dir.failed();
            return Err(error);
        }
        Ok(server)
    }

    /// The server that all tests of this executable share, started by the first that asks; it ends with the process. Tests
    /// keep out of each other's way by namespaces of their own, and start their own server to stop it.
    ///
    /// Where there are no executables and none can be built, the answer is `None`, said on stderr: the test is left out.
    /// Under `CI=true` that is an error.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn shared() -> anyhow::Result<Option<&'static Self>> {
        static SHARED: OnceCell<Result<ApiServer, String>> = OnceCell::const_new();
        if !Self::available().await? {
            return Ok(None);
        }
        let start = || async {
            let server = Self::start().await.map_err(|error| format!("{error:#}"))?;
            if std::env::var_os("ARGOSY_KEEP").is_none() {
                // Values of statics are never dropped.
                reaper::remove(server.dir.path()).map_err(|error| format!("{error:#}"))?;
            }
            Ok(server)
        };
        match SHARED.get_or_init(start).await {
            Ok(server) => Ok(Some(server)),
            Err(error) => Err(anyhow::Error::msg(error.clone())),
        }
    }

    /// Whether [`Self::start`] has its executables. Where it has not, says on stderr that a test is left out.
    ///
    /// # Errors
    /// Under `CI=true`, where no test may be left out.
    pub async fn available() -> anyhow::Result<bool> {
        let Err(error) = tokio::task::spawn_blocking(Binaries::find).await? else {
            return Ok(true);
        };
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            return Err(error);
        }
        // Not by eprintln!, which tests that pass swallow.
        let _ = writeln!(
            std::io::stderr(),
            "A test with a Kubernetes API is left out: {error:#}"
        );
        Ok(false)
    }

    /// The API's URL, which is also the issuer of its service accounts' tokens.
    pub fn url(&self) -> String {
        url(&self.block)
    }

    /// The kubeconfig of an administrator, to give to a command.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }

    /// The kubeconfig of another user, who may do what RBAC says of it and of `group`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig_of(&self, user: &str, group: Option<&str>) -> anyhow::Result<PathBuf> {
        self.write_kubeconfig(user, group)
    }

    /// A client with an administrator's rights. It belongs to the runtime of the test that asks.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// A client of another user, who may do what RBAC says of it and of `group`.
    ///
    /// # Errors
    /// When the kubeconfig cannot be made.
    pub async fn client_of(&self, user: &str, group: Option<&str>) -> anyhow::Result<Client> {
        client(&self.kubeconfig_of(user, group)?).await
    }

    /// The certificate authority of server and clients, PEM.
    pub fn ca(&self) -> &str {
        &self.pki.ca
    }

    /// The folder of its logs.
    pub fn logs(&self) -> &Path {
        self.dir.path()
    }

    /// Waits until the API is ready.
    ///
    /// # Errors
    /// A part ended, or it took too long; with the end of the log.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let health = format!("http://{}/health", self.block.addr(ETCD.0, ETCD.1));
        let http = Http::default();
        let look = || {
            let get = http.get(&health).send();
            async move { get.await?.expect_status(200) }
        };
        self.etcd.until("etcd to be healthy", BOUND, look).await?;
        let client = self.client().await?;
        let look = || {
            let client = client.clone();
            async move {
                let request = http::Request::get("/readyz").body(Vec::new())?;
                anyhow::Ok(client.request_text(request).await?)
            }
        };
        self.apiserver.until("the API to be ready", BOUND, look).await?;
        Ok(())
    }

    /// Ends the API server as a crash would. etcd, and with it all objects, stay.
    pub fn kill(&mut self) {
        self.apiserver.kill();
    }

    /// Asks the API server to end, and waits. etcd, and with it all objects, stay.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.apiserver.stop(STOP).await.map(drop)
    }

    /// Starts the API server again, at the same address, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.apiserver.kill();
        self.apiserver = self.specs.apiserver.start()?;
        self.ready().await
    }

    /// Ends etcd as a crash would: the API server then answers reads from its caches at most, and no writes.
    pub fn kill_etcd(&mut self) {
        self.etcd.kill();
    }

    /// Starts etcd again with its data, and waits until the API is ready.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart_etcd(&mut self) -> anyhow::Result<()> {
        self.etcd.kill();
        self.etcd = self.specs.etcd.start()?;
        self.ready().await
    }

    /// Drops all history from etcd: who asks for changes since an earlier version is told 410 Gone, once the API server
    /// has been started anew (it keeps recent changes in memory).
    ///
    /// # Errors
    /// etcd does not answer.
    pub async fn compact(&self) -> anyhow::Result<()> {
        let url = |path: &str| format!("http://{}/v3/kv/{path}", self.block.addr(ETCD.0, ETCD.1));
        let http = Http::default();
        let post = |path: &str, body: serde_json::Value| {
            http.request("POST", url(path)).body(body.to_string()).send()
        };
        // Base64 of a NUL: the first key.
        let answer = post("range", json!({"key": "AA==", "limit": "1"})).await?;
        let answer = answer.expect_status(200)?.json()?;
        let revision = answer
            .pointer("/header/revision")
            .context("etcd names no revision")?;
        let answer = post("compaction", json!({"revision": revision, "physical": true})).await?;
        answer.expect_status(200)?;
        Ok(())
    }

    fn write_kubeconfig(&self, user: &str, group: Option<&str>) -> anyhow::Result<PathBuf> {
        let pair = self.pki.client(user, group)?;
        // JSON is YAML, and kubectl and kube-rs read it as such.
        let text = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url(), "certificate-authority-data": base64(&self.pki.ca)}}],
            "users": [{"name": user, "user": {
                "client-certificate-data": base64(&pair.cert), "client-key-data": base64(&pair.key)}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        });
        let path = self
            .dir
            .path()
            .join(format!("{}.kubeconfig", user.replace([':', '/'], "-")));
        write(&path, &text.to_string())?;
        Ok(path)
    }
}

async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let config = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn etcd(binaries: &Binaries, dir: &Rundir, block: &Block) -> Spec {
    let clients = format!("http://{}", block.addr(ETCD.0, ETCD.1));
    let peers = format!("http://{}", block.addr(ETCD.0, ETCD_PEER));
    Spec::new("etcd", &binaries.etcd, dir.path())
        .path("--data-dir", dir.path().join("etcd"))
        .flag("--name", "test")
        .flag("--listen-client-urls", &clients)
        .flag("--advertise-client-urls", &clients)
        .flag("--listen-peer-urls", &peers)
        .flag("--initial-advertise-peer-urls", &peers)
        .flag("--initial-cluster", format!("test={peers}"))
        // The data need not survive the machine.
        .arg("--unsafe-no-fsync")
}

fn url(block: &Block) -> String {
    format!("https://{}", block.addr(ADDRESS.0, ADDRESS.1))
}

fn apiserver(binaries: &Binaries, dir: &Rundir, block: &Block) -> Spec {
    let file = |name: &str| dir.path().join(name);
    Spec::new("kube-apiserver", &binaries.apiserver, dir.path())
        .flag("--etcd-servers", format!("http://{}", block.addr(ETCD.0, ETCD.1)))
        .flag("--bind-address", block.ip(ADDRESS.0))
        .flag("--advertise-address", block.ip(ADDRESS.0))
        .flag("--secure-port", ADDRESS.1)
        // The Service `kubernetes` would need an endpoint, and loopback addresses are refused for those.
        .flag("--endpoint-reconciler-type", "none")
        .flag("--service-cluster-ip-range", "10.96.0.0/16")
        .flag("--authorization-mode", "RBAC")
        .flag("--disable-admission-plugins", "ServiceAccount")
        .arg("--allow-privileged=true")
        .path("--client-ca-file", file("ca.crt"))
        .path("--tls-cert-file", file("server.crt"))
        .path("--tls-private-key-file", file("server.key"))
        .path("--service-account-key-file", file("accounts.crt"))
        .path("--service-account-signing-key-file", file("accounts.key"))
        // Its own address, so that its keys can be found by discovery.
        .flag("--service-account-issuer", url(block))
        .flag("--api-audiences", url(block))
}
