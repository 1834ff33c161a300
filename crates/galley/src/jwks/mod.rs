//! Fetches the keys (JWKS) that RequestAuthentications point to, beside the way of a change: an object whose rule names a URI, or
//! only an issuer (OpenID Connect Discovery), is served as if the keys stood in it, once they are here. Until then, and for an
//! issuer that never answers, the rule has no keys, and proxies refuse all its tokens: nothing is ever put in their place
//! (ISTIO-SECURITY-2026-001).
//!
//! The last keys of a source are kept over failures, and over restarts where there is a state folder. Whoever may write a
//! RequestAuthentication chooses the address, so only public addresses are called, and redirects are not followed
//! (ISTIO-SECURITY-2026-003).

mod address;
mod fetch;
mod fill;
mod kept;
mod keys;
mod schedule;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use runtime::Metrics;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::fetch::{FetchError, Fetcher};
use self::fill::Filler;
pub use self::fill::Source;
use self::kept::Kept;
use self::schedule::Schedule;
use crate::report::States;
use crate::store::State;

/// Fetches at one time.
const AT_ONCE: usize = 8;

/// How keys (JWKS) are fetched.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Ranges of addresses that keys (JWKS) may be fetched from although they are private, link-local or loopback ones; those of
    /// the cluster's own services, say
    #[arg(
        long = "jwks-allow-private",
        env = "ARGOSY_JWKS_ALLOW_PRIVATE",
        value_name = "CIDR",
        value_delimiter = ','
    )]
    pub allow_private: Vec<IpNet>,
    /// File of further root certificates (PEM) that servers of keys are verified by, beside the system's
    #[arg(long = "jwks-ca", env = "ARGOSY_JWKS_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Seconds until keys that are there are fetched again
    #[arg(
        long = "jwks-refresh",
        env = "ARGOSY_JWKS_REFRESH",
        value_name = "SECONDS",
        default_value_t = 1200,
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub refresh: u32,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            allow_private: Vec::new(),
            ca: None,
            // Istio's PILOT_JWT_PUB_KEY_REFRESH_INTERVAL: 20 minutes.
            refresh: 1200,
        }
    }
}

/// Why Galley cannot begin to fetch keys.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of root certificates cannot be used.
    #[error("--jwks-ca {}: {reason}", path.display())]
    Roots {
        /// As given.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

struct Meters {
    fetches: Family<Outcome, Counter>,
    sources: Gauge,
    failing: Gauge,
    missing: Gauge,
}

impl Meters {
    fn new(metrics: &Metrics) -> Self {
        Self {
            fetches: metrics.family("galley_jwks_fetches", "Fetches of keys (JWKS), by result"),
            sources: metrics.gauge(
                "galley_jwks_sources",
                "Addresses and issuers that keys are fetched from",
            ),
            failing: metrics.gauge("galley_jwks_failing", "Sources of keys whose last fetch failed"),
            missing: metrics.gauge(
                "galley_jwks_missing",
                "Sources of keys that no keys are known of, so that all tokens are refused",
            ),
        }
    }

    fn count(&self, fetched: &Result<Arc<str>, FetchError>) {
        let result = if fetched.is_ok() { "success" } else { "failure" };
        self.fetches.get_or_create(&Outcome { result }).inc();
    }

    fn show(&self, schedule: &Schedule) {
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.sources.set(whole(schedule.len()));
        self.failing.set(whole(schedule.failing()));
        self.missing.set(whole(schedule.missing()));
    }
}

/// Stands between the sources' state and what is served.
pub(crate) struct Jwks {
    fetcher: Arc<Fetcher>,
    schedule: Schedule,
    kept: Option<Kept>,
    meters: Meters,
    filler: Filler,
}

impl Jwks {
    /// Ready to run, with what the run before kept in `state_dir`. Blocks on the file system.
    ///
    /// # Errors
    /// When the file of root certificates cannot be used.
    pub(crate) fn new(args: &Args, state_dir: Option<&Path>, metrics: &Metrics) -> Result<Self, SetupError> {
        let kept = state_dir.map(Kept::new);
        let remembered = kept.as_ref().map(Kept::load).unwrap_or_default();
        let refresh = Duration::from_secs(args.refresh.into());
        Ok(Self {
            fetcher: Arc::new(Fetcher::new(&args.allow_private, args.ca.as_deref())?),
            schedule: Schedule::new(refresh, remembered),
            kept,
            meters: Meters::new(metrics),
            filler: Filler::default(),
        })
    }

    /// Serves each state that comes with the keys that are known, and again when other keys are here, until `shutdown`.
    pub(crate) async fn run(
        mut self,
        mut merged: States,
        served: watch::Sender<Option<Arc<State>>>,
        shutdown: CancellationToken,
    ) {
        let mut fetches = JoinSet::new();
        loop {
            let room = fetches.len() < AT_ONCE;
            let due = self
                .schedule
                .due(Instant::now(), AT_ONCE - fetches.len().min(AT_ONCE));
            for source in due {
                let fetcher = self.fetcher.clone();
                fetches.spawn(async move { (fetcher.fetch(&source).await, source) });
            }
            let next = self.schedule.next();
            let wait = async {
                match next {
                    Some(at) if room => tokio::time::sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                changed = merged.changed() => match changed {
                    Ok(()) => self.serve(&mut merged, &served),
                    Err(_) => return,
                },
                Some(Ok((result, source))) = fetches.join_next() => {
                    self.fetched(&source, result).await;
                    self.serve(&mut merged, &served);
                }
                () = wait => {}
            }
        }
    }

    fn serve(&mut self, merged: &mut States, served: &watch::Sender<Option<Arc<State>>>) {
        let Some(state) = merged.borrow_and_update().clone() else {
            return;
        };
        self.schedule.want(fill::sources(&state), Instant::now());
        self.meters.show(&self.schedule);
        let filled = self.filler.fill(&state, &self.schedule);
        served.send_if_modified(|served| {
            let news = served.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &filled));
            *served = Some(filled);
            news
        });
    }

    async fn fetched(&mut self, source: &Source, result: Result<Arc<str>, FetchError>) {
        self.meters.count(&result);
        match &result {
            Ok(_) => tracing::debug!(%source, "keys fetched"),
            Err(error) => tracing::warn!(%source, %error, "keys are not fetched; those known before stay"),
        }
        let news = self.schedule.fetched(source, result, Instant::now());
        if let (true, Some(kept)) = (news, &self.kept) {
            let (kept, all) = (kept.clone(), self.schedule.all());
            let saved = tokio::task::spawn_blocking(move || kept.save(&all)).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(%error, "keys are not kept for a restart");
            }
        }
    }
}

#[cfg(test)]
mod tests;
