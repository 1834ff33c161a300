//! The protobuf descriptors in Mixer's `template` and `adapter` objects: a `FileDescriptorSet` in base64 (Istio 1.4,
//! istio.mixer.v1.config). What a template or an adapter must have in it, Mixer knows.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::DescriptorPool;

/// Longest descriptor, in characters of base64.
pub const MAX_LENGTH: usize = 4 << 20;

/// Padded or not, as protobuf's JSON has it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is no descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// Longer than [`MAX_LENGTH`].
    #[error(
        "is {0} characters long, more than {MAX_LENGTH}; leave out what the template or adapter does not use"
    )]
    TooLong(usize),
    /// Not base64.
    #[error("is not base64: {0}")]
    Base64(base64::DecodeError),
    /// Not a set of files of protobuf, or one that lacks a file that another imports.
    #[error(
        "is not a FileDescriptorSet that is whole: {0}; make it with protoc --include_imports --descriptor_set_out"
    )]
    Descriptor(String),
}

/// Reads a descriptor. Both alphabets of base64 are taken, and blanks between its characters.
///
/// # Errors
/// The text is too long, not base64, or no set of descriptors that holds all that it refers to.
pub fn read(text: &str) -> Result<DescriptorPool, DescriptorError> {
    if text.len() > MAX_LENGTH {
        return Err(DescriptorError::TooLong(text.len()));
    }
    let plain = |c: char| match c {
        '-' => '+',
        '_' => '/',
        other => other,
    };
    let text: String = text.chars().filter(|c| !c.is_whitespace()).map(plain).collect();
    let bytes = BASE64.decode(text).map_err(DescriptorError::Base64)?;
    DescriptorPool::decode(bytes.as_slice()).map_err(|error| DescriptorError::Descriptor(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_set_of_files_is_a_descriptor() {
        let check = |text: &str, expected: Option<&str>| {
            let seen = read(text).map(|_| ()).map_err(|error| error.to_string());
            match (seen, expected) {
                (Ok(()), None) => {}
                (Err(seen), Some(expected)) => assert!(seen.starts_with(expected), "{text}: {seen}"),
                (seen, expected) => panic!("{text}: {seen:?}, not {expected:?}"),
            }
        };
        // A set of no files; one of the file "a" in proto3; the same where it imports "b"; its bytes cut off.
        check("", None);
        check("CgsKAWFiBnByb3RvMw==", None);
        check("CgsKAWFi BnByb3RvMw", None);
        check("Cg4KAWEaAWJiBnByb3RvMw==", Some("is not a FileDescriptorSet"));
        check("CgsKAWFi", Some("is not a FileDescriptorSet"));
        check("{}", Some("is not base64"));
        check(&"A".repeat(MAX_LENGTH + 1), Some("is 4194305 characters"));
    }
}
