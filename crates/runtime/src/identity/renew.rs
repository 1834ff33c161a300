//! When and how an identity is renewed: the loop behind [`Identity`].

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Identity, IssueError, Svid};
use crate::context::{Context, describe};
use crate::metrics::ServiceLabel;
use crate::readiness::Condition;
use crate::tls::TrustBundle;

/// Who gives certificates.
pub trait Issuer: Send + Sync + 'static {
    /// Gives a certificate for a new key; `current` is the one to be renewed.
    fn issue(&self, current: Option<Arc<Svid>>) -> impl Future<Output = Result<Svid, IssueError>> + Send;

    /// The roots to trust from now on, when they are not those of `current`. Asked every few seconds and at [`Issuer::news`];
    /// an error leaves the roots as they are.
    fn changed_bundle(
        &self,
        current: &Svid,
    ) -> impl Future<Output = Result<Option<TrustBundle>, IssueError>> + Send {
        let _ = current;
        async { Ok(None) }
    }

    /// Ends when the issuer has something to tell: other roots, or a time before which certificates are to be renewed.
    fn news(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// A certificate that was issued before this time (seconds since 1970) is to be renewed at once; 0 for none.
    fn reissue_before(&self) -> i64 {
        0
    }

    /// Why the mesh refuses `current` although it has not ended, where it does: then it is renewed at once.
    fn refused_why(&self, current: &Svid) -> Option<String> {
        current.refused().map(ToString::to_string)
    }
}

/// No identity could be had.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The flags cannot work.
    #[error(transparent)]
    Configuration(IssueError),
    /// The process was told to end before a certificate came.
    #[error("stopped before an identity was issued; the last attempt: {0}")]
    Stopped(String),
}

/// How often roots and the wall clock are looked at: a suspended machine is late by no more than this.
const TICK: Duration = Duration::from_secs(2);
/// Citadel's certificates are valid from this long before they were issued, in seconds.
const BACKDATE: i64 = 120;
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(15);

/// When to renew a certificate that was received at `received` and ends at `not_after` (seconds since 1970): half-way,
/// a tenth of the life earlier or later by `jitter` (0 to 1), so that a fleet started at once does not renew at once.
#[must_use]
pub fn renewal_time(received: i64, not_after: i64, jitter: f64) -> i64 {
    let life = not_after.saturating_sub(received).max(0);
    let share = 0.4 + 0.2 * jitter.clamp(0.0, 1.0);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "seconds of a certificate's life"
    )]
    let wait = (life as f64 * share) as i64;
    received.saturating_add(wait.max(1))
}

/// When a certificate was issued by its issuer's clock; certificates are valid from two minutes before.
fn issued_at(svid: &Svid) -> i64 {
    svid.not_before().saturating_add(BACKDATE)
}

pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// When a renewal is due, by both clocks: the wall clock goes on while the machine is suspended, and the monotonic one
/// does when the wall clock is set back.
#[derive(Debug, Clone, Copy)]
struct Due {
    wall: i64,
    monotonic: Option<Instant>,
}

impl Due {
    fn new(wall: i64, wall_now: i64, now: Instant) -> Self {
        let wait = u64::try_from(wall.saturating_sub(wall_now)).unwrap_or(0);
        Self {
            wall,
            monotonic: now.checked_add(Duration::from_secs(wait)),
        }
    }

    /// The renewal of a certificate that has just come.
    fn renewal(not_after: i64) -> Self {
        let now = unix_now();
        let wall = renewal_time(now, not_after, rand::random());
        Self::new(wall, now, Instant::now())
    }

    fn left(&self, wall_now: i64, now: Instant) -> Duration {
        let wall = u64::try_from(self.wall.saturating_sub(wall_now)).unwrap_or(0);
        let monotonic = self.monotonic.map(|at| at.saturating_duration_since(now));
        Duration::from_secs(wall).min(monotonic.unwrap_or(Duration::MAX))
    }
}

/// Waits that double from one failure to the next, with jitter.
struct Backoff(Duration);

