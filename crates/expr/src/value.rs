//! The values that expressions work on, and their types.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The types of attributes and expressions (`istio.policy.v1beta1.ValueType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ValueType {
    /// Text.
    String,
    /// A signed integer of 64 bits.
    Int64,
    /// A floating point number of 64 bits.
    Double,
    /// Truth.
    Bool,
    /// A point in time.
    Timestamp,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// An e-mail address.
    EmailAddress,
    /// A URI.
    Uri,
    /// A DNS name.
    DnsName,
    /// A length of time.
    Duration,
    /// A map from text to text.
    StringMap,
}

impl ValueType {
    /// All types, in Istio's order.
    pub const ALL: [Self; 11] = [
        Self::String,
        Self::Int64,
        Self::Double,
        Self::Bool,
        Self::Timestamp,
        Self::IpAddress,
        Self::EmailAddress,
        Self::Uri,
        Self::DnsName,
        Self::Duration,
        Self::StringMap,
    ];

    /// Istio's spelling: `STRING`, `IP_ADDRESS`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Int64 => "INT64",
            Self::Double => "DOUBLE",
            Self::Bool => "BOOL",
            Self::Timestamp => "TIMESTAMP",
            Self::IpAddress => "IP_ADDRESS",
            Self::EmailAddress => "EMAIL_ADDRESS",
            Self::Uri => "URI",
            Self::DnsName => "DNS_NAME",
            Self::Duration => "DURATION",
            Self::StringMap => "STRING_MAP",
        }
    }

    /// Whether values of this type are held as text.
    pub(crate) const fn is_text(self) -> bool {
        matches!(
            self,
            Self::String | Self::EmailAddress | Self::Uri | Self::DnsName
        )
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ValueType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|t| t.name() == name).ok_or_else(|| {
            format!(
                "unknown value type {name:?}; one of {}",
                Self::ALL.map(Self::name).join(", ")
            )
        })
    }
}

/// A point in time: nanoseconds since the Unix epoch (about 1677 to 2262).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads RFC 3339, as `timestamp("…")` does; `None` for other text and for times out of range.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos()).ok().map(Self)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0)).ok();
        match at.and_then(|at| at.format(&Rfc3339).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{}ns", self.0),
        }
    }
}

/// A map from text to text that a bag lends to expressions without copying it.
pub trait StringLookup: fmt::Debug + Sync {
    /// The value under `key`.
    fn lookup(&self, key: &str) -> Option<&str>;
    /// All entries, in the order of their keys.
    fn entries(&self) -> Vec<(&str, &str)>;
}

impl StringLookup for BTreeMap<String, String> {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }

    fn entries(&self) -> Vec<(&str, &str)> {
        self.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }
}

impl StringLookup for HashMap<String, String> {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }

    fn entries(&self) -> Vec<(&str, &str)> {
        let mut all: Vec<_> = self.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        all.sort_unstable();
        all
    }
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

/// A value, borrowed from the bag or the expression where it can be.
///
/// E-mail addresses, URIs and DNS names are [`Value::Text`]: the expression's type tells them apart.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// STRING, EMAIL_ADDRESS, URI, DNS_NAME.
    Text(Cow<'a, str>),
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
    Map(&'a dyn StringLookup),
}

impl<'a> Value<'a> {
    /// The map without entries.
    pub fn empty_map() -> Self {
        Value::Map(&EMPTY)
    }

    /// Whether the value is one of type `ty`.
    pub fn is(&self, ty: ValueType) -> bool {
        match self {
            Value::Text(_) => ty.is_text(),
            Value::Int(_) => ty == ValueType::Int64,
            Value::Double(_) => ty == ValueType::Double,
            Value::Bool(_) => ty == ValueType::Bool,
            Value::Timestamp(_) => ty == ValueType::Timestamp,
            Value::Duration(_) => ty == ValueType::Duration,
            Value::Ip(_) => ty == ValueType::IpAddress,
            Value::Map(_) => ty == ValueType::StringMap,
        }
    }

    /// The text of a text value.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number for a metric: integers and doubles as they are, durations in seconds, as Mixer's adapters take them.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "metrics are doubles")]
            Value::Int(n) => Some(*n as f64),
            Value::Double(n) => Some(*n),
            #[expect(clippy::cast_precision_loss, reason = "metrics are doubles")]
            Value::Duration(ns) => Some(*ns as f64 / 1e9),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    /// The form in which adapters see a value as text: labels of metrics, dimensions of quotas, entries of lists.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Int(n) => write!(f, "{n}"),
            Value::Double(n) => write!(f, "{n}"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Timestamp(at) => write!(f, "{at}"),
            Value::Duration(ns) => f.write_str(&crate::functions::format_duration(*ns)),
            Value::Ip(ip) => write!(f, "{}", ip.to_canonical()),
            Value::Map(map) => {
                f.write_str("map[")?;
                for (i, (key, value)) in map.entries().into_iter().enumerate() {
                    write!(f, "{}{key}:{value}", if i == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Maps are equal when their entries are, addresses when they are the same host (an IPv4 address and its
/// IPv6-mapped form).
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Int(a), Value::Int(b)) | (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Double(a), Value::Double(b)) => a == b,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Ip(a), Value::Ip(b)) => a.to_canonical() == b.to_canonical(),
            (Value::Map(a), Value::Map(b)) => a.entries() == b.entries(),
            _ => false,
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Value::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value<'_> {
    fn from(text: String) -> Self {
        Value::Text(Cow::Owned(text))
    }
}

impl From<bool> for Value<'_> {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl From<i64> for Value<'_> {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<IpAddr> for Value<'_> {
    fn from(address: IpAddr) -> Self {
        Value::Ip(address)
    }
}
