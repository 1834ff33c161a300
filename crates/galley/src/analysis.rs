//! Analyses the configuration behind the feed, never before it: a task of its own takes the newest state that is published,
//! skips those that came in between, and tells what it found to whoever shows it (metrics, `/debug/analysis`, the objects' status).
//!
//! What the messages mean is not known here but in the crate `analysis`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use analysis::{Analysis, Engine, Input, Message};
use axum::{Json, Router, routing::get};
use config::{Kind, Object};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use runtime::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::BEHIND;
use crate::report::States;
use crate::secret_facts::Facts;
use crate::store::State;

/// What analysis has found; version 0 before the first run is through.
pub type Analyses = watch::Receiver<Arc<Analysis>>;

/// Shortest time between two runs: changes that come faster are taken together.
const REST: Duration = Duration::from_millis(50);
/// How often certificates are held against the time.
const TICK: Duration = Duration::from_secs(60);
/// Bounds of the histogram of runs, in seconds.
const BOUNDS: [f64; 8] = [0.001, 0.005, 0.02, 0.05, 0.2, 0.5, 1.0, 2.0];

/// Kinds of which a folder that holds none says nothing: the platform has them all the same.
const PLATFORM: [Kind; 2] = [Kind::Namespace, Kind::Secret];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    code: &'static str,
    level: &'static str,
}

/// The metrics of analysis.
struct Meters {
    messages: Family<Labels, Gauge>,
    runs: Counter,
    seconds: Histogram,
}

impl Meters {
    fn new(metrics: &Metrics) -> Self {
        Self {
            messages: metrics.family("galley_analysis_messages", "Messages of analysis, by code"),
            runs: metrics.counter("galley_analysis_runs", "Runs of analysis"),
            seconds: metrics.histogram(
                "galley_analysis_seconds",
                "Time that a run of analysis took",
                &BOUNDS,
            ),
        }
    }

    fn show(&self, analysis: &Analysis) {
        self.messages.clear();
        for (code, count) in &analysis.counts {
            let labels = Labels {
                code: code.id(),
                level: analysis::level(code.severity()),
            };
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.messages.get_or_create(&labels).set(count);
        }
    }
}

/// A channel for what [`run`] finds.
#[must_use]
pub fn channel() -> (watch::Sender<Arc<Analysis>>, Analyses) {
    watch::channel(Arc::default())
}

/// Analyses each state that comes, and what Citadel tells of Secrets, until `shutdown`.
pub(crate) async fn run(
    mut states: States,
    mut facts: Option<Facts>,
    found: watch::Sender<Arc<Analysis>>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let meters = Meters::new(&metrics);
    let mut engine = Some(Engine::default());
    let mut tick = tokio::time::interval(TICK);
    loop {
        let is_news = tokio::select! {
            () = shutdown.cancelled() => return,
            changed = states.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = news(&mut facts) => true,
            _ = tick.tick() => false,
        };
        let state = match is_news {
            true => {
                _ = shutdown.run_until_cancelled(tokio::time::sleep(BEHIND)).await;
                states.borrow_and_update().clone()
            }
            false => None,
        };
        let told = facts.as_ref().and_then(|facts| facts.borrow().clone());
        // An engine that was lost to a fault is made anew from the newest state.
        let state = state.or_else(|| engine.is_none().then(|| states.borrow().clone()).flatten());
        let held = engine.take().unwrap_or_default();
        let start = Instant::now();
        match tokio::task::spawn_blocking(move || step(held, state.as_deref(), told.as_deref())).await {
            Ok((held, analysis)) => {
                engine = Some(held);
                meters.runs.inc();
                meters.seconds.observe(start.elapsed().as_secs_f64());
                if let Some(analysis) = analysis {
                    meters.show(&analysis);
                    tell(&analysis);
                    found.send_replace(analysis);
                }
            }
            Err(error) => {
                tracing::error!(%error, "an analyzer has failed; analysis starts anew with the next state")
            }
        }
        _ = shutdown.run_until_cancelled(tokio::time::sleep(REST)).await;
    }
}

/// One run: over a new state, or over the old one at a new time.
fn step(
    mut engine: Engine,
    state: Option<&State>,
    facts: Option<&feed::State>,
) -> (Engine, Option<Arc<Analysis>>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let analysis = match state {
        Some(state) => {
            let objects = with(&state.objects, facts);
            engine.replace(input(state, &objects, &unseen(state, facts.is_some())), now)
        }
        // Nothing has been seen yet.
        None if engine.analysis().version == 0 => None,
        None => engine.tick(now),
    };
    (engine, analysis)
}

/// Waits for facts about Secrets; for ever where nobody tells any.
async fn news(facts: &mut Option<Facts>) {
    let told = match facts {
        Some(facts) => facts.changed().await.is_ok(),
        None => false,
    };
    if !told {
        std::future::pending::<()>().await;
    }
}

/// The objects, and facts about Secrets among them.
fn with<'a>(objects: &'a [Arc<Object>], facts: Option<&feed::State>) -> Cow<'a, [Arc<Object>]> {
    match facts {
        None => Cow::Borrowed(objects),
        Some(facts) => {
            // Of the same Secret Citadel knows better.
            let is_told = |object: &&Arc<Object>| {
                object.kind == Kind::SecretFacts && facts.objects.contains_key(&object.key())
            };
            let own = objects.iter().filter(|object| !is_told(object));
            Cow::Owned(own.chain(facts.objects.values()).cloned().collect())
        }
    }
}

fn input<'a>(state: &'a State, objects: &'a [Arc<Object>], unseen: &'a [Kind]) -> Input<'a> {
    Input {
        objects,
        statuses: &state.statuses,
        findings: &state.findings,
        unseen,
    }
}