impl Backoff {
    fn next(&mut self) -> Duration {
        let wait = self.0.mul_f64(rand::random_range(0.8..1.2));
        self.0 = (self.0 * 2).min(LONGEST_RETRY);
        wait
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    service: &'static str,
    result: &'static str,
}

struct Renewer<I> {
    issuer: I,
    service: &'static str,
    condition: Condition,
    expiry: Gauge,
    /// 1 while renewals fail.
    failing: Gauge,
    /// 1 while the mesh refuses the certificate in hand.
    refused: Gauge,
    requests: Family<ResultLabel, Counter>,
    /// The last reason that was logged.
    complaint: Mutex<String>,
}

pub(super) async fn start<I: Issuer>(issuer: I, context: &Context) -> Result<Identity, StartError> {
    let expiry = context.metrics.family::<ServiceLabel, Gauge>(
        "argosy_identity_expiry_timestamp_seconds",
        "End of this service's own certificate, seconds since 1970",
    );
    let renewer = Renewer {
        issuer,
        service: context.service,
        condition: context.readiness.condition("identity"),
        expiry: expiry.get_or_create_owned(&ServiceLabel {
            service: context.service,
        }),
        failing: context
            .metrics
            .family::<ServiceLabel, Gauge>(
                "argosy_identity_renewal_failing",
                "1 while this service's own certificate cannot be renewed; it works until its end",
            )
            .get_or_create_owned(&ServiceLabel {
                service: context.service,
            }),
        refused: context
            .metrics
            .family::<ServiceLabel, Gauge>(
                "argosy_identity_refused",
                "1 while the mesh refuses this service's own certificate: it was revoked, or its authority is trusted no more",
            )
            .get_or_create_owned(&ServiceLabel {
                service: context.service,
            }),
        requests: context.metrics.family(
            "argosy_identity_requests_total",
            "Requests for this service's own certificate by result",
        ),
        complaint: Mutex::default(),
    };
    let mut last = "none was made".to_owned();
    let mut backoff = Backoff(FIRST_RETRY);
    let svid = loop {
        let attempt = tokio::select! {
            attempt = renewer.request(None) => attempt,
            () = context.shutdown.cancelled() => return Err(StartError::Stopped(last)),
        };
        match attempt {
            Ok(svid) => break svid,
            Err(reason) => {
                renewer.condition.set_not_ready(&reason);
                last = reason;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = context.shutdown.cancelled() => return Err(StartError::Stopped(last)),
        }
    };
    renewer.condition.set_ready();
    let identity = Identity::fixed(svid);
    let (kept, stop) = (identity.clone(), context.shutdown.clone());
    tokio::spawn(async move { stop.run_until_cancelled(renewer.keep(kept)).await });
    Ok(identity)
}

impl<I: Issuer> Renewer<I> {
    /// One attempt, counted and logged; the error is a sentence for the operator.
    async fn request(&self, current: Option<Arc<Svid>>) -> Result<Svid, String> {
        let result = self.issuer.issue(current).await;
        let label = if result.is_ok() { "success" } else { "failure" };
        self.requests
            .get_or_create(&ResultLabel {
                service: self.service,
                result: label,
            })
            .inc();
        match result {
            Ok(svid) => {
                self.complaint.lock().clear();
                self.failing.set(0);
                self.expiry.set(svid.not_after());
                tracing::info!(service = self.service, id = %svid.id(), serial = svid.serial(),
                    not_after = crate::logging::utc(svid.not_after()), "identity issued");
                Ok(svid)
            }
            Err(error) => {
                let reason = describe(&error);
                self.complain(&reason);
                self.failing.set(1);
                Err(reason)
            }
        }
    }

    /// Says a reason once, however often it is met.
    fn complain(&self, reason: &str) {
        let mut last = self.complaint.lock();
        if *last != reason {
            tracing::warn!(
                service = self.service,
                reason,
                "no certificate issued; trying until there is one"
            );
            reason.clone_into(&mut last);
        }
    }

    /// Renews for ever.
    async fn keep(&self, identity: Identity) {
        let mut due = Due::renewal(identity.current().not_after());
        let mut backoff = Backoff(FIRST_RETRY);
        let mut retry = None;
        // What is revoked is heard of on the stream, which the first look opens.
        self.refresh_roots(&identity, &identity.current()).await;
        loop {
            let left = retry.unwrap_or_else(|| due.left(unix_now(), Instant::now()).min(TICK));
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = self.issuer.news() => {}
            }
            self.refresh_roots(&identity, &identity.current()).await;
            let current = identity.current();
            let refused = self.issuer.refused_why(&current);
            let waits = !due.left(unix_now(), Instant::now()).is_zero();
            if refused.is_none() {
                self.tell_taken(&current);
            }
            if waits && refused.is_none() && issued_at(&current) >= self.issuer.reissue_before() {
                self.failing.set(0);
                retry = None;
                continue;
            }
            self.tell_refused(&current, refused.as_deref());
            match self.request(Some(current.clone())).await {
                Ok(svid) => {
                    due = Due::renewal(svid.not_after());
                    // Should the mesh refuse that one as well, the next is not asked for at once.
                    retry = refused.map(|_| backoff.next());
                    if retry.is_none() {
                        backoff = Backoff(FIRST_RETRY);
                    }
                    identity.replace(svid);
                    // Where that one is refused too, nothing is well yet.
                    if self.issuer.refused_why(&identity.current()).is_none() {
                        self.refused.set(0);
                        self.condition.set_ready();
                    }
                }
                Err(reason) => {
                    self.tell_useless(&current, refused.as_deref(), &reason);
                    retry = Some(backoff.next());
                }
            }
        }
    }

    fn tell_refused(&self, current: &Svid, refused: Option<&str>) {
        let Some(why) = refused else { return };
        if self.refused.set(1) == 0 {
            tracing::error!(service = self.service, id = %current.id(), serial = current.serial(), why,
                "the mesh refuses the certificate; asking for another one at once");
        }
        self.condition.set_not_ready(format!(
            "the mesh refuses the certificate {}: {why}; another one is asked for",
            current.serial()
        ));
    }

    /// A certificate that was refused is taken again: the list that it stood on is gone, or its authority is trusted once more.
    fn tell_taken(&self, current: &Svid) {
        if self.refused.set(0) == 0 {
            return;
        }
        tracing::warn!(service = self.service, id = %current.id(), serial = current.serial(),
            "the mesh takes the certificate again");
        // Should it be refused once more, the reason is news.
        self.complaint.lock().clear();
        if current.not_after() > unix_now() {
            self.condition.set_ready();
        }
    }

    /// An identity that can still be used is good enough; one that has ended or is refused is not.
    fn tell_useless(&self, current: &Svid, refused: Option<&str>, reason: &str) {
        if current.not_after() <= unix_now() {
            tracing::error!(service = self.service, id = %current.id(), %reason, "the certificate has expired");
            self.condition.set_not_ready(format!(
                "the certificate has expired and is not renewed: {reason}"
            ));
        } else if let Some(why) = refused {
            self.condition.set_not_ready(format!(
                "the mesh refuses the certificate {}: {why}; another one is not given: {reason}",
                current.serial()
            ));
        }
    }

    async fn refresh_roots(&self, identity: &Identity, current: &Svid) {
        match self.issuer.changed_bundle(current).await {
            Ok(Some(bundle)) => {
                tracing::info!(
                    service = self.service,
                    roots = bundle.roots().len(),
                    "trust bundle changed"
                );
                self.complaint.lock().clear();
                identity.replace(current.with_bundle(Arc::new(bundle)));
            }
            Ok(None) => {}
            Err(error) => self.complain(&format!("{}; the roots stay as they were", describe(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose, SanType,
    };
    use rustls::pki_types::UnixTime;
    use zeroize::Zeroizing;

    use super::*;
    use crate::logging::LogHandle;
    use crate::spiffe::TrustDomain;

    const ID: &str = "spiffe://cluster.local/ns/shop/sa/orders";

    #[test]
    fn renewal_is_half_way_with_jitter() {
        assert_eq!(renewal_time(1000, 2000, 0.5), 1500);
        assert_eq!(renewal_time(1000, 2000, 0.0), 1400);
        assert_eq!(renewal_time(1000, 2000, 1.0), 1600);
        // Never in the past and never at once, however short the life.
        assert_eq!(renewal_time(1000, 1000, 0.5), 1001);
        assert_eq!(renewal_time(1000, 10, 0.5), 1001);
        assert_eq!(renewal_time(i64::MAX, i64::MAX, 0.5), i64::MAX);
    }

    #[test]
    fn a_renewal_is_due_by_whichever_clock_says_so_first() {
        let start = Instant::now();
        let due = Due::new(1000, 900, start);
        let check = |wall: i64, later: u64, expected: u64| {
            let left = due.left(wall, start + Duration::from_secs(later));
            assert_eq!(left, Duration::from_secs(expected), "{wall} {later}");
        };
        check(900, 0, 100);
        check(950, 50, 50);
        // Suspended for an hour: the monotonic clock stood still.
        check(4500, 1, 0);
        // The wall clock was set back by ten minutes.
        check(400, 100, 0);
        check(i64::MIN, 99, 1);
    }

    /// Gives certificates that the mesh refuses, and counts them.
    struct Vain {
        root: CertifiedIssuer<'static, KeyPair>,
        given: Arc<AtomicUsize>,
    }

    impl Issuer for Vain {
        async fn issue(&self, _: Option<Arc<Svid>>) -> Result<Svid, IssueError> {
            self.given.fetch_add(1, Ordering::Relaxed);
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ];
            params.is_ca = IsCa::ExplicitNoCa;
            let key = KeyPair::generate().unwrap();
            let leaf = params.signed_by(&key, &self.root).unwrap();
            let bundle = TrustBundle::new(TrustDomain::default(), [self.root.der().clone()]).unwrap();
            let key = Zeroizing::new(key.serialize_der());
            let chain = vec![leaf.der().clone()];
            Ok(Svid::new(key, chain, Arc::new(bundle), UnixTime::now()).unwrap())
        }

        fn refused_why(&self, _: &Svid) -> Option<String> {
            Some("always".to_owned())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn certificates_that_are_refused_one_after_the_other_are_asked_for_ever_less_often() {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let given = Arc::new(AtomicUsize::new(0));
        let context = Context::new("client", LogHandle::detached(), Duration::from_secs(1));
        let issuer = Vain {
            root,
            given: given.clone(),
        };
        start(issuer, &context).await.unwrap();
        // By virtual time: twelve seconds until the waits have their longest.
        tokio::time::sleep(Duration::from_secs(300)).await;
        let missing = context.readiness.missing();
        assert!(
            missing.iter().any(|missing| missing.reason.contains("always")),
            "ready with a certificate that is refused: {missing:?}"
        );
        context.shutdown.cancel();
        let given = given.load(Ordering::Relaxed);
        assert!((10..40).contains(&given), "{given} certificates in five minutes");
    }

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut backoff = Backoff(FIRST_RETRY);
        let waits: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
        assert!(waits[0] < Duration::from_millis(241));
        assert!(waits[11] > LONGEST_RETRY.mul_f64(0.79) && waits[11] < LONGEST_RETRY.mul_f64(1.21));
    }
}
