//! What issuing a certificate costs beside the cryptography that it cannot do without: `cargo bench -p citadel --bench
//! issue`.
//!
//! *Bare* is one P-256 verification and one signing over as many bytes, by the same library. *Issue* is all from the
//! request's PEM to the chain's: reading and checking the request, making the certificate, signing it, noting it in the
//! journal, and writing the answer. Both take turns on one thread, so that what else the machine does hits both.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a benchmark"
)]

use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use citadel::ca::{Authority, Issued, Journal, Serial, csr};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use runtime::{SpiffeId, TrustDomain};

const ROUNDS: usize = 40;
const EACH: usize = 500;
/// Bytes that a request's and a leaf's signature are over, about.
const SIGNED: (usize, usize) = (150, 420);

/// Time of `EACH` runs.
fn time(mut run: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..EACH {
        run();
    }
    start.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6 / EACH as f64
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_create(&dir.path().join("ca"), &TrustDomain::default()).unwrap();
    let journal = Journal::new(&dir.path().join("ca"));
    let id = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/orders").unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap();

    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref()).unwrap();
    let (asked, answer) = (vec![7; SIGNED.0], vec![9; SIGNED.1]);
    let signature = key.sign(&random, &asked).unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());

    let (mut bare, mut issue) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(time(|| {
            public.verify(&asked, signature.as_ref()).unwrap();
            std::hint::black_box(key.sign(&random, &answer).unwrap());
        }));
        issue.push(time(|| {
            let key = csr::public_key(&request, &id).unwrap();
            let now = time::OffsetDateTime::now_utc();
            let leaf = authority
                .issue(&key, &id, Duration::from_secs(86_400), now)
                .unwrap();
            let issued = Issued {
                serial: Serial::parse(&leaf.serial).unwrap(),
                not_after: leaf.not_after,
                identity: id.to_string(),
                at: 0,
                renewed: false,
            };
            journal.note(issued).unwrap();
            std::hint::black_box(authority.answer(&leaf.der));
        }));
    }
    let (bare, issue) = (median(bare), median(issue));
    println!("bare verification and signing: {bare:.1} us");
    println!(
        "issue, request in, chain out:  {issue:.1} us, {:.0} a second",
        1e6 / issue
    );
    println!("rate of issuing to bare:       {:.0} %", 100.0 * bare / issue);
}
