//! What has gone wrong before, in Istio or in Envoy: each published bulletin about policies (docs/security.md) against a real
//! Envoy. What the decision function says is compared as well, so that both stay right.

use serde_json::json;

use authz::Place;

use crate::client::{self, Answer};
use crate::mesh::{Mesh, PEERS};
use crate::policies::{ONE, TWO};
use crate::requests::{Carried, Sent};

const OK: Answer = Answer::Status(200);
const DENIED: Answer = Answer::Status(403);
const UNAUTHORIZED: Answer = Answer::Status(401);

/// A workload's policy, what is sent to it, and what must come back.
type Case = (String, Vec<(Sent, Answer)>);

fn check(cases: Vec<Case>) {
    let documents: Vec<String> = cases
        .iter()
        .enumerate()
        .map(|(at, case)| case.0.replace("NAMESPACE", &format!("w{at}")))
        .collect();
    let Some(mesh) = Mesh::start(&documents) else {
        return;
    };
    for (workload, (_, sent)) in cases.into_iter().enumerate() {
        for (sent, expected) in sent {
            let (request, answer) = client::send(&mesh, workload, &sent);
            let text = mesh.text(workload);
            assert_eq!(answer, expected, "Envoy: {sent:?}\n{text}");
            let decided = mesh.set(workload).decide(&request, &sent.answers).verdict;
            assert_eq!(
                crate::seen(&decided),
                expected,
                "decided {decided:?}: {sent:?}\n{text}"
            );
        }
    }
}

fn policy(action: &str, rule: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: NAMESPACE}}\nspec: {{action: {action}, rules: [{rule}]}}\n"
    )
}

fn tokens(rules: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: t, namespace: NAMESPACE}}\nspec: {{jwtRules: [{rules}]}}\n"
    )
}

fn path(path: &'static str) -> Sent {
    Sent {
        path,
        ..Sent::default()
    }
}

fn from(peer: &'static str) -> Sent {
    Sent {
        peer: Some(peer),
        ..Sent::default()
    }
}

