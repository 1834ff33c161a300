//! Istio 1.4's security kinds as today's.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test's helpers may fail loudly, as the test itself"
)]

use std::sync::Arc;

use config::legacy::{Mesh, translate};
use config::{Object, parse};
use serde_json::{Value, json};

/// A Service of the namespace shop; port 80 is the workload's 8080, port 90 has a name there.
const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: 8080}, {name: admin, port: 90, targetPort: admin}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: shop}
spec: {selector: {app: ratings}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, ports: [{name: http, port: 80}]}
---
";

/// `KIND NAMESPACE/NAME` with the body's `spec` of what is made, and the findings as text.
fn made(yaml: &str) -> (Vec<(String, Value)>, Vec<String>) {
    let parsed = parse("f.yaml", format!("{SERVICES}{yaml}").as_bytes(), "shop");
    let wrong: Vec<_> = parsed
        .findings
        .iter()
        .filter(|finding| finding.is_error())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let objects: Vec<Arc<Object>> = parsed.objects.into_iter().map(Arc::new).collect();
    let (objects, findings) = translate(&objects, Mesh::default());
    let bodies = objects.iter().map(|object| {
        let wire = object.to_feed();
        assert_eq!(
            Object::from_feed(wire.clone()),
            Ok(object.clone()),
            "what is made keeps the rules of its kind"
        );
        let body: Value = serde_json::from_slice(&wire.body).unwrap();
        (object.key().to_string(), body["spec"].clone())
    });
    (
        bodies.collect(),
        findings.iter().map(|f| format!("{}: {f}", f.severity)).collect(),
    )
}

fn check(yaml: &str, expected: &[(&str, Value)]) -> Vec<String> {
    let (seen, findings) = made(yaml);
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, spec)| ((*key).to_owned(), spec.clone()))
        .collect();
    assert_eq!(seen, expected, "{yaml}\n{findings:#?}");
    findings
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: authentication.istio.io/v1alpha1\nkind: Policy\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
    )
}

fn rbac(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: rbac.istio.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
    )
}

#[test]
fn mutual_tls_of_mesh_namespace_service_and_port() {
    let mesh = "apiVersion: authentication.istio.io/v1alpha1\nkind: MeshPolicy\nmetadata: {name: default}\nspec: {peers: [{mtls: {}}]}\n";
    let findings = check(
        mesh,
        &[(
            "PeerAuthentication istio-system/legacy-policy.default",
            json!({"mtls": {"mode": "STRICT"}}),
        )],
    );
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0].starts_with(
            "warning: f.yaml:17:1: MeshPolicy default: a kind of Istio 1.4, in force as PeerAuthentication"
        ),
        "{findings:?}"
    );
    check(
        &policy("default", "{peers: [{mtls: {mode: PERMISSIVE}}]}"),
        &[(
            "PeerAuthentication shop/legacy-policy.default",
            json!({"mtls": {"mode": "PERMISSIVE"}}),
        )],
    );
    check(
        &policy("default", "{peers: [{mtls: {}}], peerIsOptional: true}"),
        &[(
            "PeerAuthentication shop/legacy-policy.default",
            json!({"mtls": {"mode": "PERMISSIVE"}}),
        )],
    );
    let both = policy(
        "a",
        "{targets: [{name: reviews, ports: [{number: 80}]}], peers: [{mtls: {}}]}",
    ) + &policy("b", "{targets: [{name: reviews}, {name: ratings}]}");
    check(
        &both,
        &[
            (
                "PeerAuthentication shop/legacy-policy.ratings",
                json!({"selector": {"matchLabels": {"app": "ratings"}}, "mtls": {"mode": "PERMISSIVE"}}),
            ),
            (
                "PeerAuthentication shop/legacy-policy.reviews",
                json!({
                    "selector": {"matchLabels": {"app": "reviews"}}, "mtls": {"mode": "PERMISSIVE"},
                    "portLevelMtls": {"8080": {"mode": "STRICT"}},
                }),
            ),
        ],
    );
}

#[test]
fn a_port_that_cannot_be_known_takes_the_whole_workload() {
    let findings = check(
        &policy(
            "a",
            "{targets: [{name: reviews, ports: [{name: admin}]}, {name: none}], peers: [{mtls: {}}]}",
        ),
        &[(
            "PeerAuthentication shop/legacy-policy.reviews",
            json!({"selector": {"matchLabels": {"app": "reviews"}}, "mtls": {"mode": "STRICT"}}),
        )],
    );
    assert!(
        findings
            .iter()
            .any(|f| f.starts_with("error") && f.contains("spec.targets[0].ports[0]")),
        "{findings:?}"
    );
    assert!(
        findings
            .iter()
            .any(|f| f.starts_with("warning") && f.contains("spec.targets[1]")),
        "{findings:?}"
    );
}

