//! Credentials of Secrets for gateways: asks Citadel for those that Envoy names, and keeps what it got.
//!
//! One stream to Citadel carries all of them. What was got stays in use while Citadel is away, and is forgotten some minutes after
//! Envoy has stopped asking for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::trust::credential::Result as Outcome;
use proto::trust::credential_service_client::CredentialServiceClient;
use proto::trust::{Credential, WatchCredentialsRequest};
use runtime::{Identity, SpiffeId, grpc, tls};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tonic::{Code, Status};
use xds::server::StreamId;
use zeroize::Zeroizing;

/// Most credentials that are asked for; Citadel refuses more.
const MAX_NAMES: usize = 1000;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(15);

/// How long a credential is kept that nobody asks for: Envoy replaces listeners, and asks again for what they had.
const UNWANTED: Duration = Duration::from_secs(300);
/// How often it is looked for such credentials.
const LOOK: Duration = Duration::from_secs(30);

/// A credential that Citadel gave. Its key is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum Material {
    /// A server's or client's certificate.
    KeyPair {
        /// PEM.
        chain: String,
        /// PEM.
        key: Zeroizing<String>,
        /// DER; empty for none.
        ocsp_staple: Vec<u8>,
    },
    /// Roots of peers.
    Roots {
        /// PEM.
        certificates: String,
        /// PEM; empty for none.
        crl: String,
    },
}

impl fmt::Debug for Material {
    /// Never a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyPair { .. } => "KeyPair",
            Self::Roots { .. } => "Roots",
        })
    }
}

impl Material {
    /// What an answer holds, or why it holds nothing.
    fn of(result: Option<Outcome>) -> Result<Self, String> {
        match result {
            Some(Outcome::KeyPair(pair)) => Ok(Self::KeyPair {
                chain: pair.chain,
                key: Zeroizing::new(pair.key),
                ocsp_staple: pair.ocsp_staple,
            }),
            Some(Outcome::Roots(roots)) => Ok(Self::Roots {
                certificates: roots.certificates,
                crl: roots.crl,
            }),
            Some(Outcome::Missing(reason)) => Err(reason),
            None => Err("Citadel's answer is of a newer kind".to_owned()),
        }
    }
}

/// Credentials by their names.
pub type Held = BTreeMap<String, Material>;

/// Which names Envoy's streams ask for, and what there is for them. Clones share it.
#[derive(Debug, Clone)]
pub struct Credentials {
    streams: Arc<Mutex<HashMap<StreamId, Vec<Arc<str>>>>>,
    wanted: watch::Sender<BTreeSet<Arc<str>>>,
    held: watch::Sender<Held>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            streams: Arc::default(),
            wanted: watch::Sender::new(BTreeSet::new()),
            held: watch::Sender::new(Held::new()),
        }
    }
}

