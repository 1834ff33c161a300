//! The credential service: one stream for a proxy, which says what it wants and hears of each change.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use proto::trust::credential::{KeyPair, Result as Outcome, Roots};
use proto::trust::credential_service_server::CredentialService;
use proto::trust::{Credential, WatchCredentialsRequest};
use runtime::spiffe::Peer;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::ca;

use super::proof::Proof;
use super::{Known, Material, Missing, Name, find};
use crate::current::Current;
use crate::kubernetes::access::{Access, Decision, Reader};

/// Most credentials that one proxy can ask for.
const MAX_NAMES: usize = 1000;
/// Names of one proxy that are looked at at once.
const AT_ONCE: usize = 16;
/// How often it is looked whether rights have changed.
const LOOK: Duration = Duration::from_secs(2);
/// Answers that wait for a proxy to read; more are not made until it does.
const QUEUE: usize = 8;

/// Serves credentials of Secrets to whoever may have them.
#[derive(Debug, Clone)]
pub(crate) struct CredentialServer {
    pub(crate) secrets: watch::Receiver<Known>,
    /// Who may have what.
    pub(crate) access: Access,
    /// Whose certificates still count.
    pub(crate) current: Current,
    /// Ends all streams: they would hold up the end of the server.
    pub(crate) shutdown: CancellationToken,
}

/// One proxy's stream.
struct Session {
    /// The proxy, by its certificate.
    reader: Reader,
    peer: Peer,
    access: Access,
    wanted: BTreeSet<String>,
    sent: BTreeMap<String, Result<Material, Missing>>,
    /// Why nothing can be said of some name for now; told once.
    waits: Option<String>,
}

impl Session {
    /// What is news to the proxy.
    async fn news(&mut self, known: &Known) -> Vec<Credential> {
        let mut news = Vec::new();
        let before = self.waits.take();
        for (name, found) in self.look_all(known).await {
            let found = match found {
                Ok(found) => found,
                // It may be known soon; a proxy that has it from before shall keep it.
                Err(reason) => {
                    self.waits = Some(reason);
                    continue;
                }
            };
            if self.sent.get(&name) == Some(&found) {
                continue;
            }
            self.audit(&name, &found);
            news.push(message(&name, &found));
            self.sent.insert(name, found);
        }
        self.sent.retain(|name, _| self.wanted.contains(name));
        if let Some(reason) = self.waits.as_ref().filter(|_| before.is_none()) {
            tracing::warn!(id = %self.peer.spiffe_id, reason, "credentials have to wait");
        }
        news
    }

    /// What each name means, in the names' order. Rights are asked for several at once: a question may take as long as the API
    /// server likes.
    async fn look_all(&self, known: &Known) -> BTreeMap<String, Result<Result<Material, Missing>, String>> {
        let look = |name: &String| {
            let name = name.clone();
            async move {
                let found = self.look(&name, known).await;
                (name, found)
            }
            .boxed()
        };
        let looks: Vec<BoxFuture<'_, _>> = self.wanted.iter().map(look).collect();
        stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
    }

    /// What a name means for this proxy, or why that cannot be said yet.
    async fn look(&self, name: &str, known: &Known) -> Result<Result<Material, Missing>, String> {
        let name = match Name::parse(name, &self.reader.namespace) {
            Ok(name) => name,
            Err(error) => return Ok(Err(error.into())),
        };
        match self.access.decide(&self.reader, &name.key()).await {
            Decision::Denied(denial) => Ok(Err(denial.into())),
            Decision::Unknown(reason) => Err(reason),
            Decision::Allowed => match find(&known.secrets, name) {
                Err(Missing::Absent { .. }) if !known.complete => Err("Secrets are not read yet".to_owned()),
                found => Ok(found),
            },
        }
    }

    fn audit(&self, name: &str, found: &Result<Material, Missing>) {
        let id = &self.peer.spiffe_id;
        match found {
            Ok(_) => tracing::info!(target: "citadel::audit", %id, name, "credential sent"),
            Err(reason) => {
                tracing::warn!(target: "citadel::audit", %id, name, %reason, "credential not sent")
            }
        }
    }
}

