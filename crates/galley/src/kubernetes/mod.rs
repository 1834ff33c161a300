//! The Kubernetes API as a source: a watch for each kind that the cluster has, and one table of what they tell.
//!
//! `kinds` knows what is watched, `object` turns what comes into events, `reducer` makes a state of them (all pure), `watches`
//! and `source` do the talking. What objects mean is not known here.

mod kinds;
mod object;
mod reducer;
mod source;
mod watches;

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

pub(crate) use source::run;

/// How long a connection to the API server may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// Whether and how the Kubernetes API is read.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Read configuration, services and workloads from the Kubernetes API too; in a Pod with its service account, elsewhere
    /// as kubectl does
    #[arg(long, env = "ARGOSY_KUBERNETES")]
    pub kubernetes: bool,
    /// The kubeconfig to use; $KUBECONFIG, ~/.kube/config or the Pod's own unless given
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use; its current one unless given
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    pub kube_context: Option<String>,
    /// Namespace of the ConfigMap `istio`, which holds the mesh's settings under `mesh` and `meshNetworks`
    #[arg(
        long,
        env = "ARGOSY_ROOT_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "istio-system"
    )]
    pub root_namespace: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kubernetes: false,
            kubeconfig: None,
            kube_context: None,
            root_namespace: "istio-system".to_owned(),
        }
    }
}

/// There is no way to the Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig.
    #[error("--kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// Neither a kubeconfig nor a Pod's service account.
    #[error("--kubernetes: {0}; name a kubeconfig with --kubeconfig")]
    Infer(#[from] InferConfigError),
    /// What they say cannot be used.
    #[error("--kubernetes: {0}")]
    Client(#[from] kube::Error),
}

/// A client as the options say. It does not connect yet.
///
/// # Errors
/// When there is no kubeconfig and no service account, or what they say cannot be used.
pub async fn client(options: &Options) -> Result<Client, ClientError> {
    let context = KubeConfigOptions {
        context: options.kube_context.clone(),
        ..KubeConfigOptions::default()
    };
    let mut config = match &options.kubeconfig {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &context).await?,
        None if context.context.is_some() => Config::from_kubeconfig(&context).await?,
        None => Config::infer().await?,
    };
    // Who asks has a backoff of its own, and wants to know meanwhile.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    Ok(Client::try_from(config)?)
}