fn header(values: &[&'static str]) -> Sent {
    Sent {
        headers: values.iter().map(|value| ("x-role", *value)).collect(),
        ..Sent::default()
    }
}

fn bearer(issuer: &str, genuine: bool) -> Sent {
    Sent {
        tokens: vec![Carried {
            place: Place::Header("authorization".to_owned(), "Bearer ".to_owned()),
            claims: json!({"iss": issuer, "sub": "alice"}),
            genuine,
        }],
        ..Sent::default()
    }
}

#[test]
fn istio_security_2020_001_2021_005_2021_008_a_path_has_one_spelling() {
    let spellings = [
        "/admin",
        "/admin?x=1",
        "//admin",
        "/%2Fadmin",
        "/%2fadmin",
        "/%5cadmin",
        "/\\admin",
        "/x/../admin",
        "/x/..%2fadmin",
        "/x/%2e%2e/admin",
        "/x/..%5Cadmin",
        "/./admin",
        "/%2e/admin",
    ];
    let mut denied: Vec<_> = spellings
        .iter()
        .map(|spelling| (path(spelling), DENIED))
        .collect();
    denied.push((path("/admin#x"), Answer::Status(400)));
    denied.extend(["/Admin", "/admin2", "/%2561dmin"].map(|other| (path(other), OK)));
    let mut allowed: Vec<_> = ["/public", "//public", "/x/../public?y"]
        .map(|p| (path(p), OK))
        .to_vec();
    allowed.extend(["/public/../admin", "/public%2f..%2fadmin", "/PUBLIC"].map(|p| (path(p), DENIED)));
    check(vec![
        (policy("DENY", "{to: [{operation: {paths: [/admin]}}]}"), denied),
        (
            policy("ALLOW", "{to: [{operation: {paths: [/public]}}]}"),
            allowed,
        ),
    ]);
}

#[test]
fn istio_security_2021_008_hosts_and_every_value_of_a_header() {
    let host = |host| Sent {
        host,
        ..Sent::default()
    };
    let hosts = [
        "shop.example",
        "SHOP.EXAMPLE",
        "Shop.Example:80",
        "shop.example.",
        "shop.example.:8080",
    ];
    let mut hosts: Vec<_> = hosts.iter().map(|name| (host(name), DENIED)).collect();
    hosts.extend([(host("shopxexample"), OK), (host("a.shop.example"), OK)]);
    let role = |action, values| {
        policy(
            action,
            &format!("{{when: [{{key: 'request.headers[x-role]', {values}}}]}}"),
        )
    };
    check(vec![
        (
            policy("DENY", "{to: [{operation: {hosts: [shop.example]}}]}"),
            hosts,
        ),
        (
            role("DENY", "values: [admin]"),
            vec![
                (header(&["admin"]), DENIED),
                (header(&["user", "admin"]), DENIED),
                (header(&["admin", "user"]), DENIED),
                (header(&["user, admin"]), DENIED),
                (header(&["user"]), OK),
            ],
        ),
        (
            role("ALLOW", "values: [admin]"),
            vec![
                (header(&["admin"]), OK),
                (header(&["user, admin"]), DENIED),
                (header(&[]), DENIED),
            ],
        ),
        (
            role("ALLOW", "notValues: [admin]"),
            vec![
                (header(&["user"]), OK),
                (header(&["user", "admin"]), DENIED),
                (header(&["admin"]), DENIED),
            ],
        ),
    ]);
}

#[test]
fn istio_security_2023_001_2024_001_bytes_that_are_no_text_hide_nothing() {
    let role = |action, values| {
        policy(
            action,
            &format!("{{when: [{{key: 'request.headers[x-role]', {values}}}]}}"),
        )
    };
    check(vec![
        (
            role("DENY", "values: [admin]"),
            vec![
                (header(&["\u{ff}\u{fe}", "admin"]), DENIED),
                (header(&["\u{ff}"]), OK),
            ],
        ),
        (
            role("DENY", "values: ['*min']"),
            vec![(header(&["\u{ff}admin"]), DENIED)],
        ),
        (
            role("DENY", "values: ['adm*']"),
            vec![(header(&["\u{ff},adm\u{ff}"]), DENIED)],
        ),
        (role("DENY", "values: ['*']"), vec![(header(&["\u{ff}"]), DENIED)]),
    ]);
}

#[test]
fn istio_security_2021_004_a_missing_identity_meets_no_condition() {
    let caller = |field: &str| format!("{{from: [{{source: {{{field}}}}}]}}");
    let mut cases = Vec::new();
    for field in [
        "notPrincipals: [x/y]",
        "notNamespaces: [x]",
        "notServiceAccounts: [x/y]",
        "notTrustDomains: [x]",
    ] {
        let all = vec![(Sent::default(), DENIED), (from(PEERS[0]), OK)];
        cases.push((policy("ALLOW", &caller(field)), all));
    }
    let nobody = vec![(Sent::default(), DENIED), (from(PEERS[0]), OK)];
    cases.push((policy("DENY", &caller("notPrincipals: ['*']")), nobody.clone()));
    cases.push((policy("ALLOW", &caller("principals: ['*']")), nobody.clone()));
    cases.push((policy("ALLOW", &caller("namespaces: ['*']")), nobody.clone()));
    cases.push((policy("ALLOW", &caller("trustDomains: [cluster.local]")), nobody));
    let untold = vec![(Sent::default(), DENIED), (bearer(ONE, true), OK)];
    let keys = tokens(&format!("{{issuer: '{ONE}', jwks: \"JWKS\"}}"));
    for field in ["notRequestPrincipals: [x/y]", "requestPrincipals: ['*']"] {
        cases.push((policy("ALLOW", &caller(field)) + &keys, untold.clone()));
    }
    let claim = "{when: [{key: 'request.auth.claims[group]', notValues: [guests]}]}";
    cases.push((policy("ALLOW", claim) + &keys, untold));
    check(cases);
}

#[test]
fn istio_security_2021_001_2019_002_2026_001_only_an_issuers_own_keys_count() {
    let keys = tokens(&format!("{{issuer: '{ONE}', jwks: \"JWKS\"}}"));
    let away = tokens(&format!(
        "{{issuer: '{ONE}', jwksUri: 'https://one.example/jwks'}}"
    ));
    let malformed = |value| Sent {
        headers: vec![("authorization", value)],
        ..Sent::default()
    };
    let mut sent = vec![
        (Sent::default(), OK),
        (bearer(ONE, true), OK),
        (bearer(ONE, false), UNAUTHORIZED),
        (bearer(TWO, true), UNAUTHORIZED),
    ];
    let text = keys.clone();
    let both = tokens(&format!(
        "{{issuer: '{ONE}', jwks: \"JWKS\"}}, {{issuer: '{TWO}', jwksUri: 'https://two.example/jwks'}}"
    ));
    check(vec![
        (text, std::mem::take(&mut sent)),
        // Keys that could not be fetched are no keys, whoever signed.
        (
            away,
            vec![
                (bearer(ONE, true), UNAUTHORIZED),
                (bearer(ONE, false), UNAUTHORIZED),
                (Sent::default(), OK),
            ],
        ),
        (
            both,
            vec![(bearer(ONE, true), OK), (bearer(TWO, true), UNAUTHORIZED)],
        ),
    ]);
    // Malformed tokens, which the decision function does not read.
    let Some(mesh) = Mesh::start(&[keys.replace("NAMESPACE", "w0")]) else {
        return;
    };
    for value in [
        "Bearer x",
        "Bearer ..",
        "Bearer a.b.c",
        "Bearer eyJhbGciOiJub25lIn0.bnVsbA.",
        "Bearer \u{ff}.\u{ff}.\u{ff}",
    ] {
        let (_, answer) = client::send(&mesh, 0, &malformed(value));
        assert_eq!(answer, UNAUTHORIZED, "{value}");
    }
    let (_, answer) = client::send(&mesh, 0, &bearer(ONE, true));
    assert_eq!(answer, OK, "Envoy lives");
}

#[test]
fn istio_security_2019_001_2020_009_policies_hold_on_connections_too() {
    let tcp = |peer| Sent {
        peer,
        tcp: true,
        ..Sent::default()
    };
    let cases = |hit: Option<&'static str>, miss: Option<&'static str>| {
        vec![(tcp(hit), Answer::Closed), (tcp(miss), OK)]
    };
    let caller = |field: &str| format!("{{from: [{{source: {{{field}}}}}]}}");
    check(vec![
        (
            policy("DENY", &caller("principals: ['*/sa/x']")),
            cases(Some(PEERS[0]), Some(PEERS[1])),
        ),
        (
            policy("DENY", &caller("principals: ['cluster.local/ns/a/*']")),
            cases(Some(PEERS[0]), Some(PEERS[1])),
        ),
        (
            policy("DENY", &caller("namespaces: ['a*']")),
            cases(Some(PEERS[3]), Some(PEERS[1])),
        ),
        (
            policy("DENY", "{to: [{operation: {ports: ['9090']}}]}"),
            vec![(tcp(None), Answer::Closed), (path("/"), OK)],
        ),
        (
            policy("ALLOW", &caller("principals: ['*/sa/x']")),
            cases(Some(PEERS[1]), Some(PEERS[0])),
        ),
        // HTTP is unknown on a connection: an ALLOW rule that asks for it lets nobody in, a DENY rule refuses everybody.
        (
            policy("ALLOW", "{to: [{operation: {paths: ['*']}}]}"),
            vec![(tcp(Some(PEERS[0])), Answer::Closed), (path("/"), OK)],
        ),
        (
            policy("DENY", "{to: [{operation: {paths: [/x]}}]}"),
            vec![(tcp(Some(PEERS[0])), Answer::Closed), (path("/"), OK)],
        ),
    ]);
}

#[test]
fn istio_security_2026_003_dots_are_dots() {
    let caller = |field: &str| policy("ALLOW", &format!("{{from: [{{source: {{{field}}}}}]}}"));
    let sent = || vec![(from(PEERS[4]), OK), (from(PEERS[5]), DENIED)];
    check(vec![
        (caller("namespaces: [a.b]"), sent()),
        (caller("serviceAccounts: [a.b/x.y]"), sent()),
        (caller("principals: ['*/ns/a.b/sa/x.y']"), sent()),
        (caller("namespaces: ['a.*']"), sent()),
        (
            policy("ALLOW", "{to: [{operation: {hosts: [shop.example]}}]}"),
            vec![
                (
                    Sent {
                        host: "shopXexample",
                        ..Sent::default()
                    },
                    DENIED,
                ),
                (Sent::default(), OK),
            ],
        ),
    ]);
}

#[test]
fn istio_security_2019_003_2022_004_long_texts_end_no_proxy() {
    let long: &'static str = Box::leak(format!("/{}", "a/".repeat(20_000)).into_boxed_str());
    let role: &'static str = Box::leak("a,".repeat(20_000).into_boxed_str());
    let documents = [
        policy("DENY", "{to: [{operation: {paths: ['*/x', '/{*}/{**}']}}]}"),
        policy(
            "DENY",
            "{when: [{key: 'request.headers[x-role]', values: [admin, 'b*', '*c']}]}",
        ),
    ];
    let documents: Vec<String> = documents
        .iter()
        .enumerate()
        .map(|(at, text)| text.replace("NAMESPACE", &format!("w{at}")))
        .collect();
    let Some(mesh) = Mesh::start(&documents) else {
        return;
    };
    for _ in 0..20 {
        let (_, answer) = client::send(&mesh, 0, &path(long));
        assert_ne!(answer, Answer::Closed);
        let (_, answer) = client::send(&mesh, 1, &header(&[role]));
        assert_ne!(answer, Answer::Closed);
    }
    assert_eq!(client::send(&mesh, 1, &path("/")).1, OK, "Envoy lives");
}

#[test]
fn claims_and_payloads_in_headers_are_the_tokens_alone() {
    let rule = "{issuer: 'https://one.example', jwks: \"JWKS\", outputPayloadToHeader: x-payload, outputClaimToHeaders: [{header: x-sub, claim: sub}, {header: x-deep, claim: a.b}]}";
    let Some(mesh) = Mesh::start(&[tokens(rule).replace("NAMESPACE", "w0")]) else {
        return;
    };
    let forged = vec![("x-payload", "forged"), ("x-sub", "forged"), ("x-deep", "forged")];
    let mut sent = bearer(ONE, true);
    sent.tokens[0].claims = json!({"iss": ONE, "sub": "alice", "a": {"b": "deep"}});
    sent.headers.clone_from(&forged);
    let seen = client::ask(&mesh, 0, &sent).to_ascii_lowercase();
    assert!(
        seen.contains("x-sub: alice") && seen.contains("x-deep: deep") && seen.contains("x-payload: ey"),
        "{seen}"
    );
    assert!(!seen.contains("forged"), "{seen}");
    assert!(
        !seen.contains("authorization:"),
        "the token is not passed on unless that is asked for: {seen}"
    );
    let without = Sent {
        headers: forged,
        ..Sent::default()
    };
    let seen = client::ask(&mesh, 0, &without).to_ascii_lowercase();
    assert!(seen.contains(" 200 ") && !seen.contains("forged"), "{seen}");
}

#[test]
fn an_authorizer_is_asked_about_what_the_rules_match_alone() {
    let custom = |provider: &str, rule: &str| {
        policy("CUSTOM", rule).replace(
            "action: CUSTOM,",
            &format!("action: CUSTOM, provider: {{name: {provider}}},"),
        )
    };
    let says = |word: &'static str, path: &'static str| Sent {
        path,
        headers: vec![("x-answer", word)],
        answers: [
            ("asked".to_owned(), word == "asked"),
            ("asked-too".to_owned(), word == "too"),
        ]
        .into(),
        ..Sent::default()
    };
    let admin = "{to: [{operation: {paths: [/admin]}}]}";
    let both = custom("asked", admin)
        + "---\n"
        + &custom("asked-too", "{to: [{operation: {paths: [/admin, /too]}}]}").replace("name: p", "name: q");
    let tcp = Sent {
        tcp: true,
        ..Sent::default()
    };
    check(vec![
        (
            custom("asked", admin),
            vec![
                (says("asked", "/admin"), OK),
                (says("no", "/admin"), DENIED),
                (says("no", "//admin"), DENIED),
                (says("no", "/"), OK),
                (tcp.clone(), OK),
            ],
        ),
        (
            both,
            vec![
                (says("asked", "/admin"), DENIED),
                (says("too", "/admin"), DENIED),
                (says("too", "/too"), OK),
                (says("asked", "/too"), DENIED),
            ],
        ),
        (
            custom("nobody", admin),
            vec![(says("asked", "/admin"), DENIED), (says("no", "/"), OK)],
        ),
        // Connections are none of its business where it speaks HTTP; a rule that means them as well refuses them.
        (
            custom("asked", "{from: [{source: {ipBlocks: [127.0.0.0/8]}}]}"),
            vec![(tcp, Answer::Closed), (says("asked", "/"), OK)],
        ),
    ]);
}
