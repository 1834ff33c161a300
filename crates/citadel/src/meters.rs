//! What Citadel counts, by the names of Istio's Citadel where it has them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use runtime::Metrics;

use crate::status::Counts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Citadel's metrics. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    requests: Counter,
    issued: Counter,
    unauthenticated: Counter,
    bad_requests: Counter,
    sign_errors: Counter,
    refused: Family<Reason, Counter>,
    by_reason: Arc<Mutex<BTreeMap<&'static str, u64>>>,
    seconds: Histogram,
    pub(crate) root_expiry: Gauge,
    pub(crate) signing_since: Gauge,
    pub(crate) revoked: Gauge,
    pub(crate) crl_next_update: Gauge,
    pub(crate) journal_stale: Gauge,
    pub(crate) journal_dropped: Gauge,
    pub(crate) roots: Gauge,
    pub(crate) rotation_steps: Counter,
    pub(crate) authority_errors: Counter,
    pub(crate) authority_stale: Gauge,
    pub(crate) reload_failed: Counter,
    pub(crate) reload_bad: Gauge,
}

impl Meters {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let bounds = [
            0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0,
        ];
        Self {
            requests: metrics.counter("citadel_server_csr_count", "Certificate requests received"),
            issued: metrics.counter(
                "citadel_server_success_cert_issuance_count",
                "Certificates issued",
            ),
            unauthenticated: metrics.counter(
                "citadel_server_authentication_failure_count",
                "Requests whose caller was not recognised",
            ),
            bad_requests: metrics.counter(
                "citadel_server_csr_parsing_err_count",
                "Requests whose CSR was malformed or asked for too much",
            ),
            sign_errors: metrics.counter(
                "citadel_server_csr_sign_err_count",
                "Requests that could not be signed",
            ),
            by_reason: Arc::default(),
            refused: metrics.family("citadel_server_refused_count", "Requests refused, by reason"),
            seconds: metrics.histogram(
                "citadel_server_issuance_seconds",
                "Time from a request's arrival to its answer, in seconds",
                &bounds,
            ),
            root_expiry: metrics.gauge(
                "citadel_server_root_cert_expiry_timestamp",
                "End of the certificate that signs, seconds since 1970",
            ),
            signing_since: metrics.gauge(
                "citadel_signing_cert_start_timestamp",
                "Beginning of the certificate that signs, seconds since 1970",
            ),
            revoked: metrics.gauge(
                "citadel_revoked_certificates",
                "Certificates that were revoked and have not ended",
            ),
            crl_next_update: metrics.gauge(
                "citadel_crl_next_update_timestamp",
                "End of the lists of revoked certificates, seconds since 1970; proxies refuse everybody after it; 0 for no list",
            ),
            journal_stale: metrics.gauge(
                "citadel_journal_stale",
                "1 while issued certificates cannot be noted: they cannot be revoked by identity after a restart",
            ),
            journal_dropped: metrics.gauge(
                "citadel_journal_dropped_certificates",
                "Certificates that were issued since the start and are in no journal, because it is full or their identity has its share: revoking by identity does not find them",
            ),
            roots: metrics.gauge(
                "citadel_trusted_roots",
                "Roots that the mesh trusts: more than one while roots are rotated",
            ),
            rotation_steps: metrics.counter(
                "citadel_root_rotation_steps_total",
                "Steps of root rotations taken by this process",
            ),
            authority_errors: metrics.counter(
                "citadel_authority_errors_total",
                "Times that the authority's folder could not be used",
            ),
            authority_stale: metrics.gauge(
                "citadel_authority_stale",
                "1 while the authority's folder cannot be used and what was loaded before is in force",
            ),
            reload_failed: metrics.counter(
                "citadel_identity_file_errors_total",
                "Failed reloads of identity.yaml",
            ),
            reload_bad: metrics.gauge(
                "citadel_identity_file_stale",
                "1 while identity.yaml is broken and an older version is in force",
            ),
        }
    }

    pub(crate) fn request(&self) {
        self.requests.inc();
    }

    pub(crate) fn issued(&self, took: Duration) {
        self.issued.inc();
        self.seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn unauthenticated(&self, reason: &'static str) {
        self.unauthenticated.inc();
        self.refused(reason);
    }

    pub(crate) fn bad_request(&self, reason: &'static str) {
        self.bad_requests.inc();
        self.refused(reason);
    }

    pub(crate) fn sign_error(&self, reason: &'static str) {
        self.sign_errors.inc();
        self.refused(reason);
    }

    /// A request that was refused before anything of it was looked at.
    pub(crate) fn limited(&self, reason: &'static str) {
        self.refused(reason);
    }

    /// What was done since the start.
    pub(crate) fn counts(&self) -> Counts {
        let refused = self.by_reason.lock().unwrap_or_else(PoisonError::into_inner);
        Counts {
            issued: self.issued.get(),
            refused: refused.clone(),
        }
    }

    fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
        let mut by_reason = self.by_reason.lock().unwrap_or_else(PoisonError::into_inner);
        *by_reason.entry(reason).or_default() += 1;
    }
}
