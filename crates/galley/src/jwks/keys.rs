//! Key sets as they are served: public keys that sign, and nothing else.

pub(super) use config::jwks::KeysError;
use config::jwks::{self, Origin};

/// The keys of a fetched set by which tokens may be verified, as one text.
pub(super) fn usable(text: &[u8]) -> Result<String, KeysError> {
    jwks::usable(text, Origin::Fetched)
}