fn message(name: &str, found: &Result<Material, Missing>) -> Credential {
    let result = match found {
        Ok(Material::KeyPair {
            chain,
            key,
            ocsp_staple,
        }) => Outcome::KeyPair(KeyPair {
            chain: chain.clone(),
            key: key.to_string(),
            ocsp_staple: ocsp_staple.clone(),
        }),
        Ok(Material::Roots { certificates, crl }) => Outcome::Roots(Roots {
            certificates: certificates.clone(),
            crl: crl.clone(),
        }),
        Err(reason) => Outcome::Missing(reason.to_string()),
    };
    Credential {
        name: name.to_owned(),
        result: Some(result),
    }
}

#[tonic::async_trait]
impl CredentialService for CredentialServer {
    type WatchCredentialsStream = Pin<Box<dyn Stream<Item = Result<Credential, Status>> + Send>>;

    async fn watch_credentials(
        &self,
        request: Request<Streaming<WatchCredentialsRequest>>,
    ) -> Result<Response<Self::WatchCredentialsStream>, Status> {
        let proof = Proof::of(request.extensions(), &self.current).await?;
        let peer = &proof.peer;
        let account = peer.spiffe_id.account();
        let (namespace, account) = account.ok_or_else(|| {
            Status::permission_denied("credentials are for service accounts: /ns/NAMESPACE/sa/ACCOUNT")
        })?;
        let session = Session {
            reader: Reader {
                namespace: namespace.to_owned(),
                account: account.to_owned(),
            },
            peer: peer.clone(),
            access: self.access.clone(),
            wanted: BTreeSet::new(),
            sent: BTreeMap::new(),
            waits: None,
        };
        let (answers, stream) = mpsc::channel(QUEUE);
        let refusals = answers.clone();
        let driving = drive(session, request.into_inner(), self.secrets.clone(), answers);
        let driving = while_proven(proof, driving, refusals);
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(driving));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Drives until the proxy's certificate is revoked, which ends the stream whatever was about to be sent.
async fn while_proven(
    proof: Proof,
    driving: impl Future<Output = ()>,
    refusals: mpsc::Sender<Result<Credential, Status>>,
) {
    let refusal = tokio::select! {
        biased;
        refusal = proof.lost() => refusal,
        () = driving => return,
    };
    _ = refusals.send(Err(refusal)).await;
}

/// Runs until the proxy goes, its certificate ends, or it asks for too much.
async fn drive(
    mut session: Session,
    mut requests: Streaming<WatchCredentialsRequest>,
    mut secrets: watch::Receiver<Known>,
    answers: mpsc::Sender<Result<Credential, Status>>,
) {
    let left = session.peer.not_after.saturating_sub(ca::now().unix_timestamp());
    let expiry = tokio::time::sleep(Duration::from_secs(u64::try_from(left).unwrap_or(0)));
    tokio::pin!(expiry);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut expiry => {
                let refusal = Status::unauthenticated("the client certificate has expired: connect again");
                _ = answers.send(Err(refusal)).await;
                return;
            }
            request = requests.message() => match request {
                Ok(Some(request)) if request.names.len() <= MAX_NAMES => {
                    session.wanted = request.names.into_iter().collect();
                }
                Ok(Some(_)) => {
                    let refusal = Status::resource_exhausted(format!("more than {MAX_NAMES} credentials"));
                    _ = answers.send(Err(refusal)).await;
                    return;
                }
                Ok(None) | Err(_) => return,
            },
            changed = secrets.changed() => if changed.is_err() { return },
            // Rights change too, and questions may have failed.
            _ = looks.tick() => if session.wanted.is_empty() { continue },
            () = answers.closed() => return,
        }
        let now = secrets.borrow_and_update().clone();
        for credential in session.news(&now).await {
            if answers.send(Ok(credential)).await.is_err() {
                return;
            }
        }
    }
}
