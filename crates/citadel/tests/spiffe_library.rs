//! What an outside SPIFFE library makes of our certificates, bundles and ids: the `spiffe` crate, which reads them by the
//! same specifications and shares no code of ours.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use proptest::prelude::{ProptestConfig, proptest};
use proptest::{prop_assert_eq, prop_oneof};
use runtime::Svid;
use support::Mesh;

fn accepted(svid: &Svid) {
    let chain: Vec<u8> = svid.chain_der().iter().flat_map(|der| der.to_vec()).collect();
    let theirs = spiffe::X509Svid::parse_from_der(&chain, svid.key_der()).unwrap();
    assert_eq!(theirs.spiffe_id().to_string(), svid.id().to_string());
    assert_eq!(theirs.cert_chain().len(), svid.chain_der().len());
    let domain = spiffe::TrustDomain::new(svid.id().trust_domain().as_str()).unwrap();
    let roots: Vec<u8> = svid
        .bundle()
        .roots()
        .iter()
        .flat_map(|der| der.to_vec())
        .collect();
    let bundle = spiffe::X509Bundle::parse_from_der(domain, &roots).unwrap();
    assert_eq!(bundle.authorities().len(), svid.bundle().roots().len());
    let mut set = spiffe::X509BundleSet::new();
    set.add_bundle(bundle);
    assert!(set.get(theirs.spiffe_id().trust_domain()).is_some());
    // Its notion of a leaf is ours: a root is none.
    let root = svid.bundle().roots()[0].to_vec();
    assert!(spiffe::X509Svid::parse_from_der(&root, svid.key_der()).is_err());
}

#[tokio::test]
async fn it_accepts_our_certificates_and_bundles_before_and_during_a_rotation() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel().await;
    accepted(&mesh.identity(citadel.address, "shop", "orders").await.current());
    assert_eq!(support::admin(&citadel.context, "PUT", "/ca/rotate").await.0, 200);
    let svid = mesh.identity(citadel.address, "shop", "orders").await.current();
    assert_eq!(svid.bundle().roots().len(), 2);
    accepted(&svid);
}

fn same(text: &str) -> (bool, bool) {
    let ours = runtime::SpiffeId::parse(text).map(|id| id.to_string()).ok();
    let theirs = spiffe::SpiffeId::new(text).map(|id| id.to_string()).ok();
    (ours.as_deref() == Some(text), theirs.as_deref() == Some(text))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn it_takes_the_same_texts_for_ids(
        text in prop_oneof![
            "spiffe://[a-zA-Z0-9._:@-]{0,8}(/[a-zA-Z0-9._%-]{0,4}){0,3}",
            "spiffe://[a-z0-9._-]{1,8}(/[a-zA-Z0-9._-]{1,4}){1,3}",
            "spiffe://[a-z]{1,3}(/\\.{0,3}[a-z]{0,1}){1,3}",
            "spiffe://td/[ -~]{0,6}",
            "(spiffe:/|SPIFFE://|spiffe//|https://)td/a",
        ]
    ) {
        let (ours, theirs) = same(&text);
        prop_assert_eq!(ours, theirs, "{}", text);
    }
}
