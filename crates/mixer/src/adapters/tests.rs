//! Handlers that hang, panic or err leave the others running; what waits is bounded; a change keeps what stayed the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use expr::Timestamp;
use policy::{Code, Datum, FieldValue, Fields, Stdio};
use runtime::Metrics;
use serde_json::{Value, json};

use super::*;
use crate::testing;

/// Only a failing test waits that long.
const BOUND: Duration = Duration::from_secs(20);

/// The handler of this adapter and these parameters, as configuration makes it.
#[expect(clippy::needless_pass_by_value, reason = "calls read better")]
pub(super) fn backend(adapter: &str, params: Value) -> Backend {
    let template = match adapter {
        "zipkin" => "tracespan",
        "opa" => "authorization",
        "fluentd" => "logentry",
        "listchecker" => "listentry",
        _ => "metric",
    };
    let fields = match template {
        "tracespan" => {
            json!({"traceId": "\"1\"", "spanName": "\"s\"", "startTime": "request.time", "endTime": "request.time"})
        }
        "metric" | "listentry" => json!({"value": "1"}),
        _ => json!({}),
    };
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "config.istio.io/v1alpha2", "kind": kind,
               "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
        .to_string()
    };
    let texts = [
        object(
            "handler",
            "h",
            json!({"compiledAdapter": adapter, "params": params}),
        ),
        object(
            "instance",
            "i",
            json!({"compiledTemplate": template, "params": fields}),
        ),
        object(
            "rule",
            "r",
            json!({"actions": [{"handler": "h", "instances": ["i"]}]}),
        ),
    ];
    let state = testing::state(&texts.each_ref().map(String::as_str));
    let (rules, findings) =
        policy::Rules::build(state.objects.values(), &config::mesh::MeshConfig::default());
    let handler = rules.backends().next();
    handler.unwrap_or_else(|| panic!("{findings:?}")).backend.clone()
}

/// Parameters of stdio.
pub(super) fn stdio(params: Value) -> Stdio {
    match backend("stdio", params) {
        Backend::Stdio(stdio) => stdio,
        other => panic!("{other:?}"),
    }
}

fn datum(value: &Value) -> Datum {
    match value {
        Value::Bool(truth) => Datum::Bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(number) => Datum::Int(number),
            None => Datum::Double(number.as_f64().unwrap()),
        },
        Value::String(text) => match Timestamp::parse(text) {
            Some(at) => Datum::Timestamp(at),
            None => Datum::Text(text.clone()),
        },
        other => panic!("{other}"),
    }
}

fn fields(values: &Value) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in values.as_object().unwrap() {
        let value = match value {
            Value::Object(map) if matches!(name.as_str(), "subject" | "action") => {
                FieldValue::Message(self::fields(&Value::Object(map.clone())))
            }
            Value::Object(map) => FieldValue::Many(map.iter().map(|(k, v)| (k.clone(), datum(v))).collect()),
            value => FieldValue::One(datum(value)),
        };
        fields.set(name, value);
    }
    fields
}

/// An instance with these values; texts that are times are TIMESTAMPs.
pub(super) fn instance(template: &str, values: &Value) -> InstanceValue {
    InstanceValue {
        name: "i.instance.shop".into(),
        template: template.into(),
        key: Some("i".into()),
        fields: fields(values),
    }
}

fn handler(name: &str) -> Arc<BackendHandler> {
    Arc::new(BackendHandler {
        name: name.to_owned(),
        backend: Backend::Stdio(stdio(json!({}))),
    })
}

