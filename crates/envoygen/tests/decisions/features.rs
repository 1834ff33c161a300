//! What policies can say besides: what of a token reaches the application, trials, audits, authorizers of both kinds.

use serde_json::json;

use crate::cases::{DENIED, OK, bearer, check, header, path, policy, tokens};
use crate::client::{self, Answer};
use crate::mesh::{Mesh, PEERS};
use crate::policies::ONE;
use crate::requests::Sent;

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
fn a_header_that_rules_read_reaches_the_application_in_one_line() {
    let rule = "{when: [{key: 'request.headers[x-role]', values: ['user,adm*']}, {key: \"request.headers[X-O'%d]\", notValues: [c]}]}";
    let Some(mesh) = Mesh::start(&[policy("ALLOW", rule).replace("NAMESPACE", "w0")]) else {
        return;
    };
    let mut sent = header(&["user", "adm\u{ff}", "c"]);
    let more = [
        ("x-o'%d", "a"),
        ("x-other", "a"),
        ("x-o'%d", "b"),
        ("x-other", "b"),
    ];
    sent.headers.extend(more);
    let seen = client::ask(&mesh, 0, &sent).to_ascii_lowercase();
    let roles = seen.matches("x-role:").count();
    assert!(roles == 1 && seen.contains("x-role: user,adm"), "{seen}");
    assert!(seen.contains("x-o'%d: a,b"), "{seen}");
    assert_eq!(
        seen.matches("x-other:").count(),
        2,
        "others stay as they were: {seen}"
    );
    let empty = client::ask(&mesh, 0, &header(&["", ""])).to_ascii_lowercase();
    assert!(empty.contains(" 403 "), "{empty}");
}

#[test]
fn audits_and_trials_are_in_the_log_and_refuse_nobody() {
    let trial = |action, name, rule: &str| {
        policy(action, rule).replace(
            "name: p, namespace: NAMESPACE",
            &format!("name: {name}, namespace: NAMESPACE, annotations: {{istio.io/dry-run: 'true'}}"),
        )
    };
    let paths = |path| format!("{{to: [{{operation: {{paths: [{path}]}}}}]}}");
    let documents = [
        policy("AUDIT", &paths("/audited")),
        trial("DENY", "d", &paths("/admin")),
        trial("ALLOW", "a", &paths("/public")),
    ]
    .join("---\n");
    let Some(mesh) = Mesh::start(&[documents.replace("NAMESPACE", "w0")]) else {
        return;
    };
    let check = |path: &'static str, audited, denied: &str, allowed: &str| {
        let (_, answer) = client::send_as(&mesh, 0, &self::path(path), path);
        assert_eq!(answer, OK, "{path}");
        let logged = mesh.logged(path);
        assert_eq!(logged.audited, audited, "{path}");
        assert_eq!(
            (logged.trial_of_deny.as_str(), logged.trial_of_allow.as_str()),
            (denied, allowed),
            "{path}"
        );
    };
    check("/audited", true, "allowed", "denied");
    check("/admin", false, "denied", "denied");
    check("/public", false, "allowed", "allowed");
    let denials = mesh.counter("istio_dry_run_deny_.shadow_denied");
    assert_eq!(denials, 1, "a trial's refusals are counted");
}

#[test]
fn tokens_stand_where_the_rule_says_and_nowhere_else() {
    use authz::Place;
    let at = |place: Place| {
        let mut sent = bearer(ONE, true);
        sent.tokens[0].place = place;
        sent
    };
    let cookie = || at(Place::Cookie("session".to_owned()));
    let param = || at(Place::Param("token".to_owned()));
    let custom = || at(Place::Header("x-token".to_owned(), "T ".to_owned()));
    let usual = || at(Place::Param("access_token".to_owned()));
    // Whoever shows no token where it is looked for is nobody.
    let known = policy("ALLOW", "{from: [{source: {requestPrincipals: ['*']}}]}");
    let keys =
        |places: &str| known.clone() + &tokens(&format!("{{issuer: '{ONE}', jwks: \"JWKS\"{places}}}"));
    check(vec![
        (
            keys(", fromCookies: [session]"),
            vec![(cookie(), OK), (param(), DENIED), (bearer(ONE, true), DENIED)],
        ),
        (
            keys(", fromParams: [token]"),
            vec![(param(), OK), (cookie(), DENIED), (usual(), DENIED)],
        ),
        (
            keys(", fromHeaders: [{name: x-token, prefix: 'T '}]"),
            vec![(custom(), OK), (bearer(ONE, true), DENIED)],
        ),
        (
            keys(""),
            vec![(usual(), OK), (bearer(ONE, true), OK), (cookie(), DENIED)],
        ),
    ]);
}

#[test]
fn nested_claims_and_templates_of_paths() {
    let claims = |claims: serde_json::Value| {
        let mut sent = bearer(ONE, true);
        let own = sent.tokens[0].claims.as_object_mut().unwrap();
        own.extend(claims.as_object().unwrap().clone());
        sent
    };
    let keys = tokens(&format!("{{issuer: '{ONE}', jwks: \"JWKS\"}}"));
    let nested = "{when: [{key: 'request.auth.claims[realm][roles]', values: [boss, 'lead*']}]}";
    let template = "{to: [{operation: {paths: ['/shops/{*}/items/{**}']}}]}";
    check(vec![
        (
            policy("ALLOW", nested) + &keys,
            vec![
                (claims(json!({"realm": {"roles": ["x", "boss"]}})), OK),
                (claims(json!({"realm": {"roles": "leader"}})), OK),
                (claims(json!({"realm": {"roles": ["x"]}})), DENIED),
                (claims(json!({"realm": "boss"})), DENIED),
                (claims(json!({"roles": ["boss"], "realm.roles": "boss"})), DENIED),
                (Sent::default(), DENIED),
            ],
        ),
        (
            policy("ALLOW", template),
            vec![
                (path("/shops/a/items/b"), OK),
                (path("/shops/a/items/b/c?d"), OK),
                (path("/shops/a%2fb/items/c"), DENIED),
                (path("/shops/a/items%2fb"), OK),
                (path("/shops//items/b"), DENIED),
                (path("/shops/a/b/items/c"), DENIED),
                (path("/shops/a/items/../../x"), DENIED),
            ],
        ),
    ]);
}

#[test]
fn an_authorizer_is_asked_by_grpc_about_requests_and_connections() {
    let custom = policy("CUSTOM", "{to: [{operation: {paths: [/admin]}}]}")
        .replace("action: CUSTOM,", "action: CUSTOM, provider: {name: asked-grpc},");
    let all = custom.replace("{to: [{operation: {paths: [/admin]}}]}", "{}");
    let says = |word: &'static str, path: &'static str| Sent {
        path,
        headers: vec![("x-answer", word)],
        answers: [("asked-grpc".to_owned(), word == "grpc")].into(),
        ..Sent::default()
    };
    let tcp = |peer: &'static str| Sent {
        tcp: true,
        peer: Some(peer),
        answers: [("asked-grpc".to_owned(), peer.ends_with("/sa/x"))].into(),
        ..Sent::default()
    };
    check(vec![
        (
            custom,
            vec![
                (says("grpc", "/admin"), OK),
                (says("no", "/admin"), DENIED),
                (says("no", "/%61dmin"), DENIED),
                (says("no", "/"), OK),
            ],
        ),
        (
            all,
            vec![
                (tcp(PEERS[0]), OK),
                (tcp(PEERS[1]), Answer::Closed),
                (says("grpc", "/"), OK),
            ],
        ),
    ]);
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
