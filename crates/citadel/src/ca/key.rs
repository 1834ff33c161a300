//! A key that signs certificates. It never leaves this process but to its file, and is wiped when dropped.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::{Zeroize, Zeroizing};

/// A signing key.
pub(super) struct Key(KeyPair);

impl Key {
    /// A new P-256 key.
    pub(super) fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self)
    }

    /// The key in this PEM (PKCS #8, SEC1 or PKCS #1, not encrypted); the error says what is wrong.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let mut der = PrivateKeyDer::from_pem_slice(pem).map_err(|e| e.to_string())?;
        let key = KeyPair::try_from(&der).map_err(|e| e.to_string());
        der.zeroize();
        key.map(Self)
    }

    /// PKCS #8, PEM.
    pub(super) fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(&self.0)
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_both_encodings() {
        let key = Key::generate().unwrap();
        assert_eq!(
            Key::from_pem(key.to_pem().as_bytes()).unwrap().der_bytes(),
            key.der_bytes()
        );
        // openssl ecparam -name prime256v1 -genkey -noout
        let sec1 = "-----BEGIN EC PRIVATE KEY-----\n\
            MHcCAQEEIPcKSZxfP9hB/2hKv/1xLlfwvY4SuhfhOX89iP/4SlUJoAoGCCqGSM49\n\
            AwEHoUQDQgAEe0JnYM5HSuuGXs5N14uwlm9DtgGee4Y8vHsj9vA/aaG9UuFWt6a/\n\
            wWtMQF3YA254U1AbSIV0KR7y+Mu1Xi4V0g==\n\
            -----END EC PRIVATE KEY-----\n";
        assert!(Key::from_pem(sec1.as_bytes()).is_ok());
        assert!(Key::from_pem(b"").is_err());
    }
}