#[test]
fn tokens_are_accepted_and_demanded() {
    let jwt = "jwt: {issuer: me, jwksUri: 'https://me/keys', jwtHeaders: [x-token], \
               triggerRules: [{includedPaths: [{prefix: /admin/}], excludedPaths: [{exact: /admin/status}]}]}";
    let accepted = |selector: Value| {
        json!({"selector": selector, "jwtRules": [{
            "issuer": "me", "jwksUri": "https://me/keys", "fromHeaders": [{"name": "x-token"}], "forwardOriginalToken": true,
        }]})
    };
    let selector = json!({"matchLabels": {"app": "reviews"}});
    let peer = json!({"selector": selector, "portLevelMtls": {"8080": {"mode": "PERMISSIVE"}}});
    check(
        &policy(
            "a",
            &format!("{{targets: [{{name: reviews, ports: [{{number: 80}}]}}], origins: [{{{jwt}}}]}}"),
        ),
        &[
            (
                "AuthorizationPolicy shop/legacy-policy.a.reviews",
                json!({"selector": selector, "action": "DENY", "rules": [{
                    "from": [{"source": {"notRequestPrincipals": ["*"]}}],
                    "to": [{"operation": {"ports": ["8080"], "paths": ["/admin/*"], "notPaths": ["/admin/status"]}}],
                }]}),
            ),
            ("PeerAuthentication shop/legacy-policy.reviews", peer.clone()),
            (
                "RequestAuthentication shop/legacy-policy.a.reviews",
                accepted(selector.clone()),
            ),
        ],
    );
    check(
        &policy(
            "a",
            &format!(
                "{{targets: [{{name: reviews, ports: [{{number: 80}}]}}], origins: [{{{jwt}}}], originIsOptional: true}}"
            ),
        ),
        &[
            ("PeerAuthentication shop/legacy-policy.reviews", peer),
            (
                "RequestAuthentication shop/legacy-policy.a.reviews",
                accepted(selector),
            ),
        ],
    );
}

#[test]
fn paths_by_regex_demand_a_token_on_more_paths() {
    let jwt = "jwt: {issuer: me, jwks: '{\"keys\": [{\"kty\": \"RSA\", \"n\": \"AQ\", \"e\": \"AQAB\"}]}', triggerRules: [{includedPaths: [{regex: '/a.*'}, {exact: /b}]}]}";
    let (objects, findings) = made(&policy("default", &format!("{{origins: [{{{jwt}}}]}}")));
    let denied = objects
        .iter()
        .find(|(key, _)| key.starts_with("AuthorizationPolicy"))
        .unwrap();
    assert_eq!(
        denied.1["rules"],
        json!([{"from": [{"source": {"notRequestPrincipals": ["*"]}}]}])
    );
    assert!(
        findings
            .iter()
            .any(|f| f.starts_with("error") && f.contains("spec.origins")),
        "{findings:?}"
    );
}

const ON: &str = "apiVersion: rbac.istio.io/v1alpha1\nkind: ClusterRbacConfig\nmetadata: {name: default}\nspec: {mode: 'ON'}\n---\n";

fn nothing(app: &str) -> Value {
    json!({"selector": {"matchLabels": {"app": app}}})
}

#[test]
fn access_is_denied_where_it_is_controlled_but_for_gateways() {
    let both = [
        ("AuthorizationPolicy shop/legacy-rbac.ratings", nothing("ratings")),
        ("AuthorizationPolicy shop/legacy-rbac.reviews", nothing("reviews")),
    ];
    check(ON, &both);
    check(&ON.replace("mode: 'ON'", "mode: 'OFF'"), &[]);
    check(
        &ON.replace(
            "'ON'",
            "ON_WITH_EXCLUSION, exclusion: {services: [ratings.shop.svc.cluster.local]}",
        ),
        &both[1..],
    );
    check(
        &ON.replace(
            "'ON'",
            "ON_WITH_INCLUSION, inclusion: {services: [ratings.shop.svc.cluster.local]}",
        ),
        &both[..1],
    );
    check(
        &ON.replace("'ON'", "ON_WITH_INCLUSION, inclusion: {namespaces: [shop]}"),
        &both,
    );
    check(
        &ON.replace("'ON'", "ON_WITH_EXCLUSION, exclusion: {namespaces: [shop]}"),
        &[],
    );
    check(
        &ON.replace("mode: 'ON'", "mode: 'ON', enforcementMode: PERMISSIVE"),
        &[],
    );
}

