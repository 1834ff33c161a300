//! Published bulletins that concern the certificate authority (docs/security.md).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use citadel::auth::jwks::KeySet;
use citadel::auth::jwt;
use citadel::identity_file::TokenIssuer;
use citadel::token::IssuerKey;
use runtime::SpiffeId;
use serde_json::Value;

#[test]
fn istio_security_2022_003_a_payload_that_is_no_object_is_refused() {
    let key = IssuerKey::generate().unwrap();
    let issuers = [TokenIssuer {
        issuer: "https://issuer".into(),
        audiences: BTreeSet::from(["argosy-ca".to_owned()]),
        keys: Arc::new(KeySet::parse(&key.jwks().unwrap()).unwrap()),
    }];
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    for header in [r#"{"alg":"ES256"}"#, r#"{"alg":"none"}"#, "null", "[]", "\0"] {
        for payload in [
            "null",
            "[]",
            "1",
            "\"\"",
            "\0",
            "{}",
            r#"{"iss":null}"#,
            r#"{"iss":"https://issuer","aud":null}"#,
        ] {
            for signature in ["", "AA"] {
                let token = format!("{}.{}.{signature}", encode(header), encode(payload));
                assert!(jwt::verify(&issuers, &token, 0).is_err(), "{header} {payload}");
            }
        }
    }
}

#[test]
fn istio_security_2026_005_nul_and_escapes_are_in_no_identity() {
    let fine = "spiffe://cluster.local/ns/shop/sa/orders";
    assert!(SpiffeId::parse(fine).is_ok());
    for bad in [
        "\0",
        "/../king",
        "/%2e%2e/king",
        "/.",
        "//",
        "/",
        "?x",
        "#x",
        "%00",
        "\u{ff}",
    ] {
        let id = format!("{fine}{bad}");
        assert!(SpiffeId::parse(&id).is_err(), "{id:?}");
    }
    for bad in [
        "spiffe://cluster.local/ns/sh\0op/sa/a",
        "spiffe://CLUSTER.local/ns/a/sa/b",
        "spiffe://a@cluster.local/x",
        "spiffe://cluster.local:80/x",
    ] {
        assert!(SpiffeId::parse(bad).is_err(), "{bad:?}");
    }
}

/// All rules of the roles that are installed, with the file that each is in.
fn rules() -> Vec<(String, Value)> {
    let home = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = std::fs::read_dir(home.join("../../helm/base/files/rights")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let documents = text.split("\n---").map(|part| part.trim_start_matches('-'));
        // What Helm fills in are names; whole lines of its own say when.
        for part in documents.filter(|part| !part.trim().is_empty()) {
            let lines = part.lines().filter(|line| !line.trim_start().starts_with("{{"));
            let plain = without_templates(&lines.collect::<Vec<_>>().join("\n"));
            let document: Value = serde_saphyr::from_str(&plain).unwrap();
            let rules = document["rules"].as_array().cloned().unwrap_or_default();
            all.extend(rules.into_iter().map(|rule| (file.display().to_string(), rule)));
        }
    }
    all
}

/// A text with a name for each of Helm's templates.
fn without_templates(text: &str) -> String {
    let mut parts = text.split("{{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push('x');
        out.push_str(part.split_once("}}").map_or("", |(_, rest)| rest));
    }
    out
}

#[test]
fn istio_security_2022_002_nobody_may_make_what_runs() {
    let reads = ["get", "list", "watch"];
    let runs = [
        "*",
        "pods",
        "pods/exec",
        "pods/attach",
        "pods/ephemeralcontainers",
        "deployments",
        "daemonsets",
        "statefulsets",
        "replicasets",
        "replicationcontrollers",
        "jobs",
        "cronjobs",
        "serviceaccounts",
        "serviceaccounts/token",
        "roles",
        "rolebindings",
        "clusterroles",
        "clusterrolebindings",
    ];
    let rules = rules();
    assert!(rules.len() > 20, "the rights were found: {}", rules.len());
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let list = rule[field].as_array().cloned().unwrap_or_default();
        list.iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    for (file, rule) in rules {
        let verbs = texts(&rule, "verbs");
        assert!(!verbs.contains(&"*".to_owned()), "{file}: {rule}");
        if verbs.iter().all(|verb| reads.contains(&verb.as_str())) {
            continue;
        }
        assert!(
            !texts(&rule, "apiGroups").contains(&"*".to_owned()),
            "{file}: {rule}"
        );
        for resource in texts(&rule, "resources") {
            assert!(!runs.contains(&resource.as_str()), "{file}: {rule}");
        }
    }
}

#[test]
fn istio_security_2020_004_each_first_start_makes_a_key_of_its_own() {
    let key = || {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca");
        citadel::ca::Authority::load_or_create(&ca, &runtime::TrustDomain::default()).unwrap();
        let held = std::fs::read(ca.join("root-key.pem")).unwrap();
        // Without it there is no other to sign with.
        std::fs::remove_file(ca.join("root-key.pem")).unwrap();
        let again = citadel::ca::Authority::load_or_create(&ca, &runtime::TrustDomain::default());
        assert!(again.is_err());
        held
    };
    assert_ne!(key(), key());
}