impl Credentials {
    /// What there is, and each change.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<Held> {
        self.held.subscribe()
    }

    /// All that a stream asks for now; an empty list when it has ended. `own` are names that the agent answers itself.
    pub fn want(&self, stream: StreamId, names: Vec<Arc<str>>, own: &[&str]) {
        let names: Vec<Arc<str>> = names.into_iter().filter(|name| !own.contains(&&**name)).collect();
        let mut streams = self.streams.lock();
        match names.is_empty() {
            true => streams.remove(&stream),
            false => streams.insert(stream, names),
        };
        let all: BTreeSet<Arc<str>> = streams.values().flatten().take(MAX_NAMES).cloned().collect();
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != all;
            *wanted = all;
            changed
        });
    }

    /// Forgets what nobody has asked for in a while, with its keys; runs until dropped.
    pub async fn forget(self) {
        let mut unwanted = Unwanted::default();
        loop {
            tokio::time::sleep(LOOK).await;
            let gone = unwanted.gone(&self.held.borrow(), &self.wanted.borrow(), Instant::now());
            for name in &gone {
                tracing::info!(name, "credential forgotten: Envoy does not ask for it any more");
            }
            self.held.send_if_modified(|held| {
                held.retain(|name, _| !gone.contains(name));
                !gone.is_empty()
            });
        }
    }

    /// Follows Citadel for as long as names are wanted; runs until dropped.
    pub async fn run(self, identity: Identity, address: String) {
        let mut wanted = self.wanted.subscribe();
        let mut wait = FIRST_RETRY;
        let mut complaint = String::new();
        loop {
            if wanted.wait_for(|names| !names.is_empty()).await.is_err() {
                return;
            }
            let mut heard = false;
            let status = match self.follow(&identity, &address, &mut heard).await {
                Ok(()) => Status::unavailable("the stream ended"),
                Err(status) => status,
            };
            // A certificate that ended on a long stream is no fault.
            let expected = heard && matches!(status.code(), Code::Unauthenticated | Code::Unavailable);
            if !expected && status.message() != complaint {
                tracing::warn!(code = ?status.code(), reason = status.message(), "no credentials from Citadel; those in hand stay in use");
                status.message().clone_into(&mut complaint);
            }
            wait = if heard {
                FIRST_RETRY
            } else {
                (wait * 2).min(LONGEST_RETRY)
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One stream, on a connection of its own: it is authenticated by the certificate of today.
    async fn follow(&self, identity: &Identity, address: &str, heard: &mut bool) -> Result<(), Status> {
        let failed = |error: &dyn std::error::Error| Status::internal(error.to_string());
        let citadel = SpiffeId::system(identity.id().trust_domain(), "citadel").map_err(|e| failed(&e))?;
        let connector = tls::connector(identity, citadel).map_err(|e| failed(&e))?;
        let channel = grpc::channel(address, Some(connector)).map_err(|e| failed(&e))?;
        let requests = WatchStream::new(self.wanted.subscribe()).map(|names| WatchCredentialsRequest {
            names: names.iter().map(ToString::to_string).collect(),
        });
        let mut answers = CredentialServiceClient::new(channel)
            .watch_credentials(requests)
            .await?
            .into_inner();
        while let Some(credential) = answers.message().await? {
            *heard = true;
            self.take(credential);
        }
        Ok(())
    }

    fn take(&self, credential: Credential) {
        let Credential { name, result } = credential;
        match Material::of(result) {
            Ok(material) => {
                tracing::info!(name, "credential received");
                self.held.send_modify(|held| _ = held.insert(name, material));
            }
            Err(reason) => {
                tracing::error!(
                    name,
                    reason,
                    "credential not available: TLS that needs it does not work"
                );
                self.held.send_if_modified(|held| held.remove(&name).is_some());
            }
        }
    }
}

/// Since when nobody has asked for credentials that there are.
#[derive(Debug, Default)]
struct Unwanted(BTreeMap<String, Instant>);

impl Unwanted {
    /// Those that nobody has asked for in [`UNWANTED`] by `now`.
    fn gone(&mut self, held: &Held, wanted: &BTreeSet<Arc<str>>, now: Instant) -> BTreeSet<String> {
        let is_unwanted = |name: &str| held.contains_key(name) && !wanted.contains(name);
        self.0.retain(|name, _| is_unwanted(name));
        for name in held.keys().filter(|name| is_unwanted(name)) {
            self.0.entry(name.clone()).or_insert(now);
        }
        let old = |since: &Instant| now.saturating_duration_since(*since) >= UNWANTED;
        let gone = self.0.iter().filter(|(_, since)| old(since));
        gone.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<Arc<str>> {
        list.split_whitespace().map(Arc::from).collect()
    }

    #[test]
    fn wanted_is_what_all_streams_want_but_for_the_agents_own() {
        let credentials = Credentials::default();
        let wanted = || {
            credentials
                .wanted
                .borrow()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        };
        credentials.want(StreamId(1), names("default ROOTCA"), &["default", "ROOTCA"]);
        assert_eq!(wanted(), "");
        credentials.want(StreamId(2), names("a b"), &["default"]);
        credentials.want(StreamId(3), names("b c"), &["default"]);
        assert_eq!(wanted(), "a b c");
        credentials.want(StreamId(2), Vec::new(), &[]);
        assert_eq!(wanted(), "b c");
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_forgotten() {
        let roots = || Material::Roots {
            certificates: String::new(),
            crl: String::new(),
        };
        let held = Held::from([("a".to_owned(), roots()), ("b".to_owned(), roots())]);
        let mut unwanted = Unwanted::default();
        let start = Instant::now();
        let mut check = |seconds: u64, wanted: &str, expected: &[&str]| {
            let wanted = names(wanted).into_iter().collect();
            let gone = unwanted.gone(&held, &wanted, start + Duration::from_secs(seconds));
            assert!(gone.iter().eq(expected), "{seconds} s: {gone:?}");
        };
        check(0, "a", &[]);
        check(299, "a", &[]);
        check(300, "a", &["b"]);
        // Asked for again, its time begins anew.
        check(310, "a b", &[]);
        check(320, "", &[]);
        check(619, "", &[]);
        check(620, "", &["a", "b"]);
    }

    #[test]
    fn what_is_gone_is_dropped_and_what_came_is_kept() {
        let credentials = Credentials::default();
        let take = |result| {
            credentials.take(Credential {
                name: "kubernetes://web".into(),
                result,
            });
            credentials.held.borrow().len()
        };
        assert_eq!(take(Some(Outcome::KeyPair(Default::default()))), 1);
        assert_eq!(take(Some(Outcome::Missing("deleted".into()))), 0);
        assert_eq!(take(None), 0);
    }
}
