//! What is wrong inside of Mixer's objects, at its field: parameters of adapters, expressions of instances and rules, descriptors.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use config::{Severity, parse};

/// What is said of an object, as severity and field, in the order of fields.
fn said(kind: &str, spec: &str) -> Vec<(Severity, String)> {
    let text = format!(
        "apiVersion: config.istio.io/v1alpha2\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec: {spec}\n"
    );
    let findings = parse("x.yaml", text.as_bytes(), "default").findings;
    let mut said: Vec<_> = findings.into_iter().map(|f| (f.severity, f.path)).collect();
    said.sort_by(|a, b| a.1.cmp(&b.1));
    said
}

fn check(kind: &str, spec: &str, expected: &[(Severity, &str)]) {
    let seen = said(kind, spec);
    let seen: Vec<(Severity, &str)> = seen.iter().map(|(s, path)| (*s, path.as_str())).collect();
    assert_eq!(seen, expected, "{kind} {spec}");
}

const E: Severity = Severity::Error;
const W: Severity = Severity::Warning;

#[test]
fn parameters_of_handlers() {
    let handler = |adapter: &str, params: &str, expected: &[(Severity, &str)]| {
        check(
            "handler",
            &format!("{{compiledAdapter: {adapter}, params: {params}}}"),
            expected,
        );
    };
    handler(
        "denier",
        "{status: {code: 7, message: off limits}, valid_duration: 5s}",
        &[],
    );
    handler("denier", "{status: {code: x}}", &[(E, "spec.params.status.code")]);
    handler(
        "denier",
        "{status: {code: 17}}",
        &[(E, "spec.params.status.code")],
    );
    handler("denier", "{stats: {}}", &[(E, "spec.params.stats")]);
    handler(
        "memquota",
        "{quotas: [{name: q, max_amount: 5, validDuration: 1s}, {name: r, maxAmount: -1}]}",
        &[(E, "spec.params.quotas[1].maxAmount")],
    );
    handler(
        "memquota",
        "{quotas: [{name: q, validDuration: 1}]}",
        &[(E, "spec.params.quotas[0].validDuration")],
    );
    handler(
        "redisquota",
        "{redisServerUrl: 'redis:6379', quotas: [{name: q, validDuration: 1s}]}",
        &[(E, "spec.params.quotas[0].maxAmount")],
    );
    handler(
        "listchecker",
        "{overrides: [10.0.0.0/8, 10.0.0.0/33], entryType: IP_ADDRESSES}",
        &[(E, "spec.params.overrides[1]")],
    );
    handler(
        "listchecker",
        "{overrides: ['('], entryType: REGEX}",
        &[(E, "spec.params.overrides[0]")],
    );
    handler("listchecker", "{entryType: IPS}", &[(E, "spec.params.entryType")]);
    handler(
        "listchecker",
        "{providerUrl: 'ftp://a/b'}",
        &[(E, "spec.params.providerUrl")],
    );
    handler(
        "statsd",
        "{metrics: {a.metric.shop: {}}}",
        &[(E, r#"spec.params.metrics["a.metric.shop"].type"#)],
    );
    handler(
        "rbac",
        "{policies: [{name: a, condition: 'subject.user =='}]}",
        &[(E, "spec.params.policies[0].condition")],
    );
    handler("noop", "{a: 1}", &[(E, "spec.params.a")]);
    handler("solarwinds", "{a: 1}", &[(W, "spec")]);
    check("denier", "{status: {code: x}}", &[(E, "spec.status.code")]);
}

#[test]
fn expressions_of_instances() {
    let instance = |template: &str, params: &str, expected: &[(Severity, &str)]| {
        check(
            "instance",
            &format!("{{compiledTemplate: {template}, params: {params}}}"),
            expected,
        );
    };
    instance("listentry", "{value: 'source.labels[\"version\"] | \"\"'}", &[]);
    instance(
        "listentry",
        "{value: 'source.labels['}",
        &[(E, "spec.params.value")],
    );
    instance("listentry", "{value: own.attribute}", &[(W, "spec.params.value")]);
    instance("listentry", "{}", &[(E, "spec.params.value")]);
    instance(
        "quota",
        "{dimensions: {a: request.size, b: 'source.ip | (', c: nobody}, dimension: {}}",
        &[
            (E, "spec.params.dimension"),
            (E, "spec.params.dimensions.b"),
            (W, "spec.params.dimensions.c"),
        ],
    );
    instance(
        "logentry",
        "{timestamp: request.path, severity: '\"info\"'}",
        &[(E, "spec.params.timestamp")],
    );
    instance(
        "authorization",
        "{subject: {usr: source.user}}",
        &[(E, "spec.params.subject.usr")],
    );
    instance("servicecontrolreport", "{a: '('}", &[(W, "spec")]);
    check("listentry", "{value: '('}", &[(E, "spec.value")]);
}

#[test]
fn expressions_of_rules() {
    let rule = |fields: &str, expected: &[(Severity, &str)]| {
        check(
            "rule",
            &format!("{{actions: [{{handler: h, instances: [i]}}], {fields}}}"),
            expected,
        );
    };
    rule("match: 'request.size == \"5\"'", &[(E, "spec.match")]);
    rule("match: 'source.ip'", &[(E, "spec.match")]);
    rule("match: 'own.attribute == \"a\"'", &[(W, "spec.match")]);
    rule(
        "requestHeaderOperations: [{name: x-a, values: ['source.user', 'request.size']}]",
        &[(E, "spec.requestHeaderOperations[0].values[1]")],
    );
    rule(
        "requestHeaderOperations: [{name: ':path', values: ['source.user']}]",
        &[(E, "spec.requestHeaderOperations[0].name")],
    );
    rule(
        "responseHeaderOperations: [{name: x-a}]",
        &[(E, "spec.responseHeaderOperations[0].values")],
    );
}

#[test]
fn adapters_outside_of_the_process() {
    check(
        "template",
        "{descriptor: CgsKAWFiBnByb3RvMw==}",
        &[(W, "spec.descriptor")],
    );
    check("template", "{descriptor: CgsKAWFi}", &[(E, "spec.descriptor")]);
    check("adapter", "{templates: [a], config: '{}'}", &[(E, "spec.config")]);
    check(
        "handler",
        "{adapter: a, connection: {address: 'a'}}",
        &[(E, "spec.connection.address")],
    );
    check(
        "handler",
        "{adapter: a, connection: {address: 'a:1', authentication: {mutual: {privateKey: k, caCertificates: c}}}}",
        &[(E, "spec.connection.authentication.clientCertificate")],
    );
}
