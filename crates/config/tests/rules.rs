//! Rules of Istio's validation that are easily missed, one object each: which field is refused, or warned of.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use config::{Severity, parse};

/// The worst that is said of an object with this spec, as severity and field; none when nothing is.
fn worst(kind: &str, spec: &str) -> Option<(Severity, String)> {
    let group = match kind {
        "Telemetry" => "telemetry",
        "WasmPlugin" => "extensions",
        _ => "networking",
    };
    let version = if group == "extensions" { "v1alpha1" } else { "v1" };
    let text = format!(
        "apiVersion: {group}.istio.io/{version}\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec: {spec}\n"
    );
    let parsed = parse("x.yaml", text.as_bytes(), "default");
    let mut findings: Vec<_> = parsed
        .findings
        .into_iter()
        .filter(|finding| finding.message != config::unserved::NO_EFFECT)
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
        .into_iter()
        .next()
        .map(|finding| (finding.severity, finding.path))
}

fn check(kind: &str, spec: &str, expected: Option<(Severity, &str)>) {
    let seen = worst(kind, spec);
    let seen = seen.as_ref().map(|(severity, path)| (*severity, path.as_str()));
    assert_eq!(seen, expected, "{kind} {spec}");
}

#[test]
fn log_filters_are_cel() {
    let filter = "spec.accessLogging[0].filter.expression";
    for (expression, expected) in [
        ("response.code >= 400 && 'x-a' in request.headers", None),
        ("response.code >=", Some((Severity::Error, filter))),
        ("", Some((Severity::Error, filter))),
        ("request.headers[]", Some((Severity::Error, filter))),
    ] {
        check(
            "Telemetry",
            &format!("{{accessLogging: [{{filter: {{expression: \"{expression}\"}}}}]}}"),
            expected,
        );
    }
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    check(
        "Telemetry",
        &format!("{{accessLogging: [{{filter: {{expression: \"{deep}\"}}}}]}}"),
        Some((Severity::Error, filter)),
    );
}

#[test]
fn headers_of_a_probe_have_names() {
    let name = Some((Severity::Error, "spec.probe.httpGet.httpHeaders[0].name"));
    for (header, expected) in [
        ("{name: X-Probe, value: a}", None),
        ("{value: a}", name),
        ("{name: 'X Probe'}", name),
    ] {
        let spec = format!("{{template: {{}}, probe: {{httpGet: {{port: 80, httpHeaders: [{header}]}}}}}}");
        check("WorkloadGroup", &spec, expected);
    }
}

#[test]
fn endpoints_without_address() {
    let spec = |resolution: &str| {
        format!(
            "{{hosts: [a.b], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: {resolution}, endpoints: [{{network: west}}]}}"
        )
    };
    check(
        "ServiceEntry",
        &spec("DNS"),
        Some((Severity::Error, "spec.endpoints[0].address")),
    );
    check(
        "ServiceEntry",
        &spec("STATIC"),
        Some((Severity::Warning, "spec.endpoints[0]")),
    );
}

#[test]
fn a_target_port_that_is_given_is_a_port() {
    let spec = |port: u32| {
        format!(
            "{{hosts: [a.b], ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {port}}}], resolution: DNS}}"
        )
    };
    check("ServiceEntry", &spec(8080), None);
    check(
        "ServiceEntry",
        &spec(0),
        Some((Severity::Error, "spec.ports[0].targetPort")),
    );
}

#[test]
fn modules_have_a_host() {
    for (url, expected) in [
        ("oci://example.com/a:1", None),
        ("example.com/a", None),
        ("':path'", Some((Severity::Error, "spec.url"))),
    ] {
        check("WasmPlugin", &format!("{{url: {url}}}"), expected);
    }
}
