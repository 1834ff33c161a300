//! TLS credentials of gateways: which Secret a name means, who may have it, what Envoy gets of it.
//!
//! Whether a proxy may have a Secret is decided by its certificate's account before any Secret is looked at
//! ([`crate::kubernetes::access`]), so that a refusal tells nothing of what exists.

mod facts;
mod feed;
mod folder;
mod name;
mod proof;
mod secret;
mod service;

pub(crate) use feed::{FactsFeed, limits, publish};
pub(crate) use folder::{Folder, Watcher};
pub(crate) use name::{Name, NameError, Part};
pub(crate) use secret::{Material, Secret, SecretError};
pub(crate) use service::CredentialServer;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use crate::kubernetes::access::Denial;

/// A Secret's namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// All Secrets at one time.
pub(crate) type Secrets = BTreeMap<Key, Arc<Secret>>;

/// Secrets as far as they are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(crate) secrets: Arc<Secrets>,
    /// Whether every source was read once. Until then a Secret that is not here may yet be there.
    pub(crate) complete: bool,
}

/// A credential that cannot be had; the message is for the proxy's operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Missing {
    /// The name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A Secret that the proxy may not have.
    #[error(transparent)]
    Forbidden(#[from] Denial),
    /// No such Secret.
    #[error("there is no Secret {namespace}/{name}")]
    Absent {
        /// Where it was looked for.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The Secret cannot be used.
    #[error("Secret {namespace}/{name}: {source}")]
    Unusable {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is wrong.
        source: SecretError,
    },
}

/// What a name means; whether it may be told was decided before.
pub(crate) fn find(secrets: &Secrets, name: Name) -> Result<Material, Missing> {
    let get = |secret: &str| {
        let key = Key {
            namespace: name.namespace.clone(),
            name: secret.to_owned(),
        };
        secrets.get(&key).map(|found| (key, found))
    };
    let found = match name.part {
        Part::KeyPair => get(&name.secret),
        // A Secret of its own for the roots comes before the roots beside the certificate, as in Istio.
        Part::Roots => get(&format!("{}{}", name.secret, name::ROOTS_SUFFIX)).or_else(|| get(&name.secret)),
    };
    let Some((key, secret)) = found else {
        return Err(Missing::Absent {
            namespace: name.namespace,
            name: name.secret,
        });
    };
    let material = match name.part {
        Part::KeyPair => secret.key_pair(),
        Part::Roots => secret.roots(),
    };
    material.map_err(|source| Missing::Unusable {
        namespace: key.namespace,
        name: key.name,
        source,
    })
}

/// Puts sources together, the last one's Secrets first in rank, until one of them ends or nobody listens.
pub(crate) async fn join(mut sources: Vec<watch::Receiver<Known>>, joined: watch::Sender<Known>) {
    loop {
        let all: Vec<Known> = sources
            .iter_mut()
            .map(|source| source.borrow_and_update().clone())
            .collect();
        joined.send_replace(together(&all));
        let news = sources.iter_mut().map(|source| Box::pin(source.changed()));
        tokio::select! {
            (changed, ..) = futures::future::select_all(news) => if changed.is_err() { return },
            () = joined.closed() => return,
        }
    }
}

fn together(sources: &[Known]) -> Known {
    match sources {
        [one] => one.clone(),
        all => Known {
            secrets: Arc::new(
                all.iter()
                    .flat_map(|known| known.secrets.iter())
                    .map(|(key, secret)| (key.clone(), secret.clone()))
                    .collect(),
            ),
            complete: all.iter().all(|known| known.complete),
        },
    }
}

#[cfg(test)]
mod tests;
