//! The way to a Kubernetes API server: by a kubeconfig, by kubectl's own, or by a Pod's service account; and how long a watch
//! waits there after a failure.
//!
//! It does not know what is asked there, nor the flags that lead here.

mod answered;
mod pauses;

use std::path::Path;
use std::time::Duration;

use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

pub use answered::{Silence, answered};
pub use pauses::Pauses;

/// How long a connection to the API server may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// There is no way to the Kubernetes API.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be read, or has no such context.
    #[error("--kubeconfig: {0}")]
    Kubeconfig(#[from] KubeconfigError),
    /// Neither a kubeconfig nor a Pod's service account.
    #[error("the Kubernetes API: {0}; name a kubeconfig with --kubeconfig")]
    Infer(#[from] InferConfigError),
    /// What they say cannot be used.
    #[error("the Kubernetes API: {0}; correct the kubeconfig")]
    Client(#[from] kube::Error),
}

/// Where the API server is and who asks: as `kubeconfig` says, else as kubectl does (`KUBECONFIG`, `~/.kube/config`), else by
/// the service account of the Pod. `context` is one of the kubeconfig's other than its current one.
///
/// # Errors
/// When there is no kubeconfig and no service account, or no such context.
pub async fn config(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Config, ClientError> {
    let options = KubeConfigOptions {
        context: context.map(str::to_owned),
        ..KubeConfigOptions::default()
    };
    let mut config = match kubeconfig {
        Some(path) => Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &options).await?,
        None if context.is_some() => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await?,
    };
    config.connect_timeout = Some(CONNECT);
    Ok(config)
}

/// A client for a service, as [`config()`] finds the way. It does not connect yet, and tries nothing twice: a service has
/// deadlines and a backoff of its own, and wants to tell of failures meanwhile.
///
/// # Errors
/// As [`config()`], and when what it says cannot be used.
pub async fn client(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Client, ClientError> {
    let mut config = config(kubeconfig, context).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail loudly")]
mod tests {
    use super::*;

    const TWO: &str = "apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: one, cluster: {server: 'http://127.0.0.1:1'}}
- {name: two, cluster: {server: 'http://127.0.0.1:2'}}
users: [{name: me, user: {}}]
contexts:
- {name: one, context: {cluster: one, user: me, namespace: shop}}
- {name: two, context: {cluster: two, user: me}}
";

    async fn check(context: Option<&str>, expected: Result<(&str, &str), &str>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, TWO).unwrap();
        let found = config(Some(&path), context).await;
        let found = found.map(|config| (config.cluster_url.to_string(), config.default_namespace));
        match (found, expected) {
            (Ok((url, namespace)), Ok(expected)) => assert_eq!((&*url, &*namespace), expected),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }

    #[tokio::test]
    async fn the_context_decides_which_cluster_is_asked() {
        check(None, Ok(("http://127.0.0.1:1/", "shop"))).await;
        check(Some("two"), Ok(("http://127.0.0.1:2/", "default"))).await;
        check(Some("three"), Err("--kubeconfig: ")).await;
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_missing_is_named() {
        let error = client(Some(Path::new("/nowhere/kubeconfig")), None).await;
        let error = error.map(drop).unwrap_err().to_string();
        assert!(
            error.starts_with("--kubeconfig: ") && error.contains("/nowhere/kubeconfig"),
            "{error}"
        );
    }
}
