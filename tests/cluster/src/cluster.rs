//! A real cluster: that of KUBECONFIG, or one that `scripts/cluster` starts.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use crate::{helm, root};

/// Images of programs that are not ours, and what fetches them.
const TOOLS: [(&str, &str); 2] = [
    ("redis", "scripts/fetch-redis"),
    ("prometheus", "scripts/fetch-prometheus"),
];

/// The folder of programs that images are made of, from `CLUSTER_BIN`, else those of the build that runs the test.
fn programs() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.parent()?.to_path_buf()));
    let own = std::env::var_os("CLUSTER_BIN").map(PathBuf::from);
    own.or(beside).unwrap_or_else(|| root().join("target/debug"))
}

/// A running cluster with Argosy's images. Dropped, it goes, unless it is another's or ARGOSY_KEEP is set.
#[derive(Debug)]
pub struct Cluster {
    script: PathBuf,
    dir: OsString,
    /// Whether it was started here, with its node on this machine.
    ours: bool,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let kept = std::env::var_os("ARGOSY_KEEP").is_some();
        if kept {
            let dir = self.dir.display();
            eprintln!("The cluster stays: ARGOSY_CLUSTER_DIR={dir} scripts/cluster exec kubectl get pods -A");
        } else if let Err(error) = helm::output(self.script().arg("down")) {
            eprintln!("{error:#}");
        }
    }
}

impl Cluster {
    /// Whether a cluster can be had: KUBECONFIG names one, or this is root. Where not, says on stderr that a test is left out.
    ///
    /// # Errors
    /// Under `CI=true`, where no test may be left out.
    pub fn available() -> anyhow::Result<bool> {
        if std::env::var_os("KUBECONFIG").is_some() || is_root() {
            return Ok(true);
        }
        let reason = "only root can start a cluster, and KUBECONFIG names none";
        if std::env::var("CI").is_ok_and(|ci| ci == "true") {
            anyhow::bail!(reason);
        }
        // Not by eprintln!, which tests that pass swallow.
        let _ = writeln!(std::io::stderr(), "A test with a cluster is left out: {reason}");
        Ok(false)
    }

    /// Starts it, or finds it running, and imports the images of `names`. A cluster of KUBECONFIG has them already, by its own means.
    ///
    /// # Errors
    /// What the scripts say.
    pub fn up(names: &[&str]) -> anyhow::Result<Self> {
        // Not the one of `make cluster`, which somebody may be looking at.
        let own = || format!("/var/lib/argosy-cluster-{}", std::process::id()).into();
        let cluster = Self {
            script: root().join("scripts/cluster"),
            dir: std::env::var_os("ARGOSY_CLUSTER_DIR").unwrap_or_else(own),
            ours: std::env::var_os("KUBECONFIG").is_none_or(|path| path.is_empty()),
        };
        helm::output(cluster.script().arg("up"))?;
        if !cluster.ours {
            eprintln!(
                "The cluster of KUBECONFIG is used; it must have the images localhost/argosy/NAME:dev of {names:?}"
            );
            return Ok(cluster);
        }
        let dir = tempfile_dir()?;
        let mut images = Command::new(root().join("scripts/images"));
        images
            .arg("--bin")
            .arg(programs())
            .arg("--out")
            .arg(&dir)
            .args(names);
        for (name, fetch) in TOOLS.iter().filter(|(name, _)| names.contains(name)) {
            let path = helm::output(&mut Command::new(root().join(fetch)))?;
            images.arg("--program").arg(format!("{name}={}", path.trim()));
        }
        let made = helm::output(&mut images).and_then(|_| {
            let files = names.iter().map(|name| dir.join(format!("{name}.tar")));
            helm::output(cluster.script().arg("import").args(files))
        });
        std::fs::remove_dir_all(&dir).ok();
        made.map(|_| cluster)
    }

    /// Whether its node is on this machine: its addresses can be reached, its processes be killed, its packets be seen.
    #[must_use]
    pub fn has_node(&self) -> bool {
        self.ours
    }

    fn script(&self) -> Command {
        let mut command = Command::new(&self.script);
        command.env("ARGOSY_CLUSTER_DIR", &self.dir);
        command
    }

