//! Adapters that run beside the decision: what a rule's handler is when it needs a socket, a file or an engine.
//!
//! Each handler runs isolated from the requests and from the others ([`runner`]): its work is done by tasks of its own on
//! threads that no request runs on ([`pool`]), within a deadline; a panic ends one task; after several failures it is left
//! alone for a while; what is reported waits in a bounded queue, and what does not fit is dropped and counted.
//!
//! A change of configuration makes a new set that shares the handlers that stayed the same, with their connections and
//! what waits in them; those that are gone send what still waits, once. It knows nothing of rules.

mod dialer;
mod fault;
mod fluentd;
mod http;
mod kit;
mod list;
mod opa;
mod otlp;
mod pool;
mod rbac;
mod remote;
mod runner;
mod span;
mod statsd;
mod stdio;
#[cfg(test)]
mod tests;
mod zipkin;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policy::{Answer, Ask, Backend, BackendHandler, Delivery, InstanceValue, Verdict};

pub(crate) use fault::Fault;
pub(crate) use kit::Kit;
use runner::Runner;

/// What a handler's adapter does with instances. The futures run on the adapters' threads, of which there are few: work that
/// blocks or computes for long goes to `spawn_blocking`. They are dropped when their deadline is over.
#[tonic::async_trait]
pub(crate) trait Adapter: Send + Sync + 'static {
    /// How much of a report is sent at once, and what it may take.
    fn batching(&self) -> Batching {
        Batching::default()
    }

    /// May the request pass?
    async fn check(&self, instance: &InstanceValue) -> Result<Answer, Fault> {
        Err(Fault::Refused(format!(
            "takes no checks of {}",
            instance.template
        )))
    }

    /// How many of the wanted units are granted: all or none, unless `best_effort`.
    async fn quota(&self, instance: &InstanceValue, _amount: u64, _best_effort: bool) -> Result<u64, Fault> {
        Err(Fault::Refused(format!(
            "takes no quotas of {}",
            instance.template
        )))
    }

    /// Takes reports of one template, all or none. [`Fault::Away`] has them sent again.
    async fn report(&self, _batch: &[InstanceValue]) -> Result<(), Fault> {
        Err(Fault::Refused("takes no reports".to_owned()))
    }

    /// The same with an id that all attempts to send a batch share, by which a backend knows what it has already.
    async fn report_as(&self, _id: &str, batch: &[InstanceValue]) -> Result<(), Fault> {
        self.report(batch).await
    }
}

/// How reports are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batching {
    /// Most instances that wait.
    pub(crate) queue: usize,
    /// Most instances of one batch.
    pub(crate) batch: usize,
    /// How long an instance waits for others.
    pub(crate) linger: Duration,
    /// How long a batch may take.
    pub(crate) deadline: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            queue: 8192,
            batch: 512,
            linger: Duration::from_millis(100),
            deadline: Duration::from_secs(5),
        }
    }
}

/// The handlers of one configuration, running.
#[derive(Debug, Default)]
pub(crate) struct Adapters {
    by_name: BTreeMap<String, Arc<Runner>>,
}

/// A handler that cannot run as configured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// `NAME.NAMESPACE`.
    pub(crate) handler: String,
    /// Why, and what happens instead.
    pub(crate) why: String,
}

impl Adapters {
    /// The running set for these handlers. Those that are as they were in `previous` go on; one that cannot be started
    /// goes on with its former parameters, if it had any.
    pub(crate) fn next<'a>(
        previous: Option<&Self>,
        handlers: impl IntoIterator<Item = &'a Arc<BackendHandler>>,
        kit: &Kit,
    ) -> (Self, Vec<Broken>) {
        let (mut next, mut broken) = (Self::default(), Vec::new());
        for handler in handlers {
            let former = previous.and_then(|previous| previous.by_name.get(&handler.name));
            let runner = match former.filter(|former| former.runs(handler)) {
                Some(same) => Some(same.clone()),
                None => match start(handler, kit) {
                    Ok(runner) => Some(runner),
                    Err(why) => {
                        let instead = match former {
                            Some(_) => "its former parameters stay in force",
                            None => "whatever asks it is answered by its rule's failure mode",
                        };
                        broken.push(Broken {
                            handler: handler.name.clone(),
                            why: format!("{why}; {instead}"),
                        });
                        former.cloned()
                    }
                },
            };
            if let Some(runner) = runner {
                next.by_name.insert(handler.name.clone(), runner);
            }
        }
        (next, broken)
    }

    /// Asks all adapters that a verdict waits for, at once, and gives the verdict with their answers.
    pub(crate) async fn consult(&self, mut verdict: Verdict) -> Verdict {
        if !verdict.is_ok() {
            // Refused already: nobody needs to be asked.
            verdict.asks.clear();
        }
        let asks = std::mem::take(&mut verdict.asks);
        let answers = futures::future::join_all(asks.iter().map(|ask| self.ask(ask))).await;
        for (ask, answer) in asks.iter().zip(answers) {
            verdict.answered(ask, answer);
        }
        verdict
    }

    async fn ask(&self, ask: &Ask) -> Result<Answer, String> {
        match self.by_name.get(&ask.handler.name) {
            Some(runner) => runner
                .check(ask.instance.clone())
                .await
                .map_err(|fault| fault.to_string()),
            None => Err("the handler does not run; see Mixer's findings".to_owned()),
        }
    }

    /// Asks for units; why the adapter does not say, if so.
    pub(crate) async fn quota(
        &self,
        handler: &BackendHandler,
        instance: &InstanceValue,
        amount: u64,
        best_effort: bool,
    ) -> Result<u64, String> {
        match self.by_name.get(&handler.name) {
            Some(runner) => {
                let granted = runner.quota(instance.clone(), amount, best_effort).await;
                granted
                    .map(|granted| granted.min(amount))
                    .map_err(|fault| fault.to_string())
            }
            None => Err("the handler does not run; see Mixer's findings".to_owned()),
        }
    }

    /// Hands a report over. It never waits.
    pub(crate) fn deliver(&self, delivery: Delivery, kit: &Kit) {
        match self.by_name.get(&delivery.handler.name) {
            Some(runner) => runner.report(delivery.instance),
            None => kit.counters.dropped(&delivery.handler.name, "not running", 1),
        }
    }
}

fn start(handler: &Arc<BackendHandler>, kit: &Kit) -> Result<Arc<Runner>, String> {
    let adapter: Arc<dyn Adapter> = match &handler.backend {
        Backend::List(source) => Arc::new(list::Adapter::new(source, kit)?),
        Backend::Opa(opa) => Arc::new(opa::Adapter::new(opa, kit)?),
        Backend::Rbac(rbac) => Arc::new(rbac::Adapter(rbac.clone())),
        Backend::Stdio(stdio) => Arc::new(stdio::Adapter::new(stdio, kit)?),
        Backend::Statsd(statsd) => Arc::new(statsd::Adapter::statsd(statsd)),
        Backend::Dogstatsd(dogstatsd) => Arc::new(statsd::Adapter::dogstatsd(dogstatsd)),
        Backend::Fluentd(fluentd) => Arc::new(fluentd::Adapter::new(fluentd, kit)?),
        Backend::Zipkin(zipkin) => Arc::new(zipkin::Adapter::new(zipkin)?),
        Backend::OpenTelemetry(otlp) => Arc::new(otlp::Adapter::new(otlp, kit)?),
        Backend::Remote(remote) => Arc::new(remote::Adapter::new(remote, kit)?),
    };
    Runner::start(handler.clone(), adapter, kit)
}
