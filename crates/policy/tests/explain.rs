//! What is said of a rule's parts: where each is carried out, and why there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{DENIER, QUOTA, rules, workload};
use policy::{Direction, Ports, Traffic};

/// What is said of `rule` for requests to port 8080 of ratings.
fn check(yaml: &str, rule: &str, expected: &[&str]) {
    let parts = rules(yaml).explain(rule, &workload("ratings", "v1"), false, Ports::Only(8080));
    let said: Vec<String> = parts.iter().map(ToString::to_string).collect();
    assert_eq!(said, expected, "{rule}");
}

/// A rule that changes headers.
fn changes(name: &str, condition: &str, operation: &str) -> String {
    format!(
        "---\napiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  match: '{condition}'\n  requestHeaderOperations: [{operation}]\n"
    )
}

#[test]
fn a_check_is_the_proxys_where_it_can_tell() {
    check(
        DENIER,
        "denyv3.shop",
        &["check by deny.shop: in Mixer, since it reads source.labels, which Mixer alone knows"],
    );
    let by_header = DENIER.replace("source.labels[\"app\"]", "request.headers[\"x-app\"]");
    let by_header = by_header.replace("source.labels[\"version\"]", "request.headers[\"x-version\"]");
    check(
        &by_header,
        "denyv3.shop",
        &["check by deny.shop: in the proxy, without a call"],
    );
    check(&by_header, "other.shop", &[]);
}

