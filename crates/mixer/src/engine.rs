//! Decides, charges and counts: the front-ends' common core. Configuration is swapped whole; the state of quotas and
//! metrics is kept beside it. It knows no transport.

pub(crate) mod api;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use config::Finding;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use feed::State;
use parking_lot::Mutex;
use policy::{
    Asked, Code, Due, HeaderChange, MetricDefinition, QuotaDenial, RedisPlace, Request, Sent, Store, Verdict,
    Windows,
};
use runtime::Metrics;
use tokio::sync::watch;

use crate::adapters::{Adapters, Kit};
use crate::args::Args;
use crate::attributes::check::{Check, Unsent};
use crate::attributes::descriptor::{self, Call};
use crate::clock::Clock;
use crate::graph::Graph;
use crate::meters::{Meters, Outcome, Reason, RuleLabel};
use crate::pace::Pace;
use crate::policies::Policies;
use crate::prometheus::{Refusal, Registry};
use crate::redis::{Away, Stores};

/// Why a call cannot be decided. Envoy retries, and then does what the rule's failure mode says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undecided {
    /// Nothing has come from Galley yet.
    #[error("no configuration has been received from Galley yet; try again")]
    NoConfiguration,
    /// The feed does not have the caller's workload (yet): rules that choose it by labels would not match.
    #[error(
        "no workload of {0} is known at this address (yet); try again, and see that its WorkloadEntry or Pod names this account and address"
    )]
    UnknownCaller(String),
    /// What counts a quota did not answer, and its rule fails closed.
    #[error("{0}")]
    Uncounted(String),
    /// The same, and it would not soon: Envoy need not ask again.
    #[error("{0}")]
    Uncountable(String),
    /// It is about what the caller sends, and not to be looked at.
    #[error(transparent)]
    Unsent(#[from] Unsent),
    /// The message makes no sense.
    #[error("{0}")]
    Malformed(String),
}

/// The answer to a check.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) http_status: u16,
    pub(crate) body: String,
    pub(crate) request_headers: Vec<HeaderChange>,
    pub(crate) response_headers: Vec<HeaderChange>,
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        Self {
            code: verdict.code,
            message: verdict.message,
            http_status: verdict.http_status,
            body: verdict.body,
            request_headers: verdict.request_headers,
            response_headers: verdict.response_headers,
        }
    }
}

impl From<Box<QuotaDenial>> for Decision {
    fn from(denial: Box<QuotaDenial>) -> Self {
        Self {
            body: denial.body.clone(),
            ..Verdict::refusal(denial.code, denial.body).into()
        }
    }
}

/// What is to be charged, or why the request is refused already.
type Charges = Result<Vec<Due>, Box<QuotaDenial>>;

/// A verdict, what is to be charged if it stands, and the adapters that it may wait for.
type Pending = (Verdict, Charges, Arc<Adapters>);

/// Mixer's core.
#[derive(Debug)]
pub(crate) struct Engine {
    policies: ArcSwapOption<Policies>,
    windows: Mutex<Windows>,
    stores: Stores,
    registry: Registry,
    kit: Kit,
    pub(crate) meters: Meters,
    /// Who calls whom.
    pub(crate) graph: Graph,
    clock: Clock,
    pace: Pace,
    configured: watch::Sender<bool>,
}

impl Engine {
    /// A core without configuration.
    pub(crate) fn new(args: &Args, clock: Clock, metrics: &Metrics) -> Self {
        Self {
            policies: ArcSwapOption::empty(),
            windows: Mutex::default(),
            stores: Stores::new(args.redis_deadline, args.handler_certificates.clone()),
            registry: Registry::new(args.prometheus_series),
            kit: Kit::new(args, metrics),
            meters: Meters::new(metrics),
            graph: Graph::default(),
            clock,
            pace: Pace::default(),
            configured: watch::Sender::new(false),
        }
    }

    /// The configuration in force.
    pub(crate) fn policies(&self) -> Result<Arc<Policies>, Undecided> {
        self.policies.load_full().ok_or(Undecided::NoConfiguration)
    }

