//! The injector's flags, each with an environment variable.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use admission::registration::{Service, Target};
use kube::Client;
use kubernetes::ClientError;

/// The injector gives pods their proxy as Kubernetes makes them
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Address to serve the webhook on, over HTTPS
    #[arg(
        long,
        env = "ARGOSY_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:15017"
    )]
    pub listen: SocketAddr,
    /// The operator's files.
    #[command(flatten)]
    pub files: FileArgs,
    /// Keep the webhook's configuration in the cluster current, and read its ProxyConfigs; in a Pod with its service account,
    /// elsewhere as kubectl does
    #[arg(long, env = "ARGOSY_KUBERNETES")]
    pub kubernetes: bool,
    /// The kubeconfig to use; $KUBECONFIG, ~/.kube/config or the Pod's own unless given
    #[arg(long, value_name = "FILE", requires = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use; its current one unless given
    #[arg(long, value_name = "NAME", requires = "kubernetes")]
    pub kube_context: Option<String>,
    /// MutatingWebhookConfigurations whose caBundle is kept current
    #[arg(
        long,
        env = "ARGOSY_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "argosy-injector"
    )]
    pub webhook_configuration: Vec<String>,
    /// The Kubernetes Service before the webhook; its DNS name is in the webhook's certificate
    #[arg(
        long,
        env = "ARGOSY_WEBHOOK_SERVICE",
        value_name = "NAME.NAMESPACE",
        default_value = "injector.argosy-system"
    )]
    pub webhook_service: Service,
    /// Host of the webhook's URL, where the API server reaches the injector by URL and not by a Service
    #[arg(long, env = "ARGOSY_WEBHOOK_HOST", value_name = "HOST")]
    pub webhook_host: Option<String>,
}

/// Where the operator's decisions are.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct FileArgs {
    /// Settings, YAML; read again when the file changes
    #[arg(long, env = "ARGOSY_INJECTOR_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// MeshConfig, YAML; read again when the file changes. Its defaultConfig and trustDomain count where the settings have none
    #[arg(long, env = "ARGOSY_MESH_CONFIG", value_name = "FILE")]
    pub mesh_config: Option<PathBuf>,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 15017)),
            files: FileArgs::default(),
            kubernetes: false,
            kubeconfig: None,
            kube_context: None,
            webhook_configuration: vec!["argosy-injector".to_owned()],
            webhook_service: Service {
                name: "injector".to_owned(),
                namespace: runtime::spiffe::SYSTEM_NAMESPACE.to_owned(),
            },
            webhook_host: None,
        }
    }
}

impl Args {
    /// How the API server reaches the webhook.
    pub(super) fn target(&self) -> Target {
        match &self.webhook_host {
            Some(host) => Target::Host(host.clone()),
            None => Target::Service(self.webhook_service.clone()),
        }
    }

    /// A client of the cluster, if the flags ask for one. It does not connect yet.
    ///
    /// # Errors
    /// When there is no kubeconfig and no service account, or what they say cannot be used.
    pub(super) async fn client(&self) -> Result<Option<Client>, ClientError> {
        if !self.kubernetes {
            return Ok(None);
        }
        kubernetes::client(self.kubeconfig.as_deref(), self.kube_context.as_deref())
            .await
            .map(Some)
    }
}
