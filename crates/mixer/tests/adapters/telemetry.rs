//! Adapters that hear of finished requests.

use serde_json::Value;
use testkit::Rundir;
use testkit::collector::{Collector, Signal};
use testkit::prometheus::Prometheus;
use tokio::net::TcpListener;

use crate::support::{BOUND, TRACE, attributes, first, found, mixer, mixer_with, report, sample};

#[tokio::test]
async fn stdio_writes_lines_into_a_file() {
    let folder = Rundir::new("argosy-handlers").unwrap();
    let args = mixer::Args {
        handler_files: Some(folder.path().to_owned()),
        ..mixer::Args::default()
    };
    let server = mixer_with(&sample("stdio"), args).await;
    report(&server, 2).await;
    let path = folder.path().join("access.log");
    let lines = || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() == 2).then_some(text)
    };
    let text = found("two lines", lines).await;
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let expected = [
        ("level", "error"),
        ("instance", "accesslog.instance.istio-system"),
        ("source", "frontend-v1"),
        ("user", "jason"),
        ("path", "/catalog/1"),
        ("latency", "250ms"),
    ];
    for (name, value) in expected {
        assert_eq!(line[name], value, "{line}");
    }
    assert_eq!(line["code"], 503);
}

#[tokio::test]
async fn prometheus_scrapes() {
    let server = mixer(&sample("prometheus")).await;
    report(&server, 3).await;
    server.page("istio_sample_requests_total").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.mixer.serve_page(listener, server.context.shutdown.clone()));
    let prometheus = Prometheus::scraping(address).await.unwrap();
    let look = || async {
        let result = prometheus.query("istio_sample_requests_total").await;
        match result {
            Ok(result) if !result.is_empty() => Ok(result),
            other => Err(format!("not scraped yet: {other:?}")),
        }
    };
    let (result, _) = testkit::wait::until("the metric", BOUND, look).await.unwrap();
    assert_eq!(result[0]["value"][1], "3");
    assert_eq!(
        (&result[0]["metric"]["app"], &result[0]["metric"]["code"]),
        (&"catalog".into(), &"503".into())
    );
}

#[tokio::test]
async fn statsd_and_dogstatsd_count() {
    let collector = Collector::start().await.unwrap();
    let address = collector.statsd.to_string();
    for (page, theirs, metric) in [
        ("statsd", "statsd.monitoring:8125", "mesh.requests.catalog.503"),
        ("dogstatsd", "datadog.monitoring:8125", "istio.requests"),
    ] {
        let server = mixer(&sample(page).replace(theirs, &address)).await;
        report(&server, 4).await;
        let seen = found(metric, || {
            first(&collector.received(Signal::Metrics), "name", |object| {
                object["name"] == metric
            })
        })
        .await;
        let point = &seen["sum"]["dataPoints"][0];
        assert_eq!(point["asInt"], "4", "{seen}");
        if page == "dogstatsd" {
            let tags = attributes(point);
            let tag = |name: &str| tags.get(name).map(String::as_str);
            assert_eq!(
                (tag("app"), tag("code"), tag("mesh")),
                (Some("catalog"), Some("503"), Some("main"))
            );
        }
    }
}

#[tokio::test]
async fn fluentd_takes_log_entries() {
    let collector = Collector::start().await.unwrap();
    let yaml = sample("fluentd").replace("fluentd.logging:24224", &collector.fluent.to_string());
    let server = mixer(&yaml).await;
    report(&server, 1).await;
    let record = found("the record", || {
        first(&collector.received(Signal::Logs), "timeUnixNano", |_| true)
    })
    .await;
    let fields = attributes(&record);
    let field = |name: &str| fields.get(name).map(String::as_str);
    assert_eq!(
        (field("severity"), field("user"), field("code")),
        (Some("error"), Some("jason"), Some("503"))
    );
    assert_eq!(field("latency"), Some("250"));
    assert_eq!(field("fluent.tag"), Some("accesslog.instance.istio-system"));
}

#[tokio::test]
async fn zipkin_takes_spans() {
    let collector = Collector::start().await.unwrap();
    let yaml = sample("zipkin").replace("zipkin.tracing:9411", &collector.zipkin.to_string());
    let server = mixer(&yaml).await;
    report(&server, 1).await;
    let span = found("the span", || {
        first(&collector.received(Signal::Traces), "spanId", |_| true)
    })
    .await;
    assert_eq!(
        (&span["traceId"], &span["spanId"]),
        (&TRACE.into(), &"a2fb4a1d1a96d312".into())
    );
    // 2 is a server's span.
    assert_eq!((&span["name"], &span["kind"]), (&"/catalog/1".into(), &2.into()));
    let time = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert_eq!(time("endTimeUnixNano") - time("startTimeUnixNano"), 250_000_000);
    assert_eq!(
        attributes(&span).get("http.method").map(String::as_str),
        Some("GET")
    );
}

#[tokio::test]
async fn opentelemetry_takes_all_three_and_what_waits_survives_a_restart() {
    let mut collector = Collector::start().await.unwrap();
    let yaml = sample("opentelemetry").replace("collector.monitoring:4317", &collector.otlp.to_string());
    let server = mixer(&yaml).await;
    collector.kill();
    report(&server, 5).await;
    collector.restart().await.unwrap();
    let metric = found("the metric", || {
        first(&collector.received(Signal::Metrics), "name", |object| {
            object["name"] == "mesh.requests"
        })
    })
    .await;
    let point = &metric["sum"]["dataPoints"][0];
    assert_eq!(point["asDouble"], 5.0, "{metric}");
    assert_eq!(attributes(point).get("app").map(String::as_str), Some("catalog"));
    let record = found("the record", || {
        first(&collector.received(Signal::Logs), "severityText", |object| {
            object["severityText"] == "error"
        })
    })
    .await;
    assert_eq!(attributes(&record).get("user").map(String::as_str), Some("jason"));
    let span = found("the span", || {
        first(&collector.received(Signal::Traces), "spanId", |_| true)
    })
    .await;
    assert_eq!(span["traceId"], TRACE);
}