/// How many reports were dropped since there was no room for them.
fn dropped_for_room(metrics: &Metrics) -> f64 {
    let text = metrics.encode();
    let line = text
        .lines()
        .find(|line| line.contains("reason=\"full\""))
        .unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn kit() -> (Kit, Metrics) {
    let metrics = Metrics::new();
    let args = crate::Args {
        adapter_deadline: Duration::from_millis(200),
        ..crate::Args::default()
    };
    (Kit::new(&args, &metrics), metrics)
}

/// Does as it is told, and counts what it was given.
struct Puppet {
    does: fn() -> Does,
    batching: Batching,
    got: Arc<AtomicUsize>,
}

enum Does {
    Well,
    Hang,
    Panic,
    Err,
}

#[tonic::async_trait]
impl Adapter for Puppet {
    fn batching(&self) -> Batching {
        self.batching
    }

    async fn check(&self, _: &InstanceValue) -> Result<Answer, Fault> {
        self.report(&[]).await.map(|()| Answer::ok())
    }

    async fn report(&self, batch: &[InstanceValue]) -> Result<(), Fault> {
        match (self.does)() {
            Does::Well => self.got.fetch_add(batch.len(), Ordering::SeqCst),
            Does::Hang => std::future::pending().await,
            // Without the hook, which would write a backtrace.
            Does::Panic => std::panic::resume_unwind(Box::new("as the test wants it")),
            Does::Err => return Err(Fault::Away("told so".to_owned())),
        };
        Ok(())
    }
}

fn puppet(name: &str, does: fn() -> Does, kit: &Kit) -> (Arc<Runner>, Arc<AtomicUsize>) {
    let got = Arc::new(AtomicUsize::new(0));
    let batching = Batching {
        queue: 10,
        batch: 4,
        linger: Duration::from_millis(1),
        deadline: Duration::from_millis(50),
    };
    let own = got.clone();
    let adapter = Arc::new(Puppet { does, batching, got });
    (Runner::start(handler(name), adapter, kit).unwrap(), own)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let look = || {
        let held = holds();
        async move { held.then_some(()).ok_or("not yet") }
    };
    testkit::wait::until(what, BOUND, look).await.unwrap();
}

#[tokio::test]
async fn handlers_that_fail_leave_the_others_running() {
    let (kit, _metrics) = kit();
    let (well, got) = puppet("well", || Does::Well, &kit);
    let (hangs, _) = puppet("hangs", || Does::Hang, &kit);
    let (panics, _) = puppet("panics", || Does::Panic, &kit);
    let (errs, _) = puppet("errs", || Does::Err, &kit);
    let entry = || instance("logentry", &json!({}));
    let late = Fault::Late(Duration::from_millis(200));
    // All at once: nobody waits for the one that hangs.
    let (a, b, c, d) = tokio::join!(
        hangs.check(entry()),
        panics.check(entry()),
        errs.check(entry()),
        well.check(entry())
    );
    assert_eq!(a, Err(late));
    assert_eq!(b, Err(Fault::Panicked));
    assert_eq!(c, Err(Fault::Away("told so".to_owned())));
    assert_eq!(d, Ok(Answer::ok()));
    for i in 0..100 {
        for runner in [&hangs, &panics, &errs] {
            runner.report(entry());
        }
        well.report(entry());
        until("the report", || got.load(Ordering::SeqCst) > i).await;
    }
}

#[tokio::test]
async fn a_handler_that_fails_again_and_again_is_left_alone() {
    let (kit, _metrics) = kit();
    let (errs, _) = puppet("errs", || Does::Err, &kit);
    let mut resting = false;
    for _ in 0..6 {
        resting = errs.check(instance("logentry", &json!({}))).await == Err(Fault::Resting);
    }
    assert!(resting);
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted() {
    let (kit, metrics) = kit();
    let (hangs, _) = puppet("hangs", || Does::Hang, &kit);
    for _ in 0..100 {
        hangs.report(instance("logentry", &json!({})));
    }
    // Ten wait and up to four are being sent.
    let dropped = dropped_for_room(&metrics);
    assert!((86.0..=90.0).contains(&dropped), "{dropped}");
}

/// Clients make paths and headers as long as they like.
#[tokio::test]
async fn long_reports_that_wait_are_bounded_in_bytes() {
    let (kit, metrics) = kit();
    let own = Batching {
        queue: 1_000,
        ..Batching::default()
    };
    let adapter = Arc::new(Puppet {
        does: || Does::Hang,
        batching: own,
        got: Arc::default(),
    });
    let hangs = Runner::start(handler("hangs"), adapter, &kit).unwrap();
    let long = "x".repeat(1 << 20);
    for _ in 0..50 {
        hangs.report(instance("logentry", &json!({"severity": long})));
    }
    let dropped = dropped_for_room(&metrics);
    assert!((18.0..30.0).contains(&dropped), "{dropped}");
}

#[tokio::test]
async fn reports_wait_for_a_backend_that_is_away_for_a_moment() {
    static FAILURES: AtomicUsize = AtomicUsize::new(2);
    let (kit, _metrics) = kit();
    let does = || match FAILURES.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
    {
        Ok(_) => Does::Err,
        Err(_) => Does::Well,
    };
    let (runner, got) = puppet("comes back", does, &kit);
    for _ in 0..5 {
        runner.report(instance("logentry", &json!({})));
    }
    until("all reports", || got.load(Ordering::SeqCst) == 5).await;
}

#[tokio::test]
async fn a_handler_that_is_gone_sends_what_waits() {
    let (kit, _metrics) = kit();
    let (runner, got) = puppet("goes", || Does::Well, &kit);
    for _ in 0..10 {
        runner.report(instance("logentry", &json!({})));
    }
    drop(runner);
    kit.drained(BOUND).await;
    assert_eq!(got.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn a_change_keeps_the_handlers_that_stayed_the_same() {
    let (kit, _metrics) = kit();
    let handlers = [handler("a.shop"), handler("b.shop")];
    let (first, broken) = Adapters::next(None, &handlers, &kit);
    assert_eq!(broken, []);
    let changed = Arc::new(BackendHandler {
        name: "b.shop".to_owned(),
        backend: Backend::Stdio(stdio(json!({"outputAsJson": false}))),
    });
    let (next, _) = Adapters::next(Some(&first), [&handlers[0], &changed], &kit);
    assert!(Arc::ptr_eq(&first.by_name["a.shop"], &next.by_name["a.shop"]));
    assert!(!Arc::ptr_eq(&first.by_name["b.shop"], &next.by_name["b.shop"]));
    let unusable = Arc::new(BackendHandler {
        name: "b.shop".to_owned(),
        backend: Backend::Stdio(stdio(json!({"logStream": "FILE", "outputPath": "x"}))),
    });
    let (last, broken) = Adapters::next(Some(&next), [&unusable], &kit);
    assert!(broken[0].why.contains("--handler-files"), "{broken:?}");
    assert!(Arc::ptr_eq(&next.by_name["b.shop"], &last.by_name["b.shop"]));
}

#[tokio::test]
async fn who_is_not_there_is_answered_by_the_rules_failure_mode() {
    let ask = |fail_open| Ask {
        rule: config::ObjectKey::new(config::Kind::Rule, "shop", "r"),
        handler: handler("gone.shop"),
        instance: instance("logentry", &json!({})),
        fail_open,
    };
    for (fail_open, code) in [(true, Code::OK), (false, Code::UNAVAILABLE)] {
        let mut verdict = policy::Rules::default().check(&policy::Request::default(), None);
        verdict.asks.push(ask(fail_open));
        assert_eq!(Adapters::default().consult(verdict).await.code, code);
    }
}

type Deed = fn() -> Does;

/// The time that checks of a handler take, one after the other: median and p99.
async fn taken(runner: &Runner, checks: usize) -> (Duration, Duration) {
    let mut times = Vec::with_capacity(checks);
    for _ in 0..checks {
        let start = std::time::Instant::now();
        runner.check(instance("logentry", &json!({}))).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    (times[checks / 2], times[checks * 99 / 100])
}

/// Whether a median and a p99 are about those of a handler without such neighbours: within 5 ms, the aim, and ten times that for the p99,
/// which on a machine that does other things too is the scheduler's.
fn about(alone: (Duration, Duration), beside: (Duration, Duration)) -> bool {
    const AIM: Duration = Duration::from_millis(5);
    beside.0 <= alone.0 + AIM && beside.1 <= alone.1 + 10 * AIM
}

/// Handlers that fail leave their neighbours alone: each check of those is answered. With `ARGOSY_NEIGHBOURS`, as `make soak` sets it to
/// a number of checks, in about the time that they take without such neighbours too; and the times are printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_of_handlers_that_fail_are_answered() {
    let measured = std::env::var("ARGOSY_NEIGHBOURS").ok();
    let checks = measured
        .as_ref()
        .map_or(500, |text| text.parse().expect("ARGOSY_NEIGHBOURS"));
    let (mut kit, _metrics) = kit();
    let short = kit.deadline;
    // A busy machine is not what this is about.
    kit.deadline = BOUND;
    let (well, _) = puppet("well", || Does::Well, &kit);
    kit.deadline = short;
    taken(&well, checks).await;
    let alone = taken(&well, checks).await;
    println!("alone: median and p99 of a check {alone:?}");
    let faults: [(&str, Deed); 3] = [
        ("hangs", || Does::Hang),
        ("panics", || Does::Panic),
        ("errs", || Does::Err),
    ];
    for (name, does) in faults {
        let (fails, _) = puppet(name, does, &kit);
        // As many as are let in at once, and reports beyond what fits.
        let callers: Vec<_> = (0..256)
            .map(|_| {
                let fails = fails.clone();
                tokio::spawn(async move {
                    loop {
                        fails.report(instance("logentry", &json!({})));
                        let _ = fails.check(instance("logentry", &json!({}))).await;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                })
            })
            .collect();
        let beside = taken(&well, checks).await;
        println!("beside one that {name}, 256 callers: {beside:?}");
        assert!(
            measured.is_none() || about(alone, beside),
            "beside one that {name}: {beside:?}, alone {alone:?}"
        );
        callers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
