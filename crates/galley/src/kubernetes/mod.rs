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

pub use ::kubernetes::ClientError;
use kube::Client;

pub(crate) use source::run;

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

/// A client as the options say. It does not connect yet.
///
/// # Errors
/// When there is no kubeconfig and no service account, or what they say cannot be used.
pub async fn client(options: &Options) -> Result<Client, ClientError> {
    ::kubernetes::client(options.kubeconfig.as_deref(), options.kube_context.as_deref()).await
}
