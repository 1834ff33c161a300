//! Parameters as Istio's pages have them, and what is wrong with others.

use serde_json::{Value, json};

use super::*;

#[expect(clippy::needless_pass_by_value, reason = "calls read better")]
fn read(adapter: &str, params: Value) -> Result<Adapter, Problem> {
    Adapter::read(adapter, params.as_object().unwrap()).unwrap()
}

#[test]
fn istios_samples_are_read() {
    let Adapter::Stdio(stdio) = read(
        "stdio",
        json!({"severity_levels": {"warning": "WARNING"}, "outputAsJson": true}),
    )
    .unwrap() else {
        panic!("no stdio")
    };
    assert_eq!((stdio.stream.clone(), stdio.json), (Stream::Stdout, true));
    assert_eq!(
        ["warning", "other"].map(|severity| stdio.level(severity)),
        [Level::Warning, Level::Info]
    );
    let Adapter::Stdio(usual) = read("stdio", json!({})).unwrap() else {
        panic!("no stdio")
    };
    assert_eq!(
        ["warning", "fatal", "other"].map(|severity| usual.level(severity)),
        [Level::Warning, Level::Error, Level::Info]
    );
    let Adapter::Fluentd(fluentd) = read(
        "fluentd",
        json!({"address": "fluentd-es.logging:24224", "instanceBufferSize": "10"}),
    )
    .unwrap() else {
        panic!("no fluentd")
    };
    assert_eq!((fluentd.queue, fluentd.interval), (10, 60_000_000_000));
    let metrics =
        json!({"a.metric.istio-system": {"type": "COUNTER", "nameTemplate": "{{.api}}-{{ .code }}x"}});
    let Adapter::Statsd(statsd) = read("statsd", json!({"address": "a:1", "metrics": metrics})).unwrap()
    else {
        panic!("no statsd")
    };
    let name = statsd.metrics["a.metric.istio-system"].name.clone().unwrap();
    let dimension = |name: &str| NamePart::Dimension(name.to_owned());
    let text = |text: &str| NamePart::Text(text.to_owned());
    assert_eq!(name, [dimension("api"), text("-"), dimension("code"), text("x")]);
}

#[test]
fn what_is_wrong_is_named() {
    let check = |adapter: &str, params: Value, path: &str| {
        let problem = read(adapter, params).unwrap_err();
        assert_eq!(problem.path, path, "{problem:?}");
    };
    check("stdio", json!({"logStream": "FILE"}), "outputPath");
    check(
        "stdio",
        json!({"logStream": "FILE", "outputPath": "a/../../etc/passwd"}),
        "outputPath",
    );
    check("stdio", json!({"outputPath": "a"}), "outputPath");
    check("stdio", json!({"colour": true}), "colour");
    check("statsd", json!({"address": "a"}), "address");
    check("statsd", json!({"samplingRate": 2}), "samplingRate");
    check("statsd", json!({"metrics": {"a": {}}}), "metrics[a].type");
    let template = json!({"metrics": {"a": {"type": "GAUGE", "nameTemplate": "{{if .x}}"}}});
    check("statsd", template, "metrics[a].nameTemplate");
    check(
        "dogstatsd",
        json!({"metrics": {"a": {"type": "GAUGE"}}}),
        "metrics[a].name",
    );
    check("fluentd", json!({"maxBatchSizeBytes": -1}), "maxBatchSizeBytes");
    check("zipkin", json!({"url": "ftp://x"}), "url");
    check("zipkin", json!({"url": "http://u:p@x/"}), "url");
    check("opa", json!({"checkMethod": "data.a.b"}), "policy");
    check(
        "opa",
        json!({"policy": ["package a"], "checkMethod": "allow"}),
        "checkMethod",
    );
    check("kubernetesenv", json!({"kubeconfig_pat": "x"}), "kubeconfigPat");
    check("denier", json!({"validUseCount": -1}), "validUseCount");
    check("listchecker", json!({"cachingUseCount": -1}), "cachingUseCount");
    check(
        "opentelemetry",
        json!({"metrics": {"a": {"name": "", "kind": "GAUGE"}}}),
        "metrics[a].name",
    );
}

