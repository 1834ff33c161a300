//! Published bulletins that concern the certificate authority (docs/security.md).
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use citadel::auth::jwks::KeySet;
use citadel::auth::jwt;
use citadel::identity_file::TokenIssuer;
use citadel::token::IssuerKey;
use runtime::SpiffeId;

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
