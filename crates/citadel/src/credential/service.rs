//! The credential service: one stream for a proxy, which says what it wants and hears of each change.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::time::Duration;

use proto::trust::credential::{KeyPair, Result as Outcome, Roots};
use proto::trust::credential_service_server::CredentialService;
use proto::trust::{Credential, WatchCredentialsRequest};
use runtime::grpc;
use runtime::spiffe::Peer;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::ca;

use super::{Known, Material, Missing, find};

/// Most credentials that one proxy can ask for.
const MAX_NAMES: usize = 1000;
/// Answers that wait for a proxy to read; more are not made until it does.
const QUEUE: usize = 8;

/// Serves credentials of Secrets to whoever may have them.
#[derive(Debug, Clone)]
pub(crate) struct CredentialServer {
    pub(crate) secrets: watch::Receiver<Known>,
    /// Ends all streams: they would hold up the end of the server.
    pub(crate) shutdown: CancellationToken,
}

/// One proxy's stream.
struct Session {
    /// The proxy's namespace, by its certificate.
    namespace: String,
    peer: Peer,
    wanted: BTreeSet<String>,
    sent: BTreeMap<String, Result<Material, Missing>>,
}

impl Session {
    /// What is news to the proxy.
    fn news(&mut self, known: &Known) -> Vec<Credential> {
        let mut news = Vec::new();
        for name in &self.wanted {
            let found = find(&known.secrets, name, &self.namespace);
            if self.sent.get(name) == Some(&found) {
                continue;
            }
            // It may yet come; a proxy that has it from an earlier stream shall keep it.
            if !known.complete && matches!(found, Err(Missing::Absent { .. })) {
                continue;
            }
            self.audit(name, &found);
            news.push(message(name, &found));
            self.sent.insert(name.clone(), found);
        }
        self.sent.retain(|name, _| self.wanted.contains(name));
        news
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
        let peer = grpc::peer(request.extensions())
            .cloned()
            .ok_or_else(|| Status::unauthenticated("connect with a current certificate of this mesh"))?;
        let account = peer.spiffe_id.account();
        let (namespace, _) = account.ok_or_else(|| {
            Status::permission_denied("credentials are for service accounts: /ns/NAMESPACE/sa/ACCOUNT")
        })?;
        let session = Session {
            namespace: namespace.to_owned(),
            peer: peer.clone(),
            wanted: BTreeSet::new(),
            sent: BTreeMap::new(),
        };
        let (answers, stream) = mpsc::channel(QUEUE);
        let driving = drive(session, request.into_inner(), self.secrets.clone(), answers);
        tokio::spawn(self.shutdown.clone().run_until_cancelled_owned(driving));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
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
        }
        let now = secrets.borrow_and_update().clone();
        for credential in session.news(&now) {
            if answers.send(Ok(credential)).await.is_err() {
                return;
            }
        }
    }
}