/// Kinds that cannot be seen. Facts about Secrets are as good as the Secrets.
fn unseen(state: &State, has_facts: bool) -> Vec<Kind> {
    let empty = PLATFORM.into_iter().filter(|kind| state.of(*kind).is_empty());
    let mut unseen: Vec<Kind> = state.unseen.iter().copied().chain(empty).collect();
    unseen.sort();
    unseen.dedup();
    unseen.retain(|kind| !has_facts || *kind != Kind::Secret);
    unseen
}

fn tell(analysis: &Analysis) {
    let messages: usize = analysis.counts.values().sum();
    tracing::info!(
        version = analysis.version,
        messages,
        objects = analysis.objects.len(),
        looks = analysis.looks,
        "configuration analysed"
    );
}

/// `GET /debug/analysis`: all messages, the worst first.
pub fn routes(analyses: Analyses) -> Router {
    let page = move || {
        let page = page(&analyses.borrow());
        async move { Json(page) }
    };
    Router::new().route("/debug/analysis", get(page))
}

fn page(analysis: &Analysis) -> Value {
    json!({
        "complete": analysis.version > 0,
        "version": analysis.version,
        "skipped": analysis.skipped,
        "messages": analysis.messages().into_iter().map(message).collect::<Vec<_>>(),
    })
}

/// A message as JSON, with the fields of `istioctl analyze -o json` and, beyond those, the message's name, the field and
/// the way out.
#[must_use]
pub fn message(message: &Message) -> Value {
    let mut fields = json!({
        "code": message.code.id(),
        "name": message.code.name(),
        "level": analysis::level(message.severity()),
        "origin": message.subject(),
        "message": message.text,
        "help": message.code.help(),
        "documentationUrl": message.code.url(),
    });
    let optional = [
        ("reference", analysis::place(&message.origin)),
        ("path", (!message.path.is_empty()).then(|| message.path.clone())),
    ];
    if let Some(map) = fields.as_object_mut() {
        map.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), json!(value?)))),
        );
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
";
    const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
";

    fn state(yaml: &str) -> Option<Arc<State>> {
        let parsed = config::parse("x.yaml", yaml.as_bytes(), "default");
        Some(Arc::new(State {
            objects: Arc::new(parsed.objects.into_iter().map(Arc::new).collect()),
            findings: parsed.findings,
            ..State::default()
        }))
    }

    #[tokio::test]
    async fn messages_come_and_go_with_the_state() {
        let (states, seen) = watch::channel(None);
        let (sender, mut found) = channel();
        let metrics = Metrics::new();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(run(seen, None, sender, metrics.clone(), shutdown.clone()));
        states.send_replace(state(ROUTE));
        let first = found
            .wait_for(|analysis| analysis.version > 0)
            .await
            .unwrap()
            .clone();
        assert_eq!(first.messages().len(), 1, "{first:?}");
        let shown = page(&first);
        assert_eq!(shown["messages"][0]["code"], "IST0101");
        assert_eq!(shown["messages"][0]["origin"], "VirtualService shop/web");
        assert_eq!(shown["messages"][0]["reference"], "x.yaml:2");
        assert!(
            metrics
                .encode()
                .contains("galley_analysis_messages{code=\"IST0101\",level=\"Error\"} 1")
        );
        states.send_replace(state(&format!("{ROUTE}---{SERVICE}")));
        let second = found
            .wait_for(|analysis| analysis.version > 1)
            .await
            .unwrap()
            .clone();
        assert!(second.objects.is_empty(), "{second:?}");
        assert!(
            second.skipped.contains(&"gateway.SecretAnalyzer"),
            "no Secret is seen"
        );
        shutdown.cancel();
        running.await.unwrap();
    }

    const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {app: front}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [web.example.com]
    tls: {mode: SIMPLE, credentialName: web}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: front, namespace: shop, labels: {app: front}}
spec: {address: 192.0.2.1}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {selector: {app: front}, ports: [{name: https, port: 443}]}
";
    const FACTS: &str = "
apiVersion: security.argosy.io/v1alpha1
kind: SecretFacts
metadata: {name: web, namespace: shop}
spec:
  keys: [tls.crt, tls.key]
  certificates: [{key: tls.crt, dnsNames: [web.example.com], notBefore: 0, notAfter: 99999999999}]
";

    fn facts(yaml: &str) -> Option<Arc<feed::State>> {
        let parsed = config::parse("", yaml.as_bytes(), "default");
        let objects = parsed.objects.into_iter();
        let objects = objects.map(|object| (object.key(), Arc::new(object))).collect();
        Some(Arc::new(feed::State { objects }))
    }

    #[tokio::test]
    async fn facts_about_secrets_count_once_they_are_there() {
        let (states, seen) = watch::channel(None);
        let (told, facts_seen) = watch::channel(None);
        let (sender, mut found) = channel();
        let shutdown = CancellationToken::new();
        let metrics = Metrics::new();
        let running = tokio::spawn(run(seen, Some(facts_seen), sender, metrics, shutdown.clone()));
        let mut after = async |version: u64| {
            let analysis = found.wait_for(|analysis| analysis.version > version).await;
            analysis.unwrap().clone()
        };
        states.send_replace(state(GATEWAY));
        let first = after(0).await;
        assert!(first.skipped.contains(&"gateway.SecretAnalyzer"), "{first:?}");
        told.send_replace(facts("{}"));
        let none = after(first.version).await;
        let words: Vec<String> = none.messages().iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(words[0].contains("there is no Secret shop/web"), "{words:?}");
        told.send_replace(facts(FACTS));
        let good = after(none.version).await;
        assert!(good.objects.is_empty(), "{good:?}");
        shutdown.cancel();
        running.await.unwrap();
    }
}
