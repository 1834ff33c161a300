//! The functions of the language: their names, how they are called, and their types.

use crate::value::ValueType;

/// The functions of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Builtin {
    /// `conditional(BOOL, T, T)`; `conditionalString` is the same for text.
    Conditional,
    /// `dnsName(STRING)`.
    DnsName,
    /// `email(STRING)`.
    Email,
    /// `emptyStringMap()`.
    EmptyStringMap,
    /// `STRING.endsWith(STRING)`.
    EndsWith,
    /// `ip(STRING)`.
    Ip,
    /// `match(STRING, STRING)`: the second may begin or end with `*`.
    Match,
    /// `STRING.matches(STRING)`: the first is the pattern.
    Matches,
    /// `reverse(STRING)` or `STRING.reverse()`.
    Reverse,
    /// `size(STRING)`, in bytes.
    Size,
    /// `STRING.startsWith(STRING)`.
    StartsWith,
    /// `timestamp(STRING)`, RFC 3339.
    Timestamp,
    /// `toLower(STRING)`.
    ToLower,
    /// `uri(STRING)`.
    Uri,
}

pub(crate) const FUNCTION_NAMES: &str = "conditional, dnsName, email, emptyStringMap, endsWith, ip, match, matches, \
     reverse, size, startsWith, timestamp, toLower, uri";

/// How a function may be called.
#[derive(PartialEq)]
pub(crate) enum Form {
    Function,
    Method,
    Either,
}

impl Builtin {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "conditional" | "conditionalString" => Self::Conditional,
            "dnsName" => Self::DnsName,
            "email" => Self::Email,
            "emptyStringMap" => Self::EmptyStringMap,
            "endsWith" => Self::EndsWith,
            "ip" => Self::Ip,
            "match" => Self::Match,
            "matches" => Self::Matches,
            "reverse" => Self::Reverse,
            "size" => Self::Size,
            "startsWith" => Self::StartsWith,
            "timestamp" => Self::Timestamp,
            "toLower" => Self::ToLower,
            "uri" => Self::Uri,
            _ => return None,
        })
    }

    pub(crate) fn form(self) -> Form {
        match self {
            Self::EndsWith | Self::Matches | Self::StartsWith => Form::Method,
            Self::Reverse => Form::Either,
            _ => Form::Function,
        }
    }

    /// How many arguments, a method's target among them.
    pub(crate) fn arity(self) -> usize {
        match self {
            Self::EmptyStringMap => 0,
            Self::Conditional => 3,
            Self::EndsWith | Self::Match | Self::Matches | Self::StartsWith => 2,
            _ => 1,
        }
    }

    pub(crate) fn result(self) -> ValueType {
        match self {
            Self::DnsName => ValueType::DnsName,
            Self::Email => ValueType::EmailAddress,
            Self::EmptyStringMap => ValueType::StringMap,
            Self::EndsWith | Self::Match | Self::Matches | Self::StartsWith => ValueType::Bool,
            Self::Ip => ValueType::IpAddress,
            Self::Size => ValueType::Int64,
            Self::Timestamp => ValueType::Timestamp,
            Self::Uri => ValueType::Uri,
            Self::Conditional | Self::Reverse | Self::ToLower => ValueType::String,
        }
    }
}