#[test]
fn roles_and_bindings_allow() {
    let role = rbac(
        "ServiceRole",
        "viewer",
        "{rules: [{services: ['rev*'], methods: [GET], paths: [/a, '/b/*'], \
          constraints: [{key: 'request.headers[v]', values: [v1]}, {key: 'destination.labels[app]', values: [reviews]}]}]}",
    );
    let binding = rbac(
        "ServiceRoleBinding",
        "viewers",
        "{subjects: [{user: '*', properties: {source.namespace: web}}, {names: [a/b], groups: [g]}], roleRef: {kind: ServiceRole, name: viewer}}",
    );
    let to = json!([{"operation": {"methods": ["GET"], "paths": ["/a", "/b/*"]}}]);
    let header = json!({"key": "request.headers[v]", "values": ["v1"]});
    check(
        &format!("{ON}{role}{binding}"),
        &[
            ("AuthorizationPolicy shop/legacy-rbac.ratings", nothing("ratings")),
            (
                "AuthorizationPolicy shop/legacy-rbac.reviews",
                json!({"selector": {"matchLabels": {"app": "reviews"}}, "rules": [
                    {"from": [{"source": {"namespaces": ["web"]}}], "to": to, "when": [header]},
                    {"from": [{"source": {"principals": ["a/b"]}}], "to": to,
                     "when": [header, {"key": "request.auth.claims[groups]", "values": ["g"]}]},
                ]}),
            ),
        ],
    );
}

#[test]
fn what_has_no_translation_allows_nothing() {
    let cases = [
        // (rule, subject): a part of each has no translation.
        (
            "{services: [reviews], constraints: [{key: destination.user, values: [x]}]}",
            "{user: a}",
        ),
        (
            "{services: [reviews], constraints: [{key: 'destination.labels[version]', values: [v1]}]}",
            "{user: a}",
        ),
        ("{services: [reviews]}", "{user: a, names: [b]}"),
        ("{services: [reviews]}", "{properties: {destination.port: '80'}}"),
    ];
    for (rule, subject) in cases {
        let role = rbac("ServiceRole", "r", &format!("{{rules: [{rule}]}}"));
        let binding = rbac(
            "ServiceRoleBinding",
            "b",
            &format!("{{subjects: [{subject}], roleRef: {{kind: ServiceRole, name: r}}}}"),
        );
        let findings = check(
            &format!("{ON}{role}{binding}"),
            &[
                ("AuthorizationPolicy shop/legacy-rbac.ratings", nothing("ratings")),
                ("AuthorizationPolicy shop/legacy-rbac.reviews", nothing("reviews")),
            ],
        );
        assert!(
            findings.iter().any(|f| f.starts_with("error")),
            "{rule} {subject}: {findings:?}"
        );
    }
}

#[test]
fn todays_kinds_come_first() {
    let new = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: new}\nspec: {selector: {matchLabels: {app: reviews}}, mtls: {mode: DISABLE}}\n---\n\
               apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: new}\nspec: {selector: {matchLabels: {app: reviews}}, rules: [{}]}\n---\n";
    let old = policy("a", "{targets: [{name: reviews}], peers: [{mtls: {}}]}");
    let findings = check(
        &format!("{new}{old}{ON}"),
        &[("AuthorizationPolicy shop/legacy-rbac.ratings", nothing("ratings"))],
    );
    assert!(
        findings
            .iter()
            .any(|f| f.contains("has no effect on reviews: a PeerAuthentication says it")),
        "{findings:?}"
    );
}

#[test]
fn what_another_object_may_bring_is_no_error() {
    let (_, findings) = made(&policy(
        "absent",
        "{targets: [{name: absent}], peers: [{mtls: {}}]}",
    ));
    let (missing, errors): (Vec<_>, Vec<_>) = (
        findings
            .iter()
            .filter(|text| text.contains("no Service absent"))
            .collect(),
        findings.iter().filter(|text| text.starts_with("error")).collect(),
    );
    assert!(missing.len() == 1 && errors.is_empty(), "{findings:#?}");
    assert!(missing[0].starts_with("warning"), "{missing:?}");
}
