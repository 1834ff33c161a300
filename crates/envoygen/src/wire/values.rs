//! Short constructors for the small messages that Envoy's configuration is full of.

use std::net::IpAddr;
use std::time::Duration;

use config::networking::StringMatch;
use envoy_types::pb::envoy::config::core::v3::{self as core, address, socket_address};
use envoy_types::pb::envoy::r#type::matcher::v3::{
    RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use envoy_types::pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use envoy_types::pb::google::protobuf::{
    BoolValue, Duration as ProtoDuration, Struct, UInt32Value, UInt64Value, Value, value::Kind,
};

pub(crate) fn bool_value(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(crate) fn u32_value(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) fn u64_value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

pub(crate) fn duration(value: Duration) -> Option<ProtoDuration> {
    let seconds = i64::try_from(value.as_secs()).unwrap_or(i64::MAX);
    Some(ProtoDuration {
        seconds,
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or_default(),
    })
}

pub(crate) fn seconds(value: u64) -> Option<ProtoDuration> {
    duration(Duration::from_secs(value))
}

/// An address of TCP.
pub(crate) fn tcp_address(address: &str, port: u16) -> core::Address {
    core::Address {
        address: Some(address::Address::SocketAddress(socket_address(address, port))),
    }
}

pub(crate) fn socket_address(address: &str, port: u16) -> core::SocketAddress {
    core::SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(port))),
        ..Default::default()
    }
}

/// A Unix socket.
pub(crate) fn pipe_address(path: &str) -> core::Address {
    core::Address {
        address: Some(address::Address::Pipe(core::Pipe {
            path: path.to_owned(),
            mode: 0,
        })),
    }
}

/// A range of addresses: `10.0.0.0/8`, or one address.
pub(crate) fn cidr(text: &str) -> Option<core::CidrRange> {
    let net: ipnet::IpNet = text
        .parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from))?;
    Some(core::CidrRange {
        address_prefix: net.addr().to_string(),
        prefix_len: u32_value(u32::from(net.prefix_len())),
    })
}

pub(crate) fn exact(value: &str) -> StringMatcher {
    pattern(MatchPattern::Exact(value.to_owned()))
}

pub(crate) fn prefix(value: &str) -> StringMatcher {
    pattern(MatchPattern::Prefix(value.to_owned()))
}

pub(crate) fn suffix(value: &str) -> StringMatcher {
    pattern(MatchPattern::Suffix(value.to_owned()))
}

/// An RE2 expression over the whole value.
pub(crate) fn regex(value: &str) -> RegexMatcher {
    RegexMatcher {
        regex: value.to_owned(),
        ..Default::default()
    }
}

pub(crate) fn regex_match(value: &str) -> StringMatcher {
    pattern(MatchPattern::SafeRegex(regex(value)))
}

fn pattern(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..Default::default()
    }
}

/// A StringMatch as Envoy's; `None` if any value will do.
pub(crate) fn string_match(value: &StringMatch) -> Option<StringMatcher> {
    match value {
        StringMatch::Any => None,
        StringMatch::Exact(value) => Some(exact(value)),
        // Envoy refuses an empty prefix; every value has it.
        StringMatch::Prefix(value) if value.is_empty() => None,
        StringMatch::Prefix(value) => Some(prefix(value)),
        // `*` is no regular expression; Istio takes it as "present".
        StringMatch::Regex(value) if value == "*" => None,
        StringMatch::Regex(value) => Some(regex_match(value)),
    }
}

/// A percentage, 0 to 100, with four decimals.
pub(crate) fn percent(value: f64) -> FractionalPercent {
    let millionths = (value.clamp(0.0, 100.0) * 10_000.0).round();
    FractionalPercent {
        numerator: millionths as u32,
        denominator: DenominatorType::Million as i32,
    }
}

/// A percentage that no runtime key overrides.
pub(crate) fn fixed_percent(value: f64) -> core::RuntimeFractionalPercent {
    core::RuntimeFractionalPercent {
        default_value: Some(percent(value)),
        ..Default::default()
    }
}

/// A struct of strings.
pub(crate) fn string_struct<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Struct {
    let value = |text| Value {
        kind: Some(Kind::StringValue(text)),
    };
    Struct {
        fields: fields
            .into_iter()
            .map(|(key, text)| (key.to_owned(), value(text)))
            .collect(),
    }
}
