//! Kubernetes' kinds, as the API server would judge them: which field is refused, or warned of.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use config::{Severity, parse};

fn check(api: &str, kind: &str, name: &str, body: &str, expected: &[(Severity, &str)]) {
    let text =
        format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n{body}\n");
    let findings = parse("x.yaml", text.as_bytes(), "default").findings;
    let seen: Vec<(Severity, &str)> = findings.iter().map(|f| (f.severity, f.path.as_str())).collect();
    assert_eq!(seen, expected, "{kind} {body}: {findings:?}");
}

const E: Severity = Severity::Error;
const W: Severity = Severity::Warning;

#[test]
fn ingresses() {
    let ingress = |spec: &str, expected: &[(Severity, &str)]| {
        check(
            "networking.k8s.io/v1",
            "Ingress",
            "x",
            &format!("spec: {spec}"),
            expected,
        );
    };
    let path = |path: &str, expected: &[(Severity, &str)]| {
        ingress(&format!("{{rules: [{{http: {{paths: [{path}]}}}}]}}"), expected);
    };
    let backend = "backend: {service: {name: a, port: {number: 80}}}";
    path(&format!("{{path: /a, pathType: Prefix, {backend}}}"), &[]);
    path(
        &format!("{{path: /a, pathType: Nope, {backend}}}"),
        &[(E, "spec.rules[0].http.paths[0].pathType")],
    );
    path(
        &format!("{{path: /a, {backend}}}"),
        &[(W, "spec.rules[0].http.paths[0].pathType")],
    );
    for bad in ["a", "/a//b", "/a/../b", "/a%2Fb", "/a/.."] {
        path(
            &format!("{{path: '{bad}', pathType: Exact, {backend}}}"),
            &[(E, "spec.rules[0].http.paths[0].path")],
        );
    }
    path(
        "{path: /, pathType: Exact, backend: {service: {name: a, port: {}}}}",
        &[(E, "spec.rules[0].http.paths[0].backend.service.port")],
    );
    path(
        "{path: /, pathType: Exact, backend: {service: {name: A, port: {name: a--b}}}}",
        &[
            (E, "spec.rules[0].http.paths[0].backend.service.name"),
            (E, "spec.rules[0].http.paths[0].backend.service.port.name"),
        ],
    );
    path(
        "{path: /, pathType: Exact, backend: {}}",
        &[(W, "spec.rules[0].http.paths[0].backend")],
    );
    ingress("{}", &[(E, "spec")]);
    ingress(
        "{defaultBackend: {service: {name: a, port: {number: 80}}}, tls: [{hosts: ['*.a.b', 'a.*']}]}",
        &[(E, "spec.tls[0].hosts[1]")],
    );
    ingress(
        "{rules: [{host: 10.0.0.1, http: {paths: []}}]}",
        &[(E, "spec.rules[0].host"), (E, "spec.rules[0].http.paths")],
    );
}

#[test]
fn services() {
    let service = |spec: &str, expected: &[(Severity, &str)]| {
        check("v1", "Service", "x", &format!("spec: {spec}"), expected);
    };
    service(
        "{ports: [{port: 80, targetPort: http-1, appProtocol: kubernetes.io/h2c}]}",
        &[],
    );
    service(
        "{ports: [{port: 80, targetPort: '80'}]}",
        &[(E, "spec.ports[0].targetPort")],
    );
    service(
        "{ports: [{port: 80, protocol: tcp}]}",
        &[(E, "spec.ports[0].protocol")],
    );
    service(
        "{ports: [{port: 80, appProtocol: 'a b'}]}",
        &[(E, "spec.ports[0].appProtocol")],
    );
    service(
        "{ports: [{name: a, port: 80}, {name: b, port: 80, protocol: TCP}, {name: c, port: 80, protocol: UDP}]}",
        &[(E, "spec.ports[1]")],
    );
    service(
        "{clusterIP: x, externalIPs: [a], sessionAffinity: Ip, ipFamilies: [IPv5], ports: [{port: 80, nodePort: 70000}]}",
        &[
            (E, "spec.clusterIP"),
            (E, "spec.externalIPs[0]"),
            (E, "spec.ipFamilies[0]"),
            (E, "spec.sessionAffinity"),
            (E, "spec.ports[0].nodePort"),
        ],
    );
}

#[test]
fn slices_pods_and_what_makes_them() {
    check(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        "x",
        "addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]\nports: [{name: A, port: 80, protocol: X}]",
        &[(E, "ports[0].protocol"), (E, "ports[0].name")],
    );
    check(
        "v1",
        "Pod",
        "x",
        "spec: {containers: [{name: a, ports: [{containerPort: 0}, {containerPort: 80, name: a_b}]}]}",
        &[
            (E, "spec.containers[0].ports[0].containerPort"),
            (E, "spec.containers[0].ports[1].name"),
        ],
    );
    check(
        "apps/v1",
        "Deployment",
        "x",
        "spec: {template: {metadata: {labels: {app: 'a b'}}}}",
        &[(E, "spec.template.metadata.labels.app")],
    );
}

#[test]
fn the_meshs_config_map() {
    let map = |name: &str, mesh: &str, expected: &[(Severity, &str)]| {
        check(
            "v1",
            "ConfigMap",
            name,
            &format!("data: {{mesh: \"{mesh}\"}}"),
            expected,
        );
    };
    map("istio", "connectTimeout: 5s", &[]);
    map("istio-canary", "connectTimeout: 5", &[(E, "data.mesh")]);
    map("istio", "trustDomian: a", &[(E, "data.mesh")]);
    map("other", "trustDomian: a", &[]);
}
