//! Digests of certificates by which peers are known (Envoy, CertificateValidationContext: `verify_certificate_hash`,
//! `verify_certificate_spki`). Envoy refuses a listener with any other text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::path::At;

/// Bytes of SHA-256.
const SHA256: usize = 32;

/// SHA-256 of a certificate: 64 hexadecimal digits, or their pairs with colons between.
pub(super) fn certificate(text: &str, at: &At<'_>) {
    let pairs: Vec<&str> = text.split(':').collect();
    let hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let fine = match pairs.as_slice() {
        [whole] => whole.len() == 2 * SHA256 && hex(whole),
        pairs => pairs.len() == SHA256 && pairs.iter().all(|pair| pair.len() == 2 && hex(pair)),
    };
    if !fine {
        at.error_help(
            "is not a SHA-256 digest: 64 hexadecimal digits, or 32 pairs of them with colons between",
            "openssl x509 -in FILE -noout -fingerprint -sha256 prints it",
        );
    }
}

/// SHA-256 of a certificate's public key, in base64.
pub(super) fn public_key(text: &str, at: &At<'_>) {
    if STANDARD.decode(text).map_or(0, |bytes| bytes.len()) != SHA256 {
        at.error_help(
            "is not a SHA-256 digest in base64: 44 characters, the last of them =",
            "openssl x509 -in FILE -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | base64 \
             prints it",
        );
    }
}