#[test]
fn enums_are_read_by_name_and_by_number() {
    let same = |adapter: &str, by_name: Value, by_number: Value| {
        let (name, number) = (read(adapter, by_name).unwrap(), read(adapter, by_number).unwrap());
        assert_eq!(format!("{name:?}"), format!("{number:?}"));
    };
    same(
        "stdio",
        json!({"logStream": "STDERR", "metric_level": "ERROR", "severity_levels": {"warning": "WARNING"}}),
        json!({"logStream": 1, "metric_level": 2, "severity_levels": {"warning": 1}}),
    );
    same(
        "stdio",
        json!({"outputLevel": "INFO"}),
        json!({"outputLevel": null}),
    );
    let metrics = |kind: Value| json!({"metrics": [{"name": "m", "instanceName": "m", "kind": kind}]});
    same("prometheus", metrics(json!("DISTRIBUTION")), metrics(json!(3)));
    let entries = |kind: Value| json!({"overrides": ["10.0.0.0/8"], "entryType": kind});
    same("listchecker", entries(json!("IP_ADDRESSES")), entries(json!(2)));
    let metrics = |kind: Value| json!({"metrics": {"m": {"name": "m", "type": kind}}});
    same("dogstatsd", metrics(json!("COUNTER")), metrics(json!(1)));
    let metrics = |kind: Value| json!({"metrics": {"m": {"type": kind}}});
    same("statsd", metrics(json!("GAUGE")), metrics(json!(2)));
    let quotas = |algorithm: Value| {
        let quota = json!({"name": "q", "maxAmount": 1, "validDuration": "1s", "bucketDuration": "0.5s",
            "rateLimitAlgorithm": algorithm});
        json!({"redisServerUrl": "a:1", "quotas": [quota]})
    };
    same("redisquota", quotas(json!("ROLLING_WINDOW")), quotas(json!(1)));
}

#[test]
fn the_values_of_an_enum_are_named() {
    let check = |params: Value, path: &str, message: &str| {
        let problem = read("stdio", params).unwrap_err();
        assert_eq!((problem.path.as_str(), problem.message.as_str()), (path, message));
    };
    check(
        json!({"severityLevels": {"warning": 3}}),
        "severityLevels.warning",
        "3 is not one of INFO (0), WARNING (1), ERROR (2)",
    );
    check(
        json!({"logStream": "STDOUR"}),
        "logStream",
        "\"STDOUR\" is not one of STDOUT (0), STDERR (1), FILE (2), ROTATED_FILE (3); did you mean \"STDOUT\"?",
    );
}

#[test]
fn answers_are_valid_as_long_as_told_and_else_as_in_istio() {
    let denier = |params: Value| match read("denier", params) {
        Ok(Adapter::Denier(denial)) => (denial.validity.duration, denial.validity.uses),
        other => panic!("{other:?}"),
    };
    assert_eq!(denier(json!({})), (5_000_000_000, 1_000));
    assert_eq!(
        denier(json!({"valid_duration": "1.5s", "valid_use_count": "7"})),
        (1_500_000_000, 7)
    );
    let list = |params: Value| match read("listchecker", params) {
        Ok(Adapter::List(list)) => (list.validity().duration, list.validity().uses),
        other => panic!("{other:?}"),
    };
    assert_eq!(list(json!({})), (300_000_000_000, 10_000));
    assert_eq!(
        list(json!({"cachingInterval": "2s", "cachingUseCount": 3})),
        (2_000_000_000, 3)
    );
}

#[test]
fn a_policy_fails_open_only_where_somebody_says_so() {
    let fails_open = |more: Value| {
        let mut params = json!({"policy": ["package a"], "checkMethod": "data.a.b"});
        let more = more.as_object().cloned().unwrap();
        params.as_object_mut().unwrap().extend(more);
        match read("opa", params) {
            Ok(Adapter::Opa(opa)) => opa.fail_open,
            other => panic!("{other:?}"),
        }
    };
    let all = [
        json!({}),
        json!({"failClose": true}),
        json!({"fail_close": false}),
    ];
    assert_eq!(all.map(fails_open), [false, false, true]);
}

#[test]
fn parameters_without_effect_are_named() {
    let check = |adapter: &str, params: Value, expected: &[&str]| {
        read(adapter, params.clone()).unwrap();
        let idle = idle(adapter, params.as_object().unwrap());
        let paths: Vec<&str> = idle.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, expected, "{adapter}");
    };
    check(
        "kubernetesenv",
        json!({"kubeconfig_path": "x", "cacheRefreshDuration": "5m"}),
        &["kubeconfigPath", "cacheRefreshDuration"],
    );
    check(
        "memquota",
        json!({"min_deduplication_duration": "1s"}),
        &["minDeduplicationDuration"],
    );
    let policy = |more: Value| {
        let mut policy = json!({"metricsExpiryDuration": "1s"});
        let more = more.as_object().cloned().unwrap();
        policy.as_object_mut().unwrap().extend(more);
        json!({ "metricsExpirationPolicy": policy })
    };
    check("prometheus", policy(json!({})), &[]);
    check(
        "prometheus",
        policy(json!({"expiry_check_interval_duration": "1s"})),
        &["metricsExpirationPolicy.expiryCheckIntervalDuration"],
    );
    // Told where it stands, once, when the object is read.
    let text = "{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: env, namespace: a}, spec: {compiledAdapter: kubernetesenv, params: {kubeconfigPath: x}}}";
    let findings = crate::parse("x.yaml", text.as_bytes(), "a").findings;
    let seen: Vec<_> = findings.iter().map(|f| (f.path.as_str(), f.severity)).collect();
    assert_eq!(seen, [("spec.params.kubeconfigPath", crate::Severity::Warning)]);
}
