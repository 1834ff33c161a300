//! Input of a hostile caller, at random: nothing panics, and nothing that a signature covers can be changed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod invariants;

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use citadel::auth::jwks::KeySet;
use citadel::auth::jwt;
use citadel::ca::csr;
use citadel::identity_file::TokenIssuer;
use citadel::token::{Grant, IssuerKey, mint};
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use runtime::SpiffeId;

const NOW: i64 = 1_700_000_000;

static CALLER: LazyLock<SpiffeId> =
    LazyLock::new(|| SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/orders").unwrap());
static KEY: LazyLock<IssuerKey> = LazyLock::new(|| IssuerKey::generate().unwrap());

static CSR: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(CALLER.to_string().try_into().unwrap())];
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .der()
        .to_vec()
});

static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let (issuer, audience, namespace, account) = ("https://issuer", "argosy-ca", "shop", "orders");
    let lifetime = Duration::from_secs(600);
    let grant = Grant {
        issuer,
        audience,
        namespace,
        account,
        issued_at: NOW,
        lifetime,
    };
    mint(&KEY, &grant).unwrap().to_string()
});

static ISSUERS: LazyLock<Vec<TokenIssuer>> = LazyLock::new(|| {
    let keys = Arc::new(KeySet::parse(&KEY.jwks().unwrap()).unwrap());
    let audiences = BTreeSet::from(["argosy-ca".to_owned()]);
    vec![TokenIssuer {
        issuer: "https://issuer".into(),
        audiences,
        keys,
    }]
});

fn pem_of(der: &[u8]) -> String {
    pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der))
}

#[test]
fn the_unchanged_ones_are_taken() {
    assert!(csr::public_key(&pem_of(&CSR), &CALLER).is_ok());
    assert_eq!(jwt::verify(&ISSUERS, &TOKEN, NOW).unwrap().name, "orders");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_request_never_gives_another_key(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut der = CSR.clone();
        let at = at.index(der.len());
        if let Some(byte) = der.get_mut(at) {
            *byte ^= flip;
        }
        // Outside what is signed, the parser forgives some wrong tags.
        if let Ok(key) = csr::public_key(&pem_of(&der), &CALLER) {
            let unchanged = csr::public_key(&pem_of(&CSR), &CALLER).unwrap();
            prop_assert_eq!(key.der_bytes(), unchanged.der_bytes());
        }
    }

    #[test]
    fn any_bytes_are_no_request(der in prop::collection::vec(any::<u8>(), 0..600), text in ".{0,200}") {
        prop_assert!(csr::public_key(&pem_of(&der), &CALLER).is_err());
        prop_assert!(csr::public_key(&text, &CALLER).is_err());
    }

    #[test]
    fn a_changed_token_is_refused(at in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]") {
        let at = at.index(TOKEN.len());
        let token: String = TOKEN.char_indices().map(|(i, c)| if i == at { with.clone() } else { c.to_string() }).collect();
        // The last character carries unused bits, which strict base64 must not ignore.
        prop_assert_eq!(jwt::verify(&ISSUERS, &token, NOW).is_ok(), token == *TOKEN);
    }

    #[test]
    fn any_text_is_no_token(token in "\\PC{0,100}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,40}", 0..5)) {
        prop_assert!(jwt::verify(&ISSUERS, &token, NOW).is_err());
        prop_assert!(jwt::verify(&ISSUERS, &parts.join("."), NOW).is_err());
    }

    #[test]
    fn any_text_is_no_key_set(text in "\\PC{0,200}") {
        prop_assert!(KeySet::parse(&text).is_err());
    }

    #[test]
    fn spiffe_ids_are_what_they_were_parsed_from(uri in "spiffe://[a-z.]{0,8}(/[a-zA-Z0-9._%-]{0,4}){0,4}") {
        if let Ok(id) = SpiffeId::parse(&uri) {
            prop_assert_eq!(id.to_string(), uri);
            if let Some((namespace, account)) = id.account() {
                let again = SpiffeId::workload(id.trust_domain(), namespace, account).unwrap();
                prop_assert_eq!(&again, &id);
            }
        }
    }

    #[test]
    fn what_holds_for_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        invariants::csr(&bytes);
        invariants::pem(&bytes);
        invariants::jwt(&bytes);
        invariants::spiffe_id(&bytes);
    }
}
