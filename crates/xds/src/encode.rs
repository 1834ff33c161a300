//! Writes responses from resources that are encoded already: only what is around them is encoded here.
//!
//! The field numbers are those of `envoy.service.discovery.v3` (discovery.proto) and `google.protobuf.Any`.

use crate::stream::{Response, Variant, nonce_text, version_text};
use crate::table::Resource;
use bytes::BufMut;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// Encodes a response as a `DiscoveryResponse` or `DeltaDiscoveryResponse`.
pub(crate) fn encode(response: &Response, variant: Variant, out: &mut impl BufMut) {
    match variant {
        Variant::Sotw => sotw(response, out),
        Variant::Delta => delta(response, out),
    }
}

/// How many bytes [`encode`] writes, up to a few.
pub(crate) fn size_hint(response: &Response) -> usize {
    // Version, keys and lengths around one resource.
    const AROUND: usize = 48;
    let type_url = response.type_url.as_str().len();
    let resources = response.resources.iter();
    let resources: usize = resources
        .map(|each| each.bytes.len() + each.name.len() + type_url + AROUND)
        .sum();
    let removed: usize = response.removed.iter().map(|name| name.len() + AROUND).sum();
    resources + removed + type_url + AROUND
}

fn sotw(response: &Response, out: &mut impl BufMut) {
    text(1, &version_text(response.version), out);
    for resource in &response.resources {
        any(2, response.type_url.as_str(), &resource.bytes, out);
    }
    text(4, response.type_url.as_str(), out);
    text(5, &nonce_text(response.nonce), out);
}

fn delta(response: &Response, out: &mut impl BufMut) {
    if response.complete {
        text(1, &version_text(response.version), out);
    }
    for each in &response.resources {
        resource(2, response.type_url.as_str(), each, out);
    }
    text(4, response.type_url.as_str(), out);
    text(5, &nonce_text(response.nonce), out);
    for name in &response.removed {
        text(6, name, out);
    }
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
            resources: table.iter().cloned().collect(),
            removed: vec!["c".into(), "d".into()],
        }
    }

    fn bytes(response: &Response, variant: Variant) -> Vec<u8> {
        let mut out = Vec::new();
        encode(response, variant, &mut out);
        assert!(
            out.len() <= size_hint(response),
            "{} {}",
            out.len(),
            size_hint(response)
        );
        out
    }

    #[test]
    fn delta_responses_read_as_prost_reads_them() {
        let response = response(true);
        let read = DeltaDiscoveryResponse::decode(&*bytes(&response, Variant::Delta)).unwrap();
        assert_eq!(read.system_version_info, "0000000000000012");
        assert_eq!(read.nonce, "1b");
        assert_eq!(read.type_url, CLUSTER.as_str());
        assert_eq!(read.removed_resources, ["c", "d"]);
        for (seen, sent) in read.resources.iter().zip(&response.resources) {
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
