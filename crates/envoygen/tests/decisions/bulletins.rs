//! What has gone wrong before, in Istio or in Envoy: each published bulletin about policies (docs/security.md) against a real
//! Envoy.

use crate::cases::{DENIED, OK, UNAUTHORIZED, bearer, check, from, header, path, policy, tokens};
use crate::client::{self, Answer};
use crate::mesh::{Mesh, PEERS};
use crate::policies::{ONE, TWO};
use crate::requests::Sent;

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
        "/%61dm%69n",
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/x/%2e%2e%2fadmin",
        // Servers that know parameters of segments take these for /admin.
        "/x/%2e%2e;/admin",
        "/x/.%2E%3bc/admin",
    ];
    let mut denied: Vec<_> = spellings
        .iter()
        .map(|spelling| (path(spelling), DENIED))
        .collect();
    denied
        .extend(["/admin#x", "/admin%00", "/x/..%00/admin"].map(|path_| (path(path_), Answer::Status(400))));
    // Other paths, though one of them is decoded to /admin by who decodes twice.
    denied.extend(
        [
            "/Admin",
            "/admin2",
            "/admin.",
            "/%2561dmin",
            "/%25%32%46admin",
            "/%%32fadmin",
        ]
        .map(|other| (path(other), OK)),
    );
    let mut allowed: Vec<_> = ["/public", "//public", "/x/../public?y"]
        .map(|p| (path(p), OK))
        .to_vec();
    allowed.extend(["/public/../admin", "/public%2f..%2fadmin", "/PUBLIC"].map(|p| (path(p), DENIED)));
    let below = [
        "/public/..;/admin",
        "/public/%2e%2e;/admin",
        "/public/%2e%2e%2fadmin",
    ]
    .map(|p| (path(p), DENIED));
    let method = ["/v1/x:delete", "/v1/x%3Adelete", "/v1/x%3adelete"].map(|p| (path(p), DENIED));
    let cafe = ["/caf%C3%A9", "/caf%c3%a9", "/caf%C3%a9"].map(|p| (path(p), DENIED));
    check(vec![
        (policy("DENY", "{to: [{operation: {paths: [/admin]}}]}"), denied),
        (
            policy("ALLOW", "{to: [{operation: {paths: ['/public/*']}}]}"),
            below.to_vec(),
        ),
        (
            policy("DENY", "{to: [{operation: {paths: ['/{*}/x:delete']}}]}"),
            method.to_vec(),
        ),
        (
            policy("DENY", "{to: [{operation: {paths: [/caf%C3%A9]}}]}"),
            cafe.to_vec(),
        ),
        (
            policy("ALLOW", "{to: [{operation: {paths: [/public]}}]}"),
            allowed,
        ),
    ]);
}

#[test]
fn istio_security_2021_008_2022_001_hosts_and_every_value_of_a_header() {
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
        "shop.example:",
        "shop.example:abc",
        "shop.example..",
        "user@shop.example",
        "a.example,shop.example",
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
                // What an application would read of these is its own affair, so neither line is believed.
                (header(&["user", "admin"]), DENIED),
                (header(&["admin", "user"]), DENIED),
                (header(&[]), DENIED),
            ],
        ),
        (
            role("DENY", "notValues: [admin]"),
            vec![
                (header(&["admin"]), OK),
                (header(&["user"]), DENIED),
                (header(&["admin", "user"]), DENIED),
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
fn istio_security_2020_002_no_header_makes_an_identity() {
    let alice = "spiffe://cluster.local/ns/a/sa/x";
    // source.principal = alice as Mixer's clients wrote attributes (istio.mixer.v1.Attributes, in base64), and its text.
    let attributes = "Cj0KEHNvdXJjZS5wcmluY2lwYWwSKRIncGlmZmU6Ly9jbHVzdGVyLmxvY2FsL25zL2Evc2EveA==";
    let claimed = |name, value| Sent {
        headers: vec![(name, value)],
        ..Sent::default()
    };
    let forged = [
        claimed("x-istio-attributes", attributes),
        claimed("x-istio-attributes", alice),
        claimed("source.principal", alice),
        claimed(
            "x-forwarded-client-cert",
            "By=spiffe://cluster.local/ns/w/sa/w;URI=spiffe://cluster.local/ns/a/sa/x",
        ),
        claimed("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/a/sa/x"),
    ];
    let stranger = |sent: &Sent| Sent {
        peer: Some(PEERS[1]),
        ..sent.clone()
    };
    let mut sent: Vec<_> = forged.iter().map(|sent| (sent.clone(), DENIED)).collect();
    sent.extend(forged.iter().map(|sent| (stranger(sent), DENIED)));
    sent.push((from(PEERS[0]), OK));
    let only = |field: &str| policy("ALLOW", &format!("{{from: [{{source: {{{field}}}}}]}}"));
    check(vec![
        (only("principals: [cluster.local/ns/a/sa/x]"), sent.clone()),
        (only("namespaces: [a]"), sent),
    ]);
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