    /// Runs a command where the cluster can be reached, and gives what it prints.
    ///
    /// # Errors
    /// It ends with another status than 0; with what it says.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        helm::output(self.script().arg("exec").args(arguments))
    }

    /// Runs lines of a shell where the cluster can be reached, with our own programs to be found, and gives what they print.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn shell(&self, lines: &str) -> anyhow::Result<String> {
        let path = programs();
        let lines = format!("PATH={}:$PATH\n{lines}", path.display());
        self.run(&["sh", "-c", &lines])
    }

    /// Stops or starts a part of the cluster, such as `kube-apiserver`; not of one that KUBECONFIG names.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn part(&self, command: &str, name: &str) -> anyhow::Result<()> {
        helm::output(self.script().args([command, name])).map(drop)
    }

    /// Gives an image that was imported another tag; not in a cluster that KUBECONFIG names.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn tag(&self, image: &str, other: &str) -> anyhow::Result<()> {
        helm::output(self.script().args(["tag", image, other])).map(drop)
    }

    /// `kubectl ARGUMENTS`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(&[&["kubectl"], arguments].concat())
    }

    /// `helm ARGUMENTS`.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run(&[&["helm"], arguments].concat())
    }

    /// Applies manifests to a namespace, and gives what kubectl prints.
    ///
    /// # Errors
    /// As [`Self::run`]; with the words of who refused it.
    pub fn apply(&self, namespace: &str, manifests: &str) -> anyhow::Result<String> {
        self.written(&["apply", "--namespace", namespace], manifests)
    }

    /// Has the API server and its webhooks judge new objects, and keeps none.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn judged(&self, namespace: &str, manifests: &str) -> anyhow::Result<String> {
        let create = ["create", "--dry-run=server", "--namespace", namespace];
        self.written(&create, manifests)
    }

    fn written(&self, arguments: &[&str], manifests: &str) -> anyhow::Result<String> {
        let mut command = self.script();
        command
            .args(["exec", "kubectl"])
            .args(arguments)
            .args(["--filename", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(manifests.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success(),
            "kubectl {}: {}",
            arguments.first().unwrap_or(&""),
            said.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &said)
    }

    /// Applies a file of the repository, with the images that were imported.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_file(&self, namespace: &str, path: impl AsRef<Path>) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(root().join(path))?;
        let text = text.replace("localhost/argosy/sample:0.1.0", "localhost/argosy/sample:dev");
        self.apply(namespace, &text)
    }

    /// An object, or a list.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn get(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let text = self.kubectl(&[&["get", "--output", "json"], arguments].concat())?;
        serde_json::from_str(&text).context("what kubectl prints")
    }

    /// Waits until all Deployments of a namespace have all their pods, in their newest version.
    ///
    /// # Errors
    /// After the bound, with the pods as they are.
    pub fn rolled_out(&self, namespace: &str, bound: Duration) -> anyhow::Result<()> {
        let timeout = format!("--timeout={}s", bound.as_secs());
        let waited = self.kubectl(&[
            "rollout",
            "status",
            "deployment",
            "--namespace",
            namespace,
            &timeout,
        ]);
        waited.map(drop).map_err(|error| {
            let pods = self
                .kubectl(&["get", "pods", "--namespace", namespace])
                .unwrap_or_default();
            error.context(format!("Deployments of {namespace} are not ready:\n{pods}"))
        })
    }

    /// Answers with the body of an HTTP GET at a Service's port or a Pod's (`services/NAME:PORT`, `pods/NAME:PORT`), made by the API server.
    ///
    /// # Errors
    /// No answer, or a status of 400 and more, with its words.
    pub fn proxied(&self, namespace: &str, what: &str, path: &str) -> anyhow::Result<String> {
        let url = format!("/api/v1/namespaces/{namespace}/{what}/proxy{path}");
        self.kubectl(&["get", "--raw", &url])
    }

    /// Answers with the body of an HTTP GET, made on the node.
    ///
    /// # Errors
    /// No answer, or a status of 400 and more.
    pub fn fetch(&self, url: &str, more: &[&str]) -> anyhow::Result<String> {
        self.run(
            &[
                &[
                    "curl",
                    "--silent",
                    "--show-error",
                    "--fail-with-body",
                    "--max-time",
                    "60",
                ],
                more,
                &[url],
            ]
            .concat(),
        )
    }
}

fn is_root() -> bool {
    helm::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn tempfile_dir() -> anyhow::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("argosy-images-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
