//! Messages of the forward protocol, in MessagePack: `[tag, [[time, record], …], {chunk, size}]`, and the answer
//! `{ack: chunk}`. Pure.

use std::collections::BTreeMap;
use std::io;

use policy::{Datum, InstanceValue};
use rmp::{decode, encode};

/// The extension type of times with nanoseconds.
const EVENT_TIME: i8 = 0;
/// Longest chunk identifier that is read.
const MAX_CHUNK: u32 = 256;

/// Entries by their tag: the variable `tag`, else the instance's name (Istio's adapter).
pub(super) fn by_tag(batch: &[InstanceValue]) -> BTreeMap<String, Vec<&InstanceValue>> {
    let mut by_tag: BTreeMap<String, Vec<&InstanceValue>> = BTreeMap::new();
    for entry in batch {
        let tag = entry.fields.many("variables").get("tag").map(Datum::to_string);
        let tag = tag.unwrap_or_else(|| entry.name.to_string());
        by_tag.entry(tag).or_default().push(entry);
    }
    by_tag
}

/// The message that carries entries of one tag.
pub(super) fn encode(
    tag: &str,
    entries: &[&InstanceValue],
    chunk: &str,
    integer_duration: bool,
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    encode::write_array_len(&mut out, 3)?;
    encode::write_str(&mut out, tag)?;
    encode::write_array_len(&mut out, length(entries.len())?)?;
    for entry in entries {
        encode::write_array_len(&mut out, 2)?;
        time(&mut out, entry.fields.time("timestamp").unwrap_or_default())?;
        record(&mut out, entry, integer_duration)?;
    }
    encode::write_map_len(&mut out, 2)?;
    encode::write_str(&mut out, "chunk")?;
    encode::write_str(&mut out, chunk)?;
    encode::write_str(&mut out, "size")?;
    encode::write_uint(&mut out, entries.len() as u64)?;
    Ok(out)
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Seconds and nanoseconds of 32 bits each.
fn time(out: &mut Vec<u8>, nanos: i64) -> io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let seconds = u32::try_from(nanos.div_euclid(SECOND)).unwrap_or_default();
    let rest = u32::try_from(nanos.rem_euclid(SECOND)).unwrap_or_default();
    encode::write_ext_meta(out, 8, EVENT_TIME)?;
    out.extend_from_slice(&seconds.to_be_bytes());
    out.extend_from_slice(&rest.to_be_bytes());
    Ok(())
}

/// The variables, and the severity.
fn record(out: &mut Vec<u8>, entry: &InstanceValue, integer_duration: bool) -> io::Result<()> {
    let variables = entry.fields.many("variables");
    let variables = variables
        .iter()
        .filter(|(name, _)| *name != "tag" && *name != "severity");
    let variables: Vec<(&String, &Datum)> = variables.collect();
    encode::write_map_len(out, length(variables.len() + 1)?)?;
    encode::write_str(out, "severity")?;
    encode::write_str(out, entry.fields.text("severity"))?;
    for (name, datum) in variables {
        encode::write_str(out, name)?;
        value(out, datum, integer_duration)?;
    }
    Ok(())
}

fn value(out: &mut Vec<u8>, datum: &Datum, integer_duration: bool) -> io::Result<()> {
    match datum {
        Datum::Int(number) => encode::write_sint(out, *number).map(drop)?,
        Datum::Double(number) => encode::write_f64(out, *number)?,
        Datum::Bool(truth) => encode::write_bool(out, *truth)?,
        Datum::Duration(nanos) if integer_duration => {
            encode::write_sint(out, nanos / 1_000_000).map(drop)?;
        }
        Datum::Map(map) => {
            encode::write_map_len(out, length(map.len())?)?;
            for (name, text) in map {
                encode::write_str(out, name)?;
                encode::write_str(out, text)?;
            }
        }
        other => encode::write_str(out, &other.to_string())?,
    }
    Ok(())
}

/// The chunk that an answer acknowledges; `None` while it is not whole, or when it is something else.
pub(super) fn acknowledged(mut answer: &[u8]) -> Option<String> {
    let entries = decode::read_map_len(&mut answer).ok()?;
    (entries == 1).then_some(())?;
    let name = text(&mut answer)?;
    (name == "ack").then(|| text(&mut answer))?
}

fn text(answer: &mut &[u8]) -> Option<String> {
    let length = decode::read_str_len(answer)
        .ok()
        .filter(|length| *length <= MAX_CHUNK)?;
    let (text, rest) = answer.split_at_checked(usize::try_from(length).ok()?)?;
    *answer = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapters::tests::instance;

    #[test]
    fn a_message_on_the_wire() {
        let entry = instance(
            "logentry",
            &json!({"severity": "info", "timestamp": "1970-01-01T00:00:01.5Z",
            "variables": {"code": 200, "tag": "t"}}),
        );
        let batch = [entry];
        let by_tag = by_tag(&batch);
        let (tag, entries) = by_tag.first_key_value().unwrap();
        let mut expected = vec![
            0x93, 0xa1, b't', 0x91, 0x92, 0xd7, 0, 0, 0, 0, 1, 0x1d, 0xcd, 0x65, 0, 0x82,
        ];
        expected.extend(b"\xa8severity\xa4info\xa4code");
        expected.extend([0xcc, 200, 0x82]);
        expected.extend(b"\xa5chunk\xa1c\xa4size\x01");
        assert_eq!(encode(tag, entries, "c", false).unwrap(), expected);
    }

    #[test]
    fn acknowledgements() {
        assert_eq!(acknowledged(b"\x81\xa3ack\xa1c").as_deref(), Some("c"));
        for none in [
            &b""[..],
            b"\x81\xa3ack\xa2c",
            b"\x81\xa3nak\xa1c",
            b"\xc0",
            b"\x82\xa3ack\xa1c",
        ] {
            assert_eq!(acknowledged(none), None);
        }
    }
}
