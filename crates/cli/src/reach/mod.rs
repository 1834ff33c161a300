//! How commands come to admin pages, which answer callers on their own machine alone: at an address, or in a pod, into which the
//! API server forwards a connection (as `kubectl port-forward` does), so that the page sees a caller of its own machine.
//!
//! It does not know what the pages say.

mod page;
pub(crate) mod pods;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use http::uri::Authority;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::net::TcpStream;

/// How long one page may take; a dump of a large mesh has some ten megabytes.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long a failed connection is given to say why.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Which cluster.
#[derive(clap::Args, Clone)]
#[group(skip)]
pub(crate) struct Access {
    /// Kubeconfig file; unless given, that of $KUBECONFIG or ~/.kube/config, or the pod's own account
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; unless given, its current one
    #[arg(long)]
    context: Option<String>,
}

impl Access {
    /// A client, and the namespace that the context is set to.
    pub(crate) async fn client(&self) -> Result<(Client, String)> {
        let help = "name a cluster with --kubeconfig or --context, or an address with --admin-address";
        let config = kubernetes::config(self.kubeconfig.as_deref(), self.context.as_deref());
        let config = config.await.context(help)?;
        let namespace = config.default_namespace.clone();
        Ok((Client::try_from(config).context(help)?, namespace))
    }
}

/// Where an admin server is.
#[derive(Clone)]
pub(crate) enum Place {
    /// At an address of this machine.
    Address(Authority),
    /// At a port of a pod.
    Pod(Port),
}

/// A pod's port.
#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) port: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Pod(at) => write!(f, "port {} of pod {}/{}", at.port, at.namespace, at.pod),
        }
    }
}

impl Place {
    /// The page at `path`.
    ///
    /// # Errors
    /// No way there, no answer within 30 s, another status than 200, more than 256 MiB.
    pub(crate) async fn get(&self, path: &str) -> Result<Bytes> {
        let exchange = async {
            match self {
                Self::Address(address) => {
                    let stream = TcpStream::connect(address.as_str()).await;
                    page::get(stream.context("cannot connect")?, path).await
                }
                Self::Pod(at) => at.get(path).await,
            }
        };
        let answered = tokio::time::timeout(DEADLINE, exchange).await;
        answered
            .with_context(|| format!("no answer within {DEADLINE:?}"))
            .and_then(|answer| answer)
            .with_context(|| format!("{self}{path}"))
    }

    /// The page at `path`, which is JSON.
    ///
    /// # Errors
    /// As [`Self::get`], and when it is not JSON.
    pub(crate) async fn json(&self, path: &str) -> Result<serde_json::Value> {
        let page = self.get(path).await?;
        serde_json::from_slice(&page).with_context(|| format!("{self}{path} is not JSON"))
    }
}

impl Port {
    async fn get(&self, path: &str) -> Result<Bytes> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let forward = pods.portforward(&self.pod, &[self.port]).await;
        let mut forward =
            forward.context("the API server forwards no port; it takes the right to pods/portforward")?;
        let words = forward.take_error(self.port);
        let stream = forward
            .take_stream(self.port)
            .context("the API server gave no stream")?;
        let answer = page::get(stream, path).await;
        let Err(error) = answer else {
            forward.abort();
            return answer;
        };
        let said = match words {
            Some(words) => tokio::time::timeout(LAST_WORDS, words).await.ok().flatten(),
            None => None,
        };
        forward.abort();
        Err(match said {
            Some(words) => error.context(words.trim().to_owned()),
            None => error,
        })
    }
}

/// Runs a command's asynchronous part.
///
/// # Errors
/// Its own, and when there are no threads for it.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")?.block_on(work)
}
