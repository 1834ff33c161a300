//! Writes responses from resources that are encoded already: only what is around them is encoded here, and what does not
//! depend on the stream is written once for all streams.
//!
//! The field numbers are those of `envoy.service.discovery.v3` (discovery.proto) and `google.protobuf.Any`.

use crate::stream::{Resources, Response, Variant, nonce_text, version_text};
use crate::table::Resource;
use crate::types::TypeUrl;
use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// Bytes of a gRPC message's prefix: a flag and the length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

/// A response as a `DiscoveryResponse` or `DeltaDiscoveryResponse` with gRPC's prefix before it, in pieces. What is the
/// stream's own stands in the first piece, so that all others can be shared between streams. `None` when it is
/// longer than gRPC can say (4 GiB).
pub(crate) fn frame(response: &Response, variant: Variant) -> Option<Vec<Bytes>> {
    let mut first = BytesMut::new();
    first.put_bytes(0, PREFIX);
    head(response, variant, &mut first);
    let mut pieces = vec![Bytes::new()];
    match &response.resources {
        Resources::Listed(list) => {
            first.reserve(size(list, variant, &response.type_url));
            resources(list, variant, &response.type_url, &mut first);
        }
        Resources::Shared(chunks) => {
            pieces.extend(
                chunks
                    .iter()
                    .map(|chunk| chunk.encoded(variant, &response.type_url)),
            );
        }
    }
    let shared: usize = pieces.iter().map(Bytes::len).sum();
    let length = u32::try_from(first.len() - PREFIX + shared).ok()?;
    first
        .iter_mut()
        .skip(1)
        .zip(length.to_be_bytes())
        .for_each(|(place, byte)| *place = byte);
    if let Some(place) = pieces.first_mut() {
        *place = first.freeze();
    }
    Some(pieces)
}

/// Everything but the resources.
fn head(response: &Response, variant: Variant, out: &mut impl BufMut) {
    if variant == Variant::Sotw || response.complete {
        text(1, &version_text(response.version), out);
    }
    text(4, response.type_url.as_str(), out);
    text(5, &nonce_text(response.nonce), out);
    for name in response.removed.iter().filter(|_| variant == Variant::Delta) {
        text(6, name, out);
    }
}

/// Resources as they stand in a response.
pub(crate) fn resources(list: &[Resource], variant: Variant, type_url: &TypeUrl, out: &mut impl BufMut) {
    for each in list {
        match variant {
            Variant::Sotw => any(2, type_url.as_str(), &each.bytes, out),
            Variant::Delta => resource(2, type_url.as_str(), each, out),
        }
    }
}

/// How many bytes [`resources`] writes, up to a few.
pub(crate) fn size(list: &[Resource], variant: Variant, type_url: &TypeUrl) -> usize {
    // Version, keys and lengths around one resource.
    const AROUND: usize = 48;
    let around = AROUND + type_url.as_str().len();
    list.iter()
        .map(|each| {
            let name = if variant == Variant::Delta {
                each.name.len()
            } else {
                0
            };
            each.bytes.len() + name + around
        })
        .sum()
}

/// `envoy.service.discovery.v3.Resource`.
fn resource(tag: u32, type_url: &str, resource: &Resource, out: &mut impl BufMut) {
    let version = version_text(resource.version);
    let any_len = any_len(type_url, &resource.bytes);
    let len = field_len(1, version.len()) + field_len(2, any_len) + field_len(3, resource.name.len());
    begin(tag, len, out);
    text(1, &version, out);
    any(2, type_url, &resource.bytes, out);
    text(3, &resource.name, out);
}

fn any(tag: u32, type_url: &str, value: &[u8], out: &mut impl BufMut) {
    begin(tag, any_len(type_url, value), out);
    text(1, type_url, out);
    begin(2, value.len(), out);
    out.put_slice(value);
}

fn any_len(type_url: &str, value: &[u8]) -> usize {
    field_len(1, type_url.len()) + field_len(2, value.len())
}

fn text(tag: u32, text: &str, out: &mut impl BufMut) {
    begin(tag, text.len(), out);
    out.put_slice(text.as_bytes());
}

fn begin(tag: u32, len: usize, out: &mut impl BufMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use crate::types::CLUSTER;
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use prost::Message;

    fn response(complete: bool) -> Response {
        let table = Table::builder()
            .add(CLUSTER, "a", vec![7; 300].into())
            .add(CLUSTER, "b", Vec::new().into())
            .build(None)
            .of_type(&CLUSTER);
        Response {
            type_url: CLUSTER,
            nonce: 27,
            version: 0x12,
            complete,
            resources: Resources::Listed(table.iter().cloned().collect()),
            removed: vec!["c".into(), "d".into()],
        }
    }

    /// The message without its prefix.
    fn bytes(response: &Response, variant: Variant) -> Vec<u8> {
        let framed = frame(response, variant).unwrap().concat();
        let length = u32::try_from(framed.len() - PREFIX).unwrap();
        assert_eq!(framed[0], 0, "not compressed");
        assert_eq!(framed[1..PREFIX], length.to_be_bytes());
        framed[PREFIX..].to_vec()
    }

    #[test]
    fn shared_and_own_bytes_read_the_same() {
        let own = response(true);
        let table = Table::builder()
            .add(CLUSTER, "a", vec![7; 300].into())
            .add(CLUSTER, "b", Vec::new().into())
            .build(None);
        let shared = Response {
            resources: Resources::Shared(table.of_type(&CLUSTER).chunks().to_vec()),
            ..response(true)
        };
        for variant in [Variant::Delta, Variant::Sotw] {
            assert_eq!(bytes(&own, variant), bytes(&shared, variant));
            let pieces = |response| frame(response, variant).unwrap();
            let (one, two) = (pieces(&shared), pieces(&shared));
            assert_eq!(one[1].as_ptr(), two[1].as_ptr(), "written once");
        }
    }

    #[test]
    fn delta_responses_read_as_prost_reads_them() {
        let response = response(true);
        let read = DeltaDiscoveryResponse::decode(&*bytes(&response, Variant::Delta)).unwrap();
        assert_eq!(read.system_version_info, "0000000000000012");
        assert_eq!(read.nonce, "1b");
        assert_eq!(read.type_url, CLUSTER.as_str());
        assert_eq!(read.removed_resources, ["c", "d"]);
        for (seen, sent) in read.resources.iter().zip(response.resources.iter()) {
            assert_eq!(seen.name, sent.name.as_ref());
            assert_eq!(seen.version, version_text(sent.version));
            let any = seen.resource.as_ref().unwrap();
            assert_eq!(
                (any.type_url.as_str(), any.value.as_slice()),
                (CLUSTER.as_str(), &*sent.bytes)
            );
        }
        assert_eq!(read.resources.len(), 2);
    }

    #[test]
    fn only_the_last_part_has_a_system_version() {
        let read = DeltaDiscoveryResponse::decode(&*bytes(&response(false), Variant::Delta)).unwrap();
        assert_eq!(read.system_version_info, "");
    }

    #[test]
    fn sotw_responses_read_as_prost_reads_them() {
        let read = DiscoveryResponse::decode(&*bytes(&response(true), Variant::Sotw)).unwrap();
        assert_eq!(read.version_info, "0000000000000012");
        assert_eq!(read.nonce, "1b");
        let values: Vec<_> = read.resources.iter().map(|any| any.value.len()).collect();
        assert_eq!(values, [300, 0]);
    }
}
