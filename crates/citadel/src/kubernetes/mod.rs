//! What Citadel has to do with a cluster: it asks the API server whose token a caller shows ([`review`]) and what an account
//! may read ([`access`]), follows Secrets ([`secrets`]) and ReferenceGrants ([`grants`]), keeps the authority in a Secret
//! ([`authority`]) and the mesh's roots in a ConfigMap of each namespace ([`root_cert`]).
//!
//! What is decided is a function over values in each of them; the API is a thin shell around it.

pub(crate) mod access;
mod authority;
pub(crate) mod cluster;
pub(crate) mod grants;
mod istio_root;
mod mark;
pub(crate) mod meters;
pub mod review;
pub(crate) mod root_cert;
pub(crate) mod secrets;

use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use runtime::spiffe::SYSTEM_NAMESPACE;

pub use authority::SecretError;
pub use cluster::OpenError;

/// Longest wait for one answer of the API server.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// How long the API server lets a watch run, in seconds. A connection that died in silence is noticed a little later.
pub(crate) const WATCH_SECONDS: u32 = 120;

/// Whether and how the Kubernetes API is used.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Options {
    /// Use the Kubernetes API: recognise callers by TokenReview, hand out Secrets, keep the authority in a Secret and the
    /// roots in ConfigMaps; in a Pod with its service account, elsewhere as kubectl does
    #[arg(long, env = "ARGOSY_KUBERNETES")]
    pub kubernetes: bool,
    /// The kubeconfig to use; $KUBECONFIG, ~/.kube/config or the Pod's own unless given
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use; its current one unless given
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    pub kube_context: Option<String>,
    /// Namespace that Citadel runs in: of its own Secret, and of the Secret cacerts
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = SYSTEM_NAMESPACE)]
    pub pod_namespace: String,
    /// Audiences of which a service account's token must have one
    #[arg(
        long,
        env = "ARGOSY_TOKEN_AUDIENCES",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "istio-ca,argosy-ca"
    )]
    pub token_audiences: Vec<String>,
    /// Namespaces whose Secrets are handed out, so that a Role in each is enough; those of all unless given
    #[arg(
        long,
        env = "ARGOSY_SECRETS_NAMESPACES",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub secrets_namespaces: Vec<String>,
    /// Secret that holds the authority, so that all replicas have the same one; with an empty name the folder alone holds it
    #[arg(
        long,
        env = "ARGOSY_CA_SECRET",
        value_name = "NAME",
        default_value = authority::OWN_SECRET
    )]
    pub ca_secret: String,
    /// Keep the mesh's roots in the ConfigMap istio-ca-root-cert of each namespace
    #[arg(long, env = "ARGOSY_ROOT_CONFIG_MAPS", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub root_config_maps: bool,
}

impl Default for Options {
    /// No Kubernetes.
    fn default() -> Self {
        Self {
            kubernetes: false,
            kubeconfig: None,
            kube_context: None,
            pod_namespace: SYSTEM_NAMESPACE.to_owned(),
            token_audiences: vec!["istio-ca".to_owned(), "argosy-ca".to_owned()],
            secrets_namespaces: Vec::new(),
            ca_secret: authority::OWN_SECRET.to_owned(),
            root_config_maps: true,
        }
    }
}

/// There is no way to the Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No kubeconfig and no service account, or what they say cannot be used.
    #[error(transparent)]
    Api(#[from] ::kubernetes::ClientError),
    /// No audience would mean that a token for anybody counts here.
    #[error("--token-audiences: name at least one, for example argosy-ca")]
    Audiences,
}

/// A client as the options say; `None` without `--kubernetes`. It does not connect yet.
///
/// # Errors
/// When there is no kubeconfig and no service account, or what they say cannot be used.
pub(crate) async fn client(options: &Options) -> Result<Option<Client>, ClientError> {
    if !options.kubernetes {
        return Ok(None);
    }
    if options.token_audiences.iter().all(String::is_empty) {
        return Err(ClientError::Audiences);
    }
    let client = ::kubernetes::client(options.kubeconfig.as_deref(), options.kube_context.as_deref());
    Ok(Some(client.await?))
}

/// The code of the API server's refusal, where it has answered.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// An answer within [`DEADLINE`], or why there is none, in words.
pub(crate) async fn answer<T>(asking: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(DEADLINE, asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(runtime::context::describe(&error)),
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}