    /// The configuration in force, as soon as there is one.
    pub(crate) async fn configured(&self) -> Arc<Policies> {
        loop {
            if let Ok(policies) = self.policies() {
                return policies;
            }
            // The sender lives as long as self, so this cannot fail.
            let _ = self
                .configured
                .subscribe()
                .wait_for(|configured| *configured)
                .await;
        }
    }

    /// Builds configuration from the feed's objects and puts it in force. Takes time: not for a request's path.
    pub(crate) fn configure(&self, state: Arc<State>) -> Arc<Policies> {
        self.install(self.prepare(state))
    }

    /// Builds configuration from the feed's objects. Takes time: not for a request's path.
    pub(crate) fn prepare(&self, state: Arc<State>) -> Policies {
        let previous = self.policies.load_full();
        let mut policies = Policies::build(state, previous.as_deref());
        if previous
            .as_ref()
            .is_none_or(|previous| !Arc::ptr_eq(&previous.rules, &policies.rules))
        {
            self.registry.install(policies.rules.metrics());
            let away = self.stores.keep(&policies.rules.redis_servers());
            self.start_adapters(&mut policies);
            let away = away.iter().map(|(place, why)| {
                Finding::error(format!("quotas in the Redis {place} cannot be counted: {why}"))
            });
            let findings = policies.findings.iter().cloned().chain(away);
            policies.findings = Arc::new(findings.collect());
        }
        policies
    }

    /// Connects to what prepared configuration counts quotas in, for a bounded time.
    pub(crate) async fn greet(&self) {
        self.stores.greet().await;
    }

    /// Puts configuration in force.
    pub(crate) fn install(&self, policies: Policies) -> Arc<Policies> {
        let policies = Arc::new(policies);
        self.meters
            .rules
            .set(i64::try_from(policies.rules.len()).unwrap_or(i64::MAX));
        self.meters
            .workloads
            .set(i64::try_from(policies.mesh.len()).unwrap_or(i64::MAX));
        self.policies.store(Some(policies.clone()));
        self.configured.send_replace(true);
        policies
    }

    /// Starts the handlers that are new or changed; those that stay go on.
    fn start_adapters(&self, policies: &mut Policies) {
        let (adapters, broken) =
            Adapters::next(Some(&policies.adapters), policies.rules.backends(), &self.kit);
        policies.adapters = Arc::new(adapters);
        let findings = broken.into_iter().map(|broken| {
            let finding = Finding::error(format!(
                "the handler {} cannot run: {}",
                broken.handler, broken.why
            ));
            match policies.handler(&broken.handler) {
                Some(object) => finding
                    .of(object.key())
                    .at("spec.params")
                    .from(object.origin.clone()),
                None => finding,
            }
        });
        let findings = policies.findings.iter().cloned().chain(findings);
        policies.findings = Arc::new(findings.collect());
    }

    /// Lets the handlers send what waits in them. Nothing is decided any more.
    pub(crate) async fn close(&self, grace: Duration) {
        self.policies.store(None);
        self.kit.drained(grace).await;
    }

    /// Decides on a request by the rules that the proxy asks; `sent` is what a gateway says of one that it sends.
    pub(crate) async fn check(
        &self,
        message: &CheckRequest,
        caller: &str,
        asked: &Asked<'_>,
        sent: Option<&Sent<'_>>,
    ) -> Result<Decision, Undecided> {
        let start = self.clock.now();
        let decided = match self.decide(message, caller, asked, sent) {
            Ok((verdict, due, adapters)) => self.conclude(verdict, due, &adapters).await,
            Err(why) => {
                self.undecided(&why);
                Err(why)
            }
        };
        let code = decided
            .as_ref()
            .map_or("UNAVAILABLE", |decision| decision.code.name());
        self.meters.checks.get_or_create(&Outcome { code }).inc();
        #[expect(clippy::cast_precision_loss, reason = "a metric is a double")]
        self.meters
            .check_seconds
            .observe((self.clock.now() - start) as f64 / 1e9);
        decided
    }

