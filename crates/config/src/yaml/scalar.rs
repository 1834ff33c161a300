//! What a scalar means: YAML 1.1's types, as kubectl and Istio read them (sigs.k8s.io/yaml).

use granit_parser::{ScalarStyle, Tag};
use serde_json::Number;

use super::Data;

/// The value of a scalar, or why it has none.
pub(super) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Data, String> {
    let string = || Ok(Data::String(text.into()));
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain {
            plain(text)
        } else {
            string()
        };
    };
    let wrong = || format!("{text:?} is not of the type that its tag {} says", tag.original());
    match tag.core_suffix() {
        Some("str" | "binary" | "timestamp") => string(),
        Some("null") => Ok(Data::Null),
        Some("bool") => boolean(text).map(Data::Bool).ok_or_else(wrong),
        Some("int") => integer(text).map(Data::Number).ok_or_else(wrong),
        Some("float") => float(text)
            .or_else(|| integer(text))
            .map(Data::Number)
            .ok_or_else(wrong),
        _ if tag.original() == "!" => string(),
        _ => Err(format!("the tag {} is not known; remove it", tag.original())),
    }
}

/// The value of a scalar without quotes.
fn plain(text: &str) -> Result<Data, String> {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Ok(Data::Null);
    }
    if let Some(value) = boolean(text) {
        return Ok(Data::Bool(value));
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    if numeric {
        if let Some(number) = integer(text).or_else(|| float(text)) {
            return Ok(Data::Number(number));
        }
        let bare = text.trim_start_matches(['-', '+']).to_ascii_lowercase();
        if matches!(bare.as_str(), ".inf" | ".nan") {
            return Err(format!(
                "{text} is not a number that the API can hold; put it in quotes if it is text"
            ));
        }
    }
    Ok(Data::String(text.into()))
}

fn boolean(text: &str) -> Option<bool> {
    Some(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => true,
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => false,
        _ => return None,
    })
}

/// An integer in decimal, hexadecimal (`0x`), octal (`0`, `0o`) or binary (`0b`), underscores ignored.
fn integer(text: &str) -> Option<Number> {
    let text = text.replace('_', "");
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..)?),
        Some("0o") => (8, lower.get(2..)?),
        Some("0b") => (2, lower.get(2..)?),
        Some(two) if two.starts_with('0') => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(digits, radix).ok()?;
    match negative {
        false => Some(Number::from(value)),
        true => Some(Number::from(0_i64.checked_sub_unsigned(value)?)),
    }
}

/// A decimal floating point number.
fn float(text: &str) -> Option<Number> {
    let text = text.replace('_', "");
    let known = text
        .chars()
        .all(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E'));
    let value: f64 = text.parse().ok().filter(|_| known)?;
    Number::from_f64(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let seen = match plain(text) {
            Ok(Data::Null) => "null".to_owned(),
            Ok(Data::Bool(value)) => value.to_string(),
            Ok(Data::Number(number)) => number.to_string(),
            Ok(Data::String(text)) => format!("{text:?}"),
            other => format!("{other:?}"),
        };
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn types_of_plain_scalars() {
        check("~", "null");
        check("yes", "true");
        check("off", "false");
        check("12", "12");
        check("-12", "-12");
        check("1_000", "1000");
        check("0x1F", "31");
        check("0755", "493");
        check("0", "0");
        check("1.5", "1.5");
        check("1e3", "1000.0");
        check("127.0.0.1", "\"127.0.0.1\"");
        check("18446744073709551615", "18446744073709551615");
        check("2020-01-01", "\"2020-01-01\"");
        check("5s", "\"5s\"");
        check("-", "\"-\"");
        check("infinity", "\"infinity\"");
        check("089", "89.0");
        assert!(plain("-.inf").is_err() && plain(".NaN").is_err());
    }
}
