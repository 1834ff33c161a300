//! Citadel's word on which roots to trust, while it can be heard: one stream, opened again when it ends.
//!
//! It knows neither files nor certificates; the client gives it the channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proto::trust::trust_bundle_service_client::TrustBundleServiceClient;
use proto::trust::{TrustBundle as Message, WatchTrustBundleRequest};
use rustls::AlertDescription;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::context::describe;
use crate::spiffe::TrustDomain;
use crate::tls::{BundleError, TrustBundle};

/// Largest message, in bytes: as many roots as a bundle may have.
const MAX_MESSAGE: usize = 1 << 20;
/// Between one attempt and the next.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// An authority that does not have the service is asked this seldom.
const UNIMPLEMENTED_RETRY: Duration = Duration::from_secs(3600);

/// What Citadel said last, on a stream that is still open; nothing once it has ended, because a certificate's answer may
/// be newer then.
#[derive(Debug)]
pub(super) struct Follower {
    told: watch::Sender<Option<Message>>,
    /// What [`Follower::news`] has told of.
    noted: AsyncMutex<watch::Receiver<Option<Message>>>,
    attempt: Mutex<Attempt>,
    /// What Citadel's end of TLS said of our certificate, when it was refused.
    refusal: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
struct Attempt {
    task: Option<JoinHandle<Status>>,
    due: Instant,
    wait: Duration,
}

impl Default for Follower {
    fn default() -> Self {
        let told = watch::Sender::new(None);
        Self {
            noted: AsyncMutex::new(told.subscribe()),
            told,
            attempt: Mutex::new(Attempt {
                task: None,
                due: Instant::now(),
                wait: FIRST_RETRY,
            }),
            refusal: Arc::default(),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(task) = &self.attempt.get_mut().task {
            task.abort();
        }
    }
}

impl Follower {
    /// Whether a stream is to be opened now: none is open, and the last attempt is long enough ago.
    pub(super) async fn wanted(&self) -> bool {
        let ended = {
            let mut attempt = self.attempt.lock();
            match &attempt.task {
                Some(task) if !task.is_finished() => return false,
                _ => attempt.task.take(),
            }
        };
        if let Some(task) = ended {
            self.ended(task.await.ok());
        }
        self.attempt.lock().due <= Instant::now()
    }

    fn ended(&self, status: Option<Status>) {
        let heard = self.told.send_replace(None).is_some();
        let mut attempt = self.attempt.lock();
        attempt.wait = match status.as_ref().map(Status::code) {
            Some(Code::Unimplemented) => UNIMPLEMENTED_RETRY,
            _ if heard => FIRST_RETRY,
            _ => (attempt.wait * 2).min(LONGEST_RETRY),
        };
        attempt.due = Instant::now() + attempt.wait.mul_f64(rand::random_range(0.5..1.0));
        if let Some(status) = status {
            let mut known = self.refusal.lock();
            // Whoever answers that it has no such service has taken the certificate.
            let taken = heard || status.code() == Code::Unimplemented;
            *known = refusal(&status).or(known.take().filter(|_| !taken));
            tracing::debug!(code = ?status.code(), reason = status.message(), "Citadel's trust bundle is not followed");
        }
    }

    /// Why Citadel does not even let the certificate in hand connect: whoever was away while it was revoked hears of that so.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().clone()
    }

    /// Another certificate is in hand: the stream may be opened with it at once.
    pub(super) fn renewed(&self) {
        if self.refusal.lock().take().is_some() {
            self.attempt.lock().due = Instant::now();
        }
    }

    /// Opens a stream on this channel.
    pub(super) fn follow(self: &Arc<Self>, channel: Channel) {
        let (told, refusal) = (self.told.clone(), self.refusal.clone());
        self.attempt.lock().task = Some(tokio::spawn(async move {
            match listen(channel, &told, &refusal).await {
                Ok(()) => Status::unavailable("the stream ended"),
                Err(status) => status,
            }
        }));
    }

    /// The roots that Citadel names, where it does.
    pub(super) fn bundle(&self, trust_domain: &TrustDomain) -> Result<Option<TrustBundle>, BundleError> {
        let told = self.told.borrow();
        told.as_ref()
            .map(|message| parse(message, trust_domain))
            .transpose()
    }

    /// As [`super::Issuer::reissue_before`].
    pub(super) fn reissue_before(&self) -> i64 {
        self.told
            .borrow()
            .as_ref()
            .map_or(0, |message| message.reissue_before)
    }

    /// Ends at the next thing that Citadel says, the first one too.
    pub(super) async fn news(&self) {
        let mut noted = self.noted.lock().await;
        if noted.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

fn parse(message: &Message, trust_domain: &TrustDomain) -> Result<TrustBundle, BundleError> {
    // A name that is none can be nobody's.
    let aliases = message
        .trust_domain_aliases
        .iter()
        .filter_map(|name| TrustDomain::parse(name).ok());
    TrustBundle::from_pem(trust_domain.clone(), message.roots.as_bytes())?
        .with_aliases(aliases)
        .with_revocations(&message.crl, message.crl_leaf_only)
}

/// The alert of RFC 8446, section 6.2, by which a peer says that it takes a certificate no more. What h2 hands on of it is its
/// text alone.
fn refusal(status: &Status) -> Option<String> {
    let text = describe(status);
    let said = |alert: AlertDescription| text.contains(&format!("received fatal alert: {alert:?}"));
    match () {
        () if said(AlertDescription::CertificateRevoked) => Some("Citadel says that it was revoked".into()),
        () if said(AlertDescription::UnknownCA) => {
            Some("Citadel says that its authority is trusted no more".into())
        }
        () => None,
    }
}

/// Hands on what Citadel says. Who says something to the certificate takes it, whatever was said of it before.
async fn listen(
    channel: Channel,
    told: &watch::Sender<Option<Message>>,
    refusal: &Mutex<Option<String>>,
) -> Result<(), Status> {
    let mut client = TrustBundleServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    let answer = client.watch_trust_bundle(WatchTrustBundleRequest {}).await?;
    let mut stream = answer.into_inner();
    while let Some(message) = stream.message().await? {
        *refusal.lock() = None;
        told.send_replace(Some(message));
    }
    Ok(())
}
