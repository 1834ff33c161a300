//! Key sets as they are served: public keys that sign, and nothing else.

use config::jwks::{self, Origin};
pub(super) use config::jwks::KeysError;

/// The keys of a fetched set by which tokens may be verified, as one text.
pub(super) fn usable(text: &[u8]) -> Result<String, KeysError> {
    jwks::usable(text, Origin::Fetched)
}
