//! Durations as Istio's API writes them: Go's notation (`1.5s`, `250ms`, `1h10m`). Knows no field's own bounds.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The `format` that marks a duration in the types' schemas.
pub(crate) const FORMAT: &str = "go-duration";

/// Longest duration in seconds, as in Go and CEL, which count nanoseconds in 64 bits.
const MAX_SECONDS: u64 = 9_223_372_035;

/// A length of time, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text does not follow the notation.
    #[error(
        "{0:?} is not a duration; write a number with a unit (h, m, s, ms, us, ns), such as 5s, 250ms or 1h30m"
    )]
    Syntax(String),
    /// A negative duration has no meaning anywhere in the API.
    #[error("{0:?} is negative; a duration must be zero or more")]
    Negative(String),
    /// Longer than Go's notation allows.
    #[error("{0:?} is longer than 292 years")]
    TooLong(String),
}

impl Duration {
    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// A duration of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// Whether no time passes in it.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

/// Nanoseconds in one of Go's units.
fn unit(name: &str) -> Option<u128> {
    Some(match name {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Splits `text` before its first character for which `stop` holds.
fn split(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

/// Nanoseconds of one number with its unit, fractions of a nanosecond dropped.
fn nanos(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.chars() {
        scale /= 10;
        total = total.checked_add(scale.checked_mul(u128::from(digit.to_digit(10)?))?)?;
    }
    Some(total)
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let syntax = || DurationError::Syntax(text.chars().take(64).collect());
        if text.len() > 64 {
            return Err(syntax());
        }
        let negative = text.starts_with('-');
        let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        if rest == "0" {
            return Ok(Self::default());
        }
        if rest.is_empty() {
            return Err(syntax());
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let (number, after) = split(rest, |c| !c.is_ascii_digit() && c != '.');
            let (name, after) = split(after, |c| c.is_ascii_digit() || c == '.');
            let part = unit(name)
                .and_then(|unit| nanos(number, unit))
                .ok_or_else(syntax)?;
            total = total.checked_add(part).ok_or_else(syntax)?;
            rest = after;
        }
        if negative && total > 0 {
            return Err(DurationError::Negative(text.to_owned()));
        }
        let seconds = u64::try_from(total / 1_000_000_000).unwrap_or(u64::MAX);
        if seconds > MAX_SECONDS {
            return Err(DurationError::TooLong(text.to_owned()));
        }
        let nanos = u32::try_from(total % 1_000_000_000).unwrap_or_default();
        Ok(Self(std::time::Duration::new(seconds, nanos)))
    }
}

impl fmt::Display for Duration {
    /// Protobuf's JSON form: seconds with as many decimals as needed, then `s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.subsec_nanos();
        if nanos == 0 {
            return write!(f, "{}s", self.0.as_secs());
        }
        let fraction = format!("{nanos:09}");
        write!(f, "{}.{}s", self.0.as_secs(), fraction.trim_end_matches('0'))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": FORMAT})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let seen = text.parse::<Duration>().ok().map(|d| d.to_string());
        assert_eq!(seen.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn go_notation() {
        check("5s", Some("5s"));
        check("1.5s", Some("1.5s"));
        check("250ms", Some("0.25s"));
        check("1h10m", Some("4200s"));
        check(".5s", Some("0.5s"));
        check("0", Some("0s"));
        check("+3us", Some("0.000003s"));
        check("-0s", Some("0s"));
        check("0.0000000001s", Some("0s"));
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "5",
            "s",
            "5x",
            "-1s",
            "1s2",
            "1..5s",
            ".s",
            "1 s",
            "99999999999999999999h",
            "é",
        ] {
            check(text, None);
        }
    }
}
