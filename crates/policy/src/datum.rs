//! Values of attributes as adapters are given them: owned, each with its type.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use expr::{Timestamp, Value, ValueType};

/// A value with its type (`istio.policy.v1beta1.Value`).
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    /// STRING.
    Text(String),
    /// EMAIL_ADDRESS.
    Email(String),
    /// URI.
    Uri(String),
    /// DNS_NAME.
    DnsName(String),
    /// INT64.
    Int(i64),
    /// DOUBLE.
    Double(f64),
    /// BOOL.
    Bool(bool),
    /// TIMESTAMP.
    Timestamp(Timestamp),
    /// DURATION, in nanoseconds.
    Duration(i64),
    /// IP_ADDRESS.
    Ip(IpAddr),
    /// STRING_MAP.
    Map(BTreeMap<String, String>),
}

impl Datum {
    /// An expression's value; `ty`, the expression's type, tells texts of several types apart.
    pub fn new(value: Value<'_>, ty: ValueType) -> Self {
        match value {
            Value::Text(text) => match ty {
                ValueType::EmailAddress => Self::Email(text.into_owned()),
                ValueType::Uri => Self::Uri(text.into_owned()),
                ValueType::DnsName => Self::DnsName(text.into_owned()),
                _ => Self::Text(text.into_owned()),
            },
            Value::Int(number) => Self::Int(number),
            Value::Double(number) => Self::Double(number),
            Value::Bool(truth) => Self::Bool(truth),
            Value::Timestamp(at) => Self::Timestamp(at),
            Value::Duration(nanos) => Self::Duration(nanos),
            Value::Ip(ip) => Self::Ip(ip),
            Value::Map(map) => {
                let entries = map.entries().into_iter();
                Self::Map(entries.map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
            }
        }
    }

    /// Bytes that it takes in memory, about.
    pub fn size(&self) -> usize {
        let text = match self {
            Self::Map(map) => map.iter().map(|(key, value)| key.len() + value.len() + 64).sum(),
            other => other.as_text().map_or(0, str::len),
        };
        text + size_of::<Self>()
    }

    /// A text value's text, of whichever type.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Email(text) | Self::Uri(text) | Self::DnsName(text) => Some(text),
            _ => None,
        }
    }

    /// A metric's number: integers and doubles as they are, durations in seconds, texts that are numbers (Istio's samples
    /// write `"1"` for a counter).
    pub fn number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "metrics are doubles")]
            Self::Int(number) => Some(*number as f64),
            Self::Double(number) => Some(*number),
            #[expect(clippy::cast_precision_loss, reason = "metrics are doubles")]
            Self::Duration(nanos) => Some(*nanos as f64 / 1e9),
            other => other.as_text()?.trim().parse().ok(),
        }
    }

    /// As JSON: numbers and truths as such, maps as objects, everything else as the text that it is shown as.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Int(number) => (*number).into(),
            Self::Double(number) => (*number).into(),
            Self::Bool(truth) => (*truth).into(),
            Self::Map(map) => map.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
            other => other.to_string().into(),
        }
    }
}

impl fmt::Display for Datum {
    /// As [`Value`] is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = match self {
            Self::Text(text) | Self::Email(text) | Self::Uri(text) | Self::DnsName(text) => {
                return f.write_str(text);
            }
            Self::Int(number) => Value::Int(*number),
            Self::Double(number) => Value::Double(*number),
            Self::Bool(truth) => Value::Bool(*truth),
            Self::Timestamp(at) => Value::Timestamp(*at),
            Self::Duration(nanos) => Value::Duration(*nanos),
            Self::Ip(ip) => Value::Ip(*ip),
            Self::Map(map) => Value::Map(map),
        };
        value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_type_and_numbers_their_value() {
        assert_eq!(
            Datum::new(Value::from("a@b.c"), ValueType::EmailAddress),
            Datum::Email("a@b.c".into())
        );
        assert_eq!(Datum::Text(" 1 ".into()).number(), Some(1.0));
        assert_eq!(Datum::Duration(2_500_000_000).number(), Some(2.5));
        assert_eq!(Datum::Bool(true).number(), None);
        assert_eq!(Datum::Duration(1_500_000).to_string(), "1.5ms");
        assert_eq!(
            Datum::Ip([10, 0, 0, 1].into()).json(),
            serde_json::json!("10.0.0.1")
        );
    }
}
