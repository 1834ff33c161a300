//! Steady load: requests at a fixed rate, whether or not earlier ones were answered (open loop), none retried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::http::Client;

/// What is asked, how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The URL to get.
    pub url: String,
    /// Headers of each request.
    pub headers: Vec<(String, String)>,
    /// Requests per second, at least 1.
    pub rate: u32,
    /// How long one answer may take.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Requests that were sent.
    pub sent: u64,
    /// Requests that were answered or failed.
    pub done: u64,
    /// Those of them without an answer of status 200.
    pub failed: u64,
    /// Kinds of failures and how often each was seen.
    pub failures: BTreeMap<String, u64>,
    /// The slowest good answer.
    pub slowest: Duration,
}

impl Tally {
    /// The two together.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.sent += other.sent;
        self.done += other.done;
        self.failed += other.failed;
        self.slowest = self.slowest.max(other.slowest);
        for (kind, count) in &other.failures {
            *self.failures.entry(kind.clone()).or_default() += count;
        }
        self
    }
}

/// Running load.
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Load {
    /// Starts it.
    pub fn start(plan: Plan) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(drive(plan, tally.clone(), stop.clone()));
        Self { tally, stop, task }
    }

    /// What came of it so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Ends it, and waits for the answers that are still out.
    pub async fn finish(self) -> Tally {
        self.stop.cancel();
        let _ = self.task.await;
        self.tally.lock().clone()
    }
}

async fn drive(plan: Plan, tally: Arc<Mutex<Tally>>, stop: CancellationToken) {
    let client = Client::default();
    let plan = Arc::new(plan);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / plan.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut out = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        tally.lock().sent += 1;
        out.spawn(one(client.clone(), plan.clone(), tally.clone()));
        while out.try_join_next().is_some() {}
    }
    while out.join_next().await.is_some() {}
}

async fn one(client: Client, plan: Arc<Plan>, tally: Arc<Mutex<Tally>>) {
    let mut request = client.get(&plan.url).timeout(plan.timeout);
    for (name, value) in &plan.headers {
        request = request.header(name, value);
    }
    let answer = request.send().await;
    let mut tally = tally.lock();
    tally.done += 1;
    let failure = match &answer {
        Ok(answer) if answer.status == 200 => {
            tally.slowest = tally.slowest.max(answer.elapsed);
            return;
        }
        Ok(answer) => {
            let flags = answer.header("x-envoy-response-flags").unwrap_or_default();
            format!(
                "{} {flags} {}",
                answer.status,
                answer.text().chars().take(120).collect::<String>()
            )
        }
        Err(error) => format!("{error:#}"),
    };
    tally.failed += 1;
    *tally.failures.entry(failure).or_default() += 1;
}
