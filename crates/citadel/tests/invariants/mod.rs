//! What holds for any bytes that a stranger can send: for property tests, and for fuzzing without end (fuzz/).
//!
//! Each function takes bytes as they are, and as changes of something valid, because bytes alone seldom get far.

#![allow(dead_code, unreachable_pub, reason = "each user takes a part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use citadel::auth::jwks::KeySet;
use citadel::auth::jwt;
use citadel::ca::{Authority, csr, revocation};
use citadel::identity_file::TokenIssuer;
use citadel::token::{Grant, IssuerKey, mint};
use rcgen::{CertificateParams, KeyPair};
use runtime::tls::{TrustBundle, read_peer};
use runtime::{SpiffeId, TrustDomain};

const NOW: i64 = 1_700_000_000;

struct Valid {
    caller: SpiffeId,
    request: Vec<u8>,
    authority: Authority,
    issuers: Vec<TokenIssuer>,
    token: String,
}

static VALID: LazyLock<Valid> = LazyLock::new(|| {
    let caller = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/orders").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(&dir.path().join("ca"), &TrustDomain::default()).unwrap();
    let key = IssuerKey::generate().unwrap();
    let issuer = TokenIssuer {
        issuer: "https://issuer".into(),
        audiences: BTreeSet::from(["argosy-ca".to_owned()]),
        keys: Arc::new(KeySet::parse(&key.jwks().unwrap()).unwrap()),
    };
    let grant = Grant {
        issuer: "https://issuer",
        audience: "argosy-ca",
        namespace: "shop",
        account: "orders",
        issued_at: NOW,
        lifetime: Duration::from_secs(600),
    };
    let token = mint(&key, &grant).unwrap().to_string();
    let request = CertificateParams::default()
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap();
    Valid {
        caller,
        request: request.der().to_vec(),
        authority,
        issuers: vec![issuer],
        token,
    }
});

/// `valid`, changed as `bytes` say: three for each change, which sets, cuts off or puts in.
fn changed(valid: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut changed = valid.to_vec();
    for change in bytes.chunks_exact(3).take(8) {
        let at =
            (usize::from(change[0]) * 8 + usize::from(change[2] >> 5)).min(changed.len().saturating_sub(1));
        match change[1] % 4 {
            0 => changed.truncate(at.max(1)),
            1 => changed.insert(at, change[2]),
            _ => changed[at] = change[2],
        }
    }
    changed
}

/// A request gives nothing but a key: whatever it says, the certificate is the caller's.
pub fn csr(bytes: &[u8]) {
    let wrap = |der: &[u8]| pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    let texts = [
        String::from_utf8_lossy(bytes).into_owned(),
        wrap(bytes),
        wrap(&changed(&VALID.request, bytes)),
    ];
    for text in texts {
        let Ok(key) = csr::public_key(&text, &VALID.caller) else {
            continue;
        };
        let now = time::OffsetDateTime::now_utc();
        let leaf = VALID
            .authority
            .issue(&key, &VALID.caller, Duration::from_secs(60), now)
            .unwrap();
        assert_eq!(read_peer(&leaf.der).unwrap().spiffe_id, VALID.caller);
    }
}

/// Roots survive being written; lists that no authority signed are none.
pub fn pem(bytes: &[u8]) {
    let valid = VALID.authority.certificate_pem();
    for text in [bytes.to_vec(), changed(valid.as_bytes(), bytes)] {
        if let Ok(bundle) = TrustBundle::from_pem(TrustDomain::default(), &text) {
            let again = TrustBundle::from_pem(TrustDomain::default(), bundle.to_pem().as_bytes()).unwrap();
            assert!(again == bundle);
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let bundle = VALID.authority.bundle().clone().with_revocations(&text, false);
        assert!(bundle.is_err() || bundle.unwrap().crl_pem() == text);
        assert!(revocation::read(text.as_bytes(), VALID.authority.bundle().roots(), NOW).is_err());
    }
}

/// No token is taken for another's: what is accepted is the one that was made.
pub fn jwt(bytes: &[u8]) {
    let changed = changed(VALID.token.as_bytes(), bytes);
    for text in [String::from_utf8_lossy(bytes), String::from_utf8_lossy(&changed)] {
        if let Ok(account) = jwt::verify(&VALID.issuers, &text, NOW) {
            assert_eq!(
                (account.namespace.as_str(), account.name.as_str()),
                ("shop", "orders")
            );
            assert_eq!(text, VALID.token);
        }
    }
}

/// An id is what it was parsed from, and its account is what makes it.
pub fn spiffe_id(bytes: &[u8]) {
    let changed = changed(VALID.caller.to_string().as_bytes(), bytes);
    for text in [String::from_utf8_lossy(bytes), String::from_utf8_lossy(&changed)] {
        let Ok(id) = SpiffeId::parse(&text) else { continue };
        assert_eq!(id.to_string(), text);
        if let Some((namespace, account)) = id.account() {
            assert_eq!(
                SpiffeId::workload(id.trust_domain(), namespace, account).unwrap(),
                id
            );
        }
    }
}
