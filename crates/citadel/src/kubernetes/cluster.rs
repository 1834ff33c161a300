//! A cluster, from Citadel's start on: where the authority comes from, and all that follows the API server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use runtime::Context;
use runtime::readiness::Condition;
use tokio::sync::watch;

use super::access::{self, Access};
use super::authority::{Origin, SecretError, Store};
use super::meters::Meters;
use super::review::TokenReviewer;
use super::{Options, grants, root_cert, secrets};
use crate::ca::{AuthorityError, Folder};
use crate::credential::Known;
use crate::current::Current;

/// The authority cannot be had from the cluster.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The Secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The folder that is its copy.
    #[error("--ca-dir: {0}")]
    Authority(#[from] AuthorityError),
    /// The system could not run a blocking task.
    #[error("cannot read files: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// The cluster, and the authority's Secret in it, where it is kept in one.
pub(crate) struct Cluster {
    client: Client,
    /// With where it is from, and the folder of notes on an authority that is plugged in.
    store: Option<(Store, Origin, PathBuf)>,
}

/// What the rest of Citadel gets of a cluster.
pub(crate) struct Started {
    /// Recognises tokens.
    pub(crate) reviewer: TokenReviewer,
    /// Decides who may have which Secret.
    pub(crate) access: Access,
    /// The Secrets.
    pub(crate) secrets: watch::Receiver<Known>,
}

impl Cluster {
    /// Makes the folder the copy of the authority's Secret, or the Secret from the folder: of several first starts at once
    /// one makes the root. `ready` hears what it waits for.
    ///
    /// # Errors
    /// When the Secret or the folder cannot be used.
    pub(crate) async fn open(
        client: Client,
        options: &Options,
        dir: &Path,
        folder: &Folder,
        ready: Option<&Condition>,
    ) -> Result<Self, OpenError> {
        if options.ca_secret.is_empty() {
            return Ok(Self { client, store: None });
        }
        let store = Store::new(client.clone(), &options.pod_namespace, &options.ca_secret, dir);
        let mut origin = store.pull(ready).await?;
        if origin == Origin::Nothing {
            if folder.plugged() {
                return Err(store.plugged_left().into());
            }
            store.inherit().await?;
            let made = folder.clone();
            tokio::task::spawn_blocking(move || made.load_or_create()).await??;
            origin = match store.create().await? {
                Some(version) => Origin::Own(version),
                None => store.pull(ready).await?,
            };
        }
        Ok(Self {
            client,
            store: Some((store, origin, folder.notes_dir().to_owned())),
        })
    }

    /// Starts what follows the cluster, until the context's shutdown.
    pub(crate) fn start(self, options: &Options, current: &Current, context: &Context) -> Started {
        let meters = Meters::new(&context.metrics);
        let spawn = |task: BoxFuture<'static, ()>| {
            tokio::spawn(context.shutdown.clone().run_until_cancelled_owned(task));
        };
        let client = || self.client.clone();
        let (granted, grants) = watch::channel(None);
        spawn(grants::follow(client(), granted, meters.clone()).boxed());
        let (told, known) = watch::channel(Known::default());
        let namespaces = options.secrets_namespaces.clone();
        spawn(secrets::follow(client(), namespaces, told, meters.clone()).boxed());
        if options.root_config_maps {
            let trust = current.trust();
            spawn(root_cert::keep(client(), trust, meters.clone()).boxed());
        }
        if let Some((store, origin, notes)) = self.store {
            spawn(store.keep(origin, notes, meters.clone()).boxed());
        }
        let access = access::Cluster::new(self.client.clone(), grants, meters.clone());
        Started {
            reviewer: TokenReviewer::new(self.client, &options.token_audiences, meters),
            access: Access::Cluster(Arc::new(access)),
            secrets: known,
        }
    }
}
