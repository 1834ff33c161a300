//! Spans as `tracespan` instances describe them, in the terms of B3 and W3C: identifiers in hexadecimal. Pure.

use policy::Fields;

/// A span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    /// 16 or 32 digits.
    pub(super) trace_id: String,
    /// 16 digits.
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) name: String,
    /// Nanoseconds since the Unix epoch.
    pub(super) start: i64,
    pub(super) end: i64,
    /// The caller's side; else the called one's.
    pub(super) client: bool,
    /// HTTP status; 0 when not told.
    pub(super) status: i64,
}

impl Span {
    /// The span of an instance; `None` when its trace has no usable identifier: then nobody traces the request.
    pub(super) fn new(fields: &Fields) -> Option<Self> {
        let trace_id = hex(fields.text("traceId"), &[16, 32])?;
        let id = match fields.text("spanId") {
            // A span needs one, also where the request brought none.
            "" => format!("{:016x}", rand::random::<u64>() | 1),
            id => hex(id, &[16])?,
        };
        let parent = hex(fields.text("parentSpanId"), &[16]);
        let client = fields.bool("clientSpan");
        // Zipkin's two sides of a call share an identifier. Rewritten, the caller's has one of its own, which both sides
        // can tell from the shared one, and the called side's is its child.
        let (id, parent) = match (fields.bool("rewriteClientSpanId"), client) {
            (false, _) => (id, parent),
            (true, true) => (rewritten(&id)?, parent),
            (true, false) => {
                let parent = rewritten(&id)?;
                (id, Some(parent))
            }
        };
        let start = fields.time("startTime")?;
        Some(Self {
            trace_id,
            id,
            parent,
            name: fields.text("spanName").to_owned(),
            start,
            end: fields.time("endTime")?.max(start),
            client,
            status: fields.int("httpStatusCode"),
        })
    }
}

/// Lower case hexadecimal of one of these lengths, not zero.
fn hex(text: &str, lengths: &[usize]) -> Option<String> {
    let is_hex = lengths.contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit());
    (is_hex && text.chars().any(|c| c != '0')).then(|| text.to_ascii_lowercase())
}

fn rewritten(id: &str) -> Option<String> {
    let number = u64::from_str_radix(id, 16).ok()?;
    // Its complement: another number, and never zero but for one in 2^64.
    Some(format!("{:016x}", (!number).max(1)))
}

/// Whether a trace is among the part that is sent: by its identifier, so that all spans of a trace are, or none.
pub(super) fn sampled(fields: &Fields, part: f64) -> bool {
    let id = fields.text("traceId");
    let low = id.get(id.len().saturating_sub(13)..).unwrap_or_default();
    let Ok(number) = u64::from_str_radix(low, 16) else {
        return false;
    };
    // 13 digits are 52 bits, which a double holds exactly.
    #[expect(clippy::cast_precision_loss, reason = "52 bits fit")]
    let place = number as f64 / (1_u64 << 52) as f64;
    place < part
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::adapters::tests::instance;

    const TRACE: &str = "463ac35c9f6413ad48485a3953bb6124";

    #[expect(clippy::needless_pass_by_value, reason = "calls read better")]
    fn span(more: Value) -> Option<Span> {
        let mut values = json!({"traceId": TRACE, "spanId": "a2fb4a1d1a96d312", "spanName": "/a",
            "startTime": "2020-01-01T00:00:00Z", "endTime": "2020-01-01T00:00:01Z"});
        let more = more.as_object().unwrap().clone();
        values.as_object_mut().unwrap().extend(more);
        Span::new(&instance("tracespan", &values).fields)
    }

    #[test]
    fn identifiers() {
        assert_eq!(span(json!({"traceId": "nonsense"})), None);
        assert_eq!(span(json!({"traceId": "0000000000000000"})), None);
        let plain = span(json!({"traceId": "48485A3953BB6124"})).unwrap();
        assert_eq!(
            (plain.trace_id.as_str(), plain.parent),
            ("48485a3953bb6124", None)
        );
        assert_eq!(span(json!({"spanId": ""})).unwrap().id.len(), 16);
    }

    #[test]
    fn rewritten_spans_make_a_call_of_two_spans() {
        let rewrite =
            |client: bool| span(json!({"rewriteClientSpanId": true, "clientSpan": client})).unwrap();
        let (client, server) = (rewrite(true), rewrite(false));
        assert_eq!(server.parent, Some(client.id.clone()));
        assert_eq!(server.id, "a2fb4a1d1a96d312");
        assert_ne!(client.id, server.id);
    }

    #[test]
    fn a_trace_is_sent_whole_or_not() {
        let fields = instance("tracespan", &json!({"traceId": TRACE})).fields;
        assert!(sampled(&fields, 1.0) && !sampled(&fields, 0.0));
        // 0x85a3953bb6124 of 2^52 is about 0.522.
        assert!(sampled(&fields, 0.53) && !sampled(&fields, 0.52));
    }
}
