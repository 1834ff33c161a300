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

#[test]
fn annotations_that_the_mesh_reads() {
    let annotated = |kind: &str, annotation: &str, expected: &[(Severity, &str)]| {
        let (api, spec) = match kind {
            "ServiceEntry" => (
                "networking.istio.io/v1",
                "spec: {hosts: [a.example.com], ports: [{name: http, number: 80, protocol: HTTP}]}",
            ),
            "Namespace" => ("v1", "spec: {}"),
            _ => ("v1", "spec: {ports: [{name: http, port: 80}]}"),
        };
        let text = format!(
            "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a, annotations: {{{annotation}}}}}\n{spec}\n"
        );
        let findings = parse("x.yaml", text.as_bytes(), "default").findings;
        let seen: Vec<(Severity, &str)> = findings.iter().map(|f| (f.severity, f.path.as_str())).collect();
        assert_eq!(seen, expected, "{kind} {annotation}: {findings:?}");
    };
    let distribution = "metadata.annotations[\"networking.istio.io/traffic-distribution\"]";
    for kind in ["Service", "Namespace", "ServiceEntry"] {
        let name = "networking.istio.io/traffic-distribution";
        annotated(kind, &format!("{name}: prefersamezone"), &[]);
        annotated(kind, &format!("{name}: Nope"), &[(W, distribution)]);
    }
    let export = "metadata.annotations[\"networking.istio.io/exportTo\"]";
    annotated("Service", "networking.istio.io/exportTo: 'shop, ., ~'", &[]);
    annotated(
        "Service",
        "networking.istio.io/exportTo: 'shop,a_b'",
        &[(W, export)],
    );
    annotated("Namespace", "networking.istio.io/exportTo: a_b", &[]);
    let selector = "metadata.annotations[\"traffic.istio.io/nodeSelector\"]";
    annotated(
        "Service",
        "traffic.istio.io/nodeSelector: '{\"edge\": \"yes\"}'",
        &[(W, selector)],
    );
}

#[test]
fn former_and_experimental_groups_are_named() {
    let said = |api: &str, kind: &str| {
        let text = format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {{}}\n");
        let findings = parse("x.yaml", text.as_bytes(), "default").findings;
        let finding = findings.first().unwrap();
        assert_eq!(findings.len(), 1, "{findings:?}");
        let help = finding.help.clone().unwrap_or_default();
        (finding.severity, finding.path.clone(), help)
    };
    for (kind, version) in [
        ("Ingress", "networking.k8s.io/v1"),
        ("Deployment", "apps/v1"),
        ("DaemonSet", "apps/v1"),
    ] {
        let expected = (E, "apiVersion".to_owned(), format!("use {version}"));
        assert_eq!(said("extensions/v1beta1", kind), expected);
    }
    assert_eq!(said("extensions/v1beta1", "NetworkPolicy").0, Severity::Info);
    let (severity, path, help) = said("gateway.networking.x-k8s.io/v1alpha1", "XListenerSet");
    assert_eq!((severity, path.as_str()), (W, "apiVersion"));
    assert!(help.contains("networking.istio.io"), "{help}");
}