    fn decide(
        &self,
        message: &CheckRequest,
        caller: &str,
        asked: &Asked<'_>,
        sent: Option<&Sent<'_>>,
    ) -> Result<Pending, Undecided> {
        let policies = self.policies()?;
        let check = Check::new(message, caller, sent)
            .ok_or_else(|| Undecided::Malformed("the check has no attributes".to_owned()))?;
        let own = check
            .own(&policies.mesh)
            .ok_or_else(|| Undecided::UnknownCaller(caller.to_owned()))?;
        let request = check.request(&policies.mesh, own)?;
        let verdict = policies.rules.check_asked(&request, asked);
        for (rule, error) in &verdict.errors {
            self.rule_failed(rule, error);
        }
        let due = match verdict.is_ok() {
            true => policies.rules.check_due(&request, asked),
            false => Ok(Vec::new()),
        };
        Ok((verdict, due, policies.adapters.clone()))
    }

    /// Asks the adapters that a verdict waits for, and then, if it stands, makes the charges.
    async fn conclude(
        &self,
        verdict: Verdict,
        due: Charges,
        adapters: &Adapters,
    ) -> Result<Decision, Undecided> {
        let verdict = adapters.consult(verdict).await;
        if !verdict.is_ok() {
            return Ok(verdict.into());
        }
        let refused = match due {
            Ok(due) => self.settle(&due, adapters).await?,
            Err(denial) => Some(denial),
        };
        Ok(refused.map_or_else(|| verdict.into(), Decision::from))
    }

    /// Makes the charges until one refuses, which is given.
    ///
    /// # Errors
    /// When one cannot be made and its rule fails closed: the store may be late for once, so the proxy asks again, unless the
    /// store is known to be away.
    async fn settle(&self, due: &[Due], adapters: &Adapters) -> Result<Option<Box<QuotaDenial>>, Undecided> {
        for due in due {
            let now = self.clock.now();
            let mut again = true;
            let settled = match &due.store {
                Store::Memory => due.charge(&mut self.windows.lock(), now),
                Store::Redis(server, algorithm) => {
                    let asked = match self.stores.of(server) {
                        Ok(redis) => redis.charge(*algorithm, due, now).await,
                        Err(away) => Err(away),
                    };
                    again = !asked.as_ref().is_err_and(Away::is_settled);
                    self.answered(due, &server.place, asked)
                }
                Store::Adapter(handler, instance) => {
                    let granted = adapters.quota(handler, instance, due.amount, false).await;
                    granted.map_or_else(
                        |why| due.unanswered(&why),
                        |granted| due.answer(due.granted(granted)),
                    )
                }
            };
            match settled {
                Ok(()) => {}
                Err(denial) if denial.code == Code::UNAVAILABLE => {
                    return Err(match again {
                        true => Undecided::Uncounted(denial.body),
                        false => Undecided::Uncountable(denial.body),
                    });
                }
                Err(denial) => return Ok(Some(denial)),
            }
        }
        Ok(None)
    }

    fn answered(
        &self,
        due: &Due,
        place: &RedisPlace,
        asked: Result<policy::Charge, Away>,
    ) -> Result<(), Box<QuotaDenial>> {
        let away = match asked {
            Ok(charge) => return due.answer(charge),
            Err(away) => away,
        };
        let reason = if due.fail_open { "passed" } else { "refused" };
        self.meters
            .quota_store_errors
            .get_or_create(&Reason { reason })
            .inc();
        if let Some(suppressed) = self.pace.allow(self.clock.now()) {
            tracing::warn!(redis = %place, %away, suppressed, request = reason, "a quota's Redis does not decide");
        }
        due.unanswered(&away.to_string())
    }

    /// Charges the quotas of the rule that a descriptor names, and gives the one that refuses. `wall` is the time of day, `call`
    /// the descriptors that came with it.
    pub(crate) async fn charge(
        &self,
        descriptor: &RateLimitDescriptor,
        call: &mut Call<'_>,
        caller: &str,
        wall: expr::Timestamp,
    ) -> Result<Option<Box<QuotaDenial>>, Undecided> {
        match self.due(descriptor, call, caller, wall) {
            Ok((Ok(due), adapters)) => self.settle(&due, &adapters).await,
            Ok((Err(denial), _)) => Ok(Some(denial)),
            Err(why) => {
                self.undecided(&why);
                Err(why)
            }
        }
    }

