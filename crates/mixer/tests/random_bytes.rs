//! Random bytes as what callers of Istio's Mixer API send.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod invariants;

use proptest::prelude::*;
use prost::Message;
use proto::mixer::CompressedAttributes;

proptest! {
    #[test]
    fn bytes_are_decided_on_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        invariants::attributes(&bytes);
    }

    /// A set that makes sense, with some of its bytes changed.
    #[test]
    fn a_changed_set_is_decided_on_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let set = CompressedAttributes {
            words: vec!["inbound".to_owned(), "GET".to_owned(), "x-user".to_owned(), "jason".to_owned()],
            strings: [(17, -1), (19, -2), (18, -4)].into(),
            int64s: [(23, 8080)].into(),
            bytes: [(0, vec![127, 1, 0, 10]), (150, vec![127, 1, 0, 21])].into(),
            string_maps: [(15, proto::mixer::StringMap { entries: [(-3, -4)].into() })].into(),
            ..Default::default()
        };
        let mut bytes = set.encode_to_vec();
        assert!(invariants::attributes(&bytes), "it makes sense before");
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        invariants::attributes(&bytes);
    }
}
