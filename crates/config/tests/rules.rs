//! Rules of Istio's validation that are easily missed, one object each: which field is refused, or warned of.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use config::unserved::{NO_EFFECT, NO_EFFECT_AT_ALL};
use config::{Severity, parse};

/// The worst that is said of an object with this spec, as severity and field; none when nothing is.
fn worst(kind: &str, spec: &str) -> Option<(Severity, String)> {
    let group = match kind {
        "Telemetry" => "telemetry",
        "AuthorizationPolicy" | "RequestAuthentication" => "security",
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
        .filter(|finding| ![NO_EFFECT, NO_EFFECT_AT_ALL].contains(&finding.message.as_str()))
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

#[test]
fn tags_of_metrics_are_cel() {
    let value = Some((
        Severity::Error,
        "spec.metrics[0].overrides[0].tagOverrides.a.value",
    ));
    for (expression, expected) in [("request.host", None), ("request.host ==", value), ("'a'", None)] {
        let spec =
            format!("{{metrics: [{{overrides: [{{tagOverrides: {{a: {{value: \"{expression}\"}}}}}}]}}]}}");
        check("Telemetry", &spec, expected);
    }
}

#[test]
fn headers_have_envoys_commands() {
    let field = Some((Severity::Error, "spec.http[0].headers.request.set.x-a"));
    for (value, expected) in [
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", None),
        ("100%%", None),
        ("%NO_SUCH_THING%", field),
        ("%PROTOCOL(x)%", field),
    ] {
        let spec = format!(
            "{{hosts: [a.b], http: [{{headers: {{request: {{set: {{x-a: \"{value}\"}}}}}}, route: [{{destination: {{host: a.b}}}}]}}]}}"
        );
        check("VirtualService", &spec, expected);
    }
}

#[test]
fn digests_of_certificates() {
    let check_digest = |field: &str, digest: &str, good: bool| {
        let spec = format!(
            "{{servers: [{{hosts: ['*'], port: {{number: 443, name: s, protocol: HTTPS}}, tls: {{mode: SIMPLE, credentialName: c, {field}: [\"{digest}\"]}}}}]}}"
        );
        let path = format!("spec.servers[0].tls.{field}[0]");
        check(
            "Gateway",
            &spec,
            (!good).then_some((Severity::Error, path.as_str())),
        );
    };
    check_digest("verifyCertificateHash", &"aB".repeat(32), true);
    check_digest("verifyCertificateHash", &["aB"; 32].join(":"), true);
    check_digest("verifyCertificateHash", "zz", false);
    check_digest("verifyCertificateHash", &"ab".repeat(31), false);
    check_digest(
        "verifyCertificateSpki",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        true,
    );
    check_digest("verifyCertificateSpki", "47DEQpj8", false);
}

#[test]
fn keys_that_stand_in_a_policy_can_be_used() {
    let field = Some((Severity::Error, "spec.jwtRules[0].jwks"));
    for (keys, expected) in [
        (r#"{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"}]}"#, None),
        (r#"{"keys":[]}"#, field),
        (r#"{"keys":[{"kty":"RSA","n":"AQ"}]}"#, field),
        ("{}", field),
    ] {
        check(
            "RequestAuthentication",
            &format!("{{jwtRules: [{{issuer: i, jwks: '{keys}'}}]}}"),
            expected,
        );
    }
    let uri = "{jwtRules: [{issuer: i, jwksUri: \"http://a.b/keys\"}]}";
    check(
        "RequestAuthentication",
        uri,
        Some((Severity::Warning, "spec.jwtRules[0].jwksUri")),
    );
}

#[test]
fn names_by_spiffe() {
    check(
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {principals: [\"cluster.local/ns/a/sa/b\", \"spiffe://cluster.local/ns/a/sa/b\"]}}]}]}",
        Some((Severity::Warning, "spec.rules[0].from[0].source.principals[1]")),
    );
    check(
        "DestinationRule",
        "{host: a.b, trafficPolicy: {tls: {mode: SIMPLE, subjectAltNames: [a.b, \"spiffe://A/b\"]}}}",
        Some((Severity::Warning, "spec.trafficPolicy.tls.subjectAltNames[1]")),
    );
}

#[test]
fn policies_of_istio_1_4_hold_keys_too() {
    let policy = |keys: &str| {
        let text = format!(
            "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {{name: default, namespace: shop}}\n\
             spec: {{origins: [{{jwt: {{issuer: i, jwks: '{keys}'}}}}]}}\n"
        );
        let findings = parse("x.yaml", text.as_bytes(), "default").findings;
        let errors = findings.into_iter().filter(|finding| finding.is_error());
        errors.map(|finding| finding.path).collect::<Vec<_>>()
    };
    assert_eq!(policy(r#"{"keys":[]}"#), ["spec.origins[0].jwt.jwks"]);
    assert!(policy(r#"{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"}]}"#).is_empty());
}

#[test]
fn a_workload_group_is_told_what_to_write_instead() {
    let text = "apiVersion: networking.istio.io/v1\nkind: WorkloadGroup\nmetadata: {name: x}\nspec: {template: {}}\n";
    let findings = parse("x.yaml", text.as_bytes(), "default").findings;
    let help = findings
        .iter()
        .find(|finding| finding.message == NO_EFFECT_AT_ALL);
    assert!(
        help.and_then(|finding| finding.help.as_deref())
            .is_some_and(|help| help.contains("WorkloadEntry")),
        "{findings:?}"
    );
}
