//! Attributes as text that Envoy's formatter made, read by the types of Istio's vocabulary. Pure.

use std::net::{IpAddr, SocketAddr};

use expr::{STANDARD, Timestamp, Value, ValueType, Vocabulary};

use super::sent::Sent;

/// Most attributes of one record.
const MAX_PAIRS: usize = 1_000;

/// A value as it came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Given<'a> {
    Text(&'a str),
    Int(i64),
    Double(f64),
    Bool(bool),
}

/// Reads a record's attributes. `log` is the log's name, which says which end speaks where no attribute does.
///
/// # Errors
/// Names the attribute whose value is not of its type.
pub(crate) fn read<'a>(
    pairs: impl Iterator<Item = (&'a str, Given<'a>)>,
    log: Option<&str>,
) -> Result<Sent<'a>, String> {
    let mut sent = Sent::default();
    for (count, (name, given)) in pairs.enumerate() {
        if count >= MAX_PAIRS {
            return Err(format!("more than {MAX_PAIRS} attributes in one record"));
        }
        // What Envoy's formatter writes for what is absent.
        if matches!(given, Given::Text("-" | "")) {
            continue;
        }
        put(&mut sent, name, given)?;
    }
    if !sent.has("context.reporter.kind", None) {
        let kind = match log {
            Some(policy::LOG_OUTBOUND) => "outbound",
            _ => "inbound",
        };
        sent.set("context.reporter.kind", Value::from(kind));
    }
    Ok(sent)
}

fn put<'a>(sent: &mut Sent<'a>, name: &'a str, given: Given<'a>) -> Result<(), String> {
    if let Some((map, key)) = entry(name) {
        if let Given::Text(value) = given {
            sent.set_entry(map, key, value);
            return Ok(());
        }
        return Err(format!(
            "attribute {name} is an entry of a map, so it must be text"
        ));
    }
    // `source.ip` from an operator that gives the port too.
    if let (Some(end), Given::Text(text)) = (name.strip_suffix(".ip"), given)
        && let Ok(address) = text.parse::<SocketAddr>()
    {
        sent.set(name, Value::Ip(address.ip()));
        match end {
            "source" => sent.set("source.port", Value::Int(address.port().into())),
            "destination" => sent.set("destination.port", Value::Int(address.port().into())),
            _ => {}
        }
        return Ok(());
    }
    let value = match STANDARD.attribute(name) {
        Some(ty) => {
            typed(ty, given).ok_or_else(|| format!("attribute {name} must be {ty}, not {given:?}"))?
        }
        None => match given {
            Given::Text(text) => Value::from(text),
            Given::Int(number) => Value::Int(number),
            Given::Double(number) => Value::Double(number),
            Given::Bool(truth) => Value::Bool(truth),
        },
    };
    sent.set(name, value);
    Ok(())
}

/// The map and the key in `request.headers.x-user`.
fn entry(name: &str) -> Option<(&str, &str)> {
    let maps = [
        "request.headers",
        "response.headers",
        "request.query_params",
        "request.auth.claims",
    ];
    maps.into_iter().find_map(|map| {
        let key = name.strip_prefix(map)?.strip_prefix('.')?;
        Some((map, key)).filter(|_| !key.is_empty())
    })
}

fn typed(ty: ValueType, given: Given<'_>) -> Option<Value<'_>> {
    const MILLI: i64 = 1_000_000;
    Some(match (ty, given) {
        (
            ValueType::String | ValueType::Uri | ValueType::DnsName | ValueType::EmailAddress,
            Given::Text(text),
        ) => Value::from(text),
        (ValueType::String, Given::Int(number)) => Value::from(number.to_string()),
        (ValueType::Int64, Given::Int(number)) => Value::Int(number),
        (ValueType::Int64, Given::Text(text)) => Value::Int(text.parse().ok()?),
        (ValueType::Double, Given::Double(number)) => Value::Double(number),
        (ValueType::Double, Given::Text(text)) => Value::Double(text.parse().ok()?),
        (ValueType::Bool, Given::Bool(truth)) => Value::Bool(truth),
        (ValueType::Bool, Given::Text(text)) => Value::Bool(text.parse().ok()?),
        (ValueType::Timestamp, Given::Text(text)) => Value::Timestamp(Timestamp::parse(text)?),
        (ValueType::Duration, Given::Int(ms)) => Value::Duration(ms.checked_mul(MILLI)?),
        (ValueType::Duration, Given::Text(text)) => Value::Duration(match text.parse::<i64>() {
            Ok(ms) => ms.checked_mul(MILLI)?,
            Err(_) => expr::parse_duration(text)?,
        }),
        (ValueType::IpAddress, Given::Text(text)) => Value::Ip(text.parse::<IpAddr>().ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &'static str, given: Given<'static>) -> Result<String, String> {
        let sent = read([(name, given)].into_iter(), None)?;
        Ok(sent
            .value(name)
            .map(|value| value.to_string())
            .unwrap_or_default())
    }

    #[test]
    fn text_is_read_by_the_vocabularys_types() {
        let check =
            |name, given, expected: &str| assert_eq!(value(name, given).as_deref(), Ok(expected), "{name}");
        check("response.code", Given::Text("503"), "503");
        check("response.duration", Given::Text("12"), "12ms");
        check("response.duration", Given::Text("1.5s"), "1.5s");
        check(
            "request.time",
            Given::Text("2020-01-01T00:00:00.5Z"),
            "2020-01-01T00:00:00.5Z",
        );
        check("source.ip", Given::Text("10.0.0.1:4000"), "10.0.0.1");
        check("source.ip", Given::Text("::1"), "::1");
        check("connection.mtls", Given::Text("true"), "true");
        check("request.method", Given::Text("-"), "");
        check("shop.tier", Given::Int(3), "3");
        for (name, given) in [
            ("response.code", Given::Text("many")),
            ("request.time", Given::Text("yesterday")),
            ("source.ip", Given::Text("here")),
            ("request.headers.x", Given::Int(1)),
        ] {
            assert!(value(name, given).unwrap_err().contains(name));
        }
    }
}