    fn due(
        &self,
        descriptor: &RateLimitDescriptor,
        call: &mut Call<'_>,
        caller: &str,
        wall: expr::Timestamp,
    ) -> Result<(Charges, Arc<Adapters>), Undecided> {
        let policies = self.policies()?;
        let facts = descriptor::read(descriptor).map_err(|e| Undecided::Malformed(e.to_string()))?;
        let own = descriptor::own(&facts, &policies.mesh, caller)
            .ok_or_else(|| Undecided::UnknownCaller(caller.to_owned()))?;
        let headers = facts.headers();
        let request = facts.request(&headers, own, descriptor::source(&facts, &policies.mesh), wall);
        let mut due = policies.rules.due_by(&facts, |rule| call.asks(rule), &request);
        if let Ok(due) = &mut due {
            call.charged(&facts, due);
            let hits = call.hits(descriptor);
            for one in due.iter_mut() {
                one.amount = one.amount.saturating_mul(hits);
            }
        }
        Ok((due, policies.adapters.clone()))
    }

    fn undecided(&self, why: &Undecided) {
        // While nothing has come from Galley, /readyz says so.
        if *why != Undecided::NoConfiguration
            && let Some(suppressed) = self.pace.allow(self.clock.now())
        {
            tracing::warn!(%why, suppressed, "a proxy's question cannot be decided");
        }
    }

    /// Counts a finished request or connection.
    pub(crate) fn report(&self, policies: &Policies, request: &Request<'_>) {
        self.report_to(policies, request, None);
    }

    /// The same for the rules `only` (`NAME.NAMESPACE`).
    pub(crate) fn report_to(&self, policies: &Policies, request: &Request<'_>, only: Option<&[String]>) {
        let now = self.clock.now();
        self.graph.observe(request, now);
        let reports = policies.rules.report_to(request, only);
        self.dropped("expression", reports.failed);
        for delivery in reports.deliveries {
            policies.adapters.deliver(delivery, &self.kit);
        }
        for sample in reports.samples {
            let definition: Option<&MetricDefinition> = policies.rules.metrics().get(sample.metric);
            let kept = match definition {
                Some(definition) => self
                    .registry
                    .observe(definition, sample.labels, sample.value, now),
                None => Err(Refusal::Unknown),
            };
            if let Err(refusal) = kept {
                self.dropped(refusal.reason(), 1);
            }
        }
    }

    fn dropped(&self, reason: &'static str, count: usize) {
        if count > 0 {
            self.meters
                .samples_dropped
                .get_or_create(&Reason { reason })
                .inc_by(count as u64);
        }
    }

    fn rule_failed(&self, rule: &config::ObjectKey, error: &str) {
        let label = RuleLabel {
            rule: format!("{}/{}", rule.namespace, rule.name),
        };
        self.meters.rule_errors.get_or_create(&label).inc();
        if let Some(suppressed) = self.pace.allow(self.clock.now()) {
            tracing::warn!(%rule, error, suppressed, "a rule's match, or a header's value, is malformed for a request; the one refuses it, the other is left out");
        }
    }

    /// The Prometheus adapter's page.
    pub(crate) fn page(&self) -> String {
        self.registry.page(self.clock.now())
    }

    /// Forgets quota windows in which nothing is in use, and tells how much state there is.
    pub(crate) fn tidy(&self) {
        let mut windows = self.windows.lock();
        windows.reap(self.clock.now());
        self.meters
            .quota_windows
            .set(i64::try_from(windows.len()).unwrap_or(i64::MAX));
        self.meters
            .series
            .set(i64::try_from(self.registry.series()).unwrap_or(i64::MAX));
    }

    /// Takes up certificates that were replaced. Reads files.
    pub(crate) fn refresh(&self) {
        self.stores.refresh();
    }

    /// What is wrong with the configuration in force.
    pub(crate) fn findings(&self) -> Arc<Vec<Finding>> {
        self.policies
            .load()
            .as_ref()
            .map(|policies| policies.findings.clone())
            .unwrap_or_default()
    }
}
