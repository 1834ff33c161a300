//! The bytes of a message, the entries of each map sorted, also inside `Any`: versions are hashes of bytes, and maps come in
//! any order.

use prost_reflect::{Kind, MessageDescriptor};

use super::{TYPE_PREFIX, descriptor};
use crate::wire::{Field, delimited};

/// `message`, an encoded `descriptor`, with sorted maps; unchanged where it is no protobuf message.
pub(crate) fn canonical(message: &[u8], descriptor: &MessageDescriptor) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len());
    match write(message, descriptor, &mut out) {
        Some(()) => out,
        None => message.to_vec(),
    }
}

fn write(message: &[u8], of: &MessageDescriptor, out: &mut Vec<u8>) -> Option<()> {
    if of.full_name() == "google.protobuf.Any" {
        return any(message, out);
    }
    let mut rest = message;
    // Encoders write a map's entries one after the other; they are held back until the field ends.
    let mut held: (u32, Vec<Vec<u8>>) = (0, Vec::new());
    while !rest.is_empty() {
        let field = Field::read(&mut rest)?;
        if held.0 != field.number {
            flush(&mut held, out);
        }
        let known = of.get_field(field.number);
        let child = known.as_ref().and_then(|known| match known.kind() {
            Kind::Message(child) => Some(child),
            _ => None,
        });
        match child {
            Some(entry) if entry.is_map_entry() => {
                let mut inner = Vec::new();
                write(field.content?, &entry, &mut inner)?;
                held.0 = field.number;
                held.1.push(inner);
            }
            Some(child) => {
                let mut inner = Vec::new();
                write(field.content?, &child, &mut inner)?;
                delimited(field.number, &inner, out);
            }
            None => out.extend_from_slice(field.raw),
        }
    }
    flush(&mut held, out);
    Some(())
}

/// An `Any`: what it holds is sorted too, if its type is known.
fn any(message: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = message;
    let mut inside = None;
    while !rest.is_empty() {
        let field = Field::read(&mut rest)?;
        match field.number {
            1 => {
                let url = std::str::from_utf8(field.content?).ok()?;
                inside = descriptor(url.trim_start_matches(TYPE_PREFIX)).ok();
                out.extend_from_slice(field.raw);
            }
            2 => match &inside {
                Some(of) => delimited(2, &canonical(field.content?, of), out),
                None => out.extend_from_slice(field.raw),
            },
            _ => out.extend_from_slice(field.raw),
        }
    }
    Some(())
}

fn flush(held: &mut (u32, Vec<Vec<u8>>), out: &mut Vec<u8>) {
    held.1.sort();
    for entry in held.1.drain(..) {
        delimited(held.0, &entry, out);
    }
    held.0 = 0;
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::super::from_json;
    use super::*;

    #[test]
    fn same_meaning_same_bytes() {
        let json = json!({"name": "x", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "source_codes": {"a": {"inline_string": "1"}, "b": {"inline_string": "2"}, "c": {}, "d": {}, "e": {}},
        }});
        let bytes = || {
            let (message, _) = from_json("envoy.config.core.v3.TypedExtensionConfig", &json).unwrap();
            canonical(
                &message.encode_to_vec(),
                &prost_reflect::ReflectMessage::descriptor(&message),
            )
        };
        let first = bytes();
        assert!((0..20).all(|_| bytes() == first));
    }
}
