//! Encoding of Envoy's messages: the same meaning always gives the same bytes. It knows no configuration.

mod canonical;
mod values;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

pub(crate) use canonical::{Canonical, Field, delimited};
pub(crate) use values::*;

/// Encodes a message; maps come out sorted.
pub(crate) fn encode<M: Message + Canonical>(message: &M) -> Bytes {
    Bytes::from(canonical::sorted(message.encode_to_vec(), M::SHAPE))
}

/// Wraps a message; maps come out sorted.
pub(crate) fn any<M: Message + Name + Canonical>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: canonical::sorted(message.encode_to_vec(), M::SHAPE),
    }
}

/// Wraps a message that holds no map at any depth (maps inside nested `Any`s were sorted when those were made).
pub(crate) fn plain_any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}