#[test]
fn header_operations_are_the_proxys_unless_something_stands_in_the_way() {
    let set = r#"{name: x-a, operation: REPLACE, values: ['request.headers["x-b"] | "none"']}"#;
    let remove = "{name: x-a, operation: REMOVE}";
    let by_path = r#"request.url_path == "/a""#;
    let by_label = r#"source.labels["app"] == "web""#;
    let native = "request header x-a: in the proxy, without a call";
    check(&changes("r", by_path, set), "r.shop", &[native]);
    check(
        &changes("r", r#"destination.port == 8080"#, remove),
        "r.shop",
        &[native],
    );
    check(
        &changes("r", by_path, remove),
        "r.shop",
        &["request header x-a: in Mixer, since it removes the header x-a from some requests only"],
    );
    // Their order would change if one of them were the proxy's.
    let both = changes("r", by_path, set) + &changes("s", by_label, set);
    check(
        &both,
        "r.shop",
        &[
            "request header x-a: in Mixer, since it changes the header x-a, as another rule does that is Mixer's",
        ],
    );
    let other = changes("r", by_path, set) + &changes("s", by_label, &set.replace("x-a", "x-c"));
    check(&other, "r.shop", &[native]);
}

#[test]
fn quotas_and_samples_stay_with_mixer() {
    check(
        QUOTA,
        "quota.istio-system",
        &[
            "quota requestcount by handler.memquota.istio-system: in Mixer, since all proxies share its units, and a bucket in each proxy would grant them once for each of them (annotate the handler with policy.argosy.io/quota-scope: proxy, where each may) (rate limit service)",
        ],
    );
    let per_proxy = QUOTA.replace(
        "{name: handler, namespace: istio-system}",
        "{name: handler, namespace: istio-system, annotations: {policy.argosy.io/quota-scope: proxy}}",
    );
    let quota = "quota requestcount by handler.memquota.istio-system";
    let by_mixer = |yaml: &str, why: &str| {
        let said = format!("{quota}: in Mixer, since {why} (rate limit service)");
        check(yaml, "quota.istio-system", &[said.as_str()]);
    };
    by_mixer(&per_proxy, "it reads source.labels, which Mixer alone knows");
    let by_user = per_proxy.replace("    source: source.labels[\"app\"] | \"unknown\"\n", "");
    by_mixer(
        &by_user,
        "its limit depends on the dimension user of the request (overrides)",
    );
    let one = by_user.replace("user: jason", "other: jason");
    check(
        &one,
        "quota.istio-system",
        &[&format!("{quota}: in the proxy, without a call")],
    );
    by_mixer(
        &one.replace(" | \"unknown\"", ""),
        "its dimension user may be absent, and then the request is refused; give it a fallback (`|`)",
    );
    by_mixer(
        &one.replace("validDuration: 10s", "validDuration: 10ms"),
        "the validDuration of requestcount is below 50 ms, or missing",
    );
    by_mixer(
        &one.replace("charge: 1", "charge: 7"),
        "requestcount never grants what a request is charged",
    );
    by_mixer(
        &one.replace(
            "  - quotas:\n    - charge",
            "  - match: [{clause: {request.method: {exact: GET}}}]\n    quotas:\n    - charge",
        ),
        "what the quota requestcount is charged depends on the request",
    );
    let set = r#"{name: x-a, operation: REPLACE, values: ['"1"']}"#;
    let sampled = changes("r", "destination.port == 8080", set)
        + "  sampling: {random: {percentSampled: {numerator: 10}}}\n";
    check(
        &sampled,
        "r.shop",
        &["request header x-a: in Mixer, since it is for a sample of the requests"],
    );
}

/// A metric, a log entry and the rule that reports them; `metric` and `lines` are the handlers' parameters.
fn reports(metric: &str, label: &str, lines: &str) -> String {
    format!(
        r#"
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: prom, namespace: shop}}
spec: {{compiledAdapter: prometheus, params: {{metrics: [{{name: visits, instance_name: visits.instance.shop, label_names: [l], {metric}}}]}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: lines, namespace: shop}}
spec: {{compiledAdapter: stdio, params: {{{lines}}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {{name: visits, namespace: shop}}
spec: {{compiledTemplate: metric, params: {{value: '"1"', dimensions: {{l: '{label}'}}}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {{name: entry, namespace: shop}}
spec: {{compiledTemplate: logentry, params: {{severity: '"info"', variables: {{took: response.duration}}}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {{name: told, namespace: shop}}
spec: {{actions: [{{handler: prom, instances: [visits]}}, {{handler: lines, instances: [entry]}}]}}
"#
    )
}

#[test]
fn a_rule_may_keep_its_reports_for_the_graph() {
    let why = "in Mixer, since it is annotated policy.argosy.io/reports: mixer (access log service, off the request's path)";
    let graph = r#"
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {name: nobody, namespace: shop}
spec: {compiledAdapter: noop}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {name: all, namespace: shop}
spec: {compiledTemplate: reportnothing}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: graph, namespace: shop, annotations: {policy.argosy.io/reports: mixer}}
spec:
  match: context.reporter.kind == "inbound"
  actions: [{handler: nobody, instances: [all]}]
"#;
    let told = format!("report for the graph of services: {why}");
    check(graph, "graph.shop", &[&told]);
    let annotated = reports("kind: COUNTER", "response.code | 200", "").replace(
        "metadata: {name: told, namespace: shop}",
        "metadata: {name: told, namespace: shop, annotations: {policy.argosy.io/reports: mixer}}",
    );
    let parts = ["metric istio_visits", "report to lines.shop"];
    let parts = parts.map(|part| format!("{part}: {why}"));
    check(&annotated, "told.shop", &[&parts[0], &parts[1], &told]);
    let rules = rules(graph);
    let ratings = workload("ratings", "v1");
    let told = |direction: Direction, tcp: bool| {
        let report = rules.requirements(&ratings, Traffic { direction, tcp }).report;
        report.map(|report| report.rules)
    };
    for tcp in [false, true] {
        let rules = Some(vec!["graph.shop".to_owned()]);
        assert_eq!(told(Direction::Inbound, tcp), rules);
        assert_eq!(told(Direction::Outbound, tcp), None, "its match says so");
    }
    let (_, findings) = common::build(&graph.replace("reports: mixer", "reports: all"));
    assert!(
        findings[0].to_string().contains("\"all\" is not \"mixer\""),
        "{findings:?}"
    );
}

#[test]
fn reports_are_the_proxys_whole_or_not_at_all() {
    let parts = ["metric istio_visits", "report to lines.shop"];
    let check = |metric: &str, label: &str, lines: &str, why: &str| {
        let place = match why {
            "" => "in the proxy, without a call".to_owned(),
            why => format!("in Mixer, since {why} (access log service, off the request's path)"),
        };
        let expected = parts.map(|part| format!("{part}: {place}"));
        let expected = expected.each_ref().map(String::as_str);
        self::check(&reports(metric, label, lines), "told.shop", &expected);
    };
    let (counter, code) = ("kind: COUNTER", "response.code | 200");
    check(counter, code, "", "");
    check("kind: GAUGE", code, "logStream: STDERR", "");
    check(
        "kind: DISTRIBUTION, buckets: {explicitBuckets: {bounds: [1]}}",
        code,
        "",
        "istio_visits is a distribution, and a proxy's buckets are set when it starts",
    );
    check(
        counter,
        r#"source.labels["app"] | "none""#,
        "",
        "it reads source.labels, which Mixer alone knows",
    );
    check(
        counter,
        "request.url_path",
        "",
        "it reads request.url_path, which a proxy does not have as its access log entry tells Mixer",
    );
    check(counter, "response.duration", "", "a label is of type DURATION");
    check(
        counter,
        code,
        "logStream: FILE, outputPath: a.log",
        "the file of lines.shop is Mixer's",
    );
    check(
        counter,
        code,
        "outputAsJson: false",
        "lines.shop writes lines of text, and proxies write JSON (outputAsJson)",
    );
}
