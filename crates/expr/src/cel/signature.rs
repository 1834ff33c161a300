//! The types of CEL's operators and functions, as the checker knows them: CEL's own, and Mixer's by their names in CEXL.

use std::fmt;

use crate::value::ValueType;

/// The type of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ty {
    /// One of Mixer's.
    Value(ValueType),
    Uint,
    Bytes,
    Null,
    /// A type as a value: `int`.
    Type,
    List(Box<Ty>),
    Map(Box<Ty>, Box<Ty>),
    /// Not known before the evaluation.
    Dyn,
}

pub(super) const TEXT: Ty = Ty::Value(ValueType::String);
pub(super) const INT: Ty = Ty::Value(ValueType::Int64);
pub(super) const DOUBLE: Ty = Ty::Value(ValueType::Double);
pub(super) const BOOL: Ty = Ty::Value(ValueType::Bool);
pub(super) const TIME: Ty = Ty::Value(ValueType::Timestamp);
pub(super) const DURATION: Ty = Ty::Value(ValueType::Duration);
const STRING_MAP: Ty = Ty::Value(ValueType::StringMap);

impl Ty {
    pub(super) fn list(of: Ty) -> Self {
        Self::List(Box::new(of))
    }

    /// The type of what has this type or the other; `None` when they have nothing in common.
    pub(super) fn join(&self, other: &Ty) -> Option<Ty> {
        match (self, other) {
            (Ty::Dyn, other) => Some(other.clone()),
            (one, Ty::Dyn) => Some(one.clone()),
            (Ty::List(a), Ty::List(b)) => a.join(b).map(Ty::list),
            (Ty::Map(ka, va), Ty::Map(kb, vb)) => {
                Some(Ty::Map(Box::new(ka.join(kb)?), Box::new(va.join(vb)?)))
            }
            (a, b) => (a == b).then(|| a.clone()),
        }
    }

    /// Whether a value of this type may stand where `wanted` is asked for.
    fn fits(&self, wanted: &Ty) -> bool {
        self.join(wanted).is_some()
    }

    /// The keys and values of what has entries.
    pub(super) fn entries(&self) -> Option<(Ty, Ty)> {
        match self {
            Ty::Map(key, value) => Some(((**key).clone(), (**value).clone())),
            Ty::Value(ValueType::StringMap) => Some((TEXT, TEXT)),
            Ty::List(element) => Some((INT, (**element).clone())),
            Ty::Dyn => Some((Ty::Dyn, Ty::Dyn)),
            _ => None,
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ty::Value(ty) => write!(f, "{ty}"),
            Ty::Uint => f.write_str("uint"),
            Ty::Bytes => f.write_str("bytes"),
            Ty::Null => f.write_str("null"),
            Ty::Type => f.write_str("type"),
            Ty::List(of) => write!(f, "list({of})"),
            Ty::Map(key, value) => write!(f, "map({key}, {value})"),
            Ty::Dyn => f.write_str("dyn"),
        }
    }
}

/// The type of an operator's value; `None` when it is not defined for these operands.
pub(super) fn operator(name: &str, operands: &[Ty]) -> Option<Ty> {
    match (name, operands) {
        ("!_" | "@not_strictly_false", [a]) => a.fits(&BOOL).then_some(BOOL),
        ("_&&_" | "_||_", [a, b]) => (a.fits(&BOOL) && b.fits(&BOOL)).then_some(BOOL),
        ("-_", [a]) => [INT, DOUBLE].into_iter().find(|ty| a.fits(ty)),
        ("_==_" | "_!=_", [a, b]) => {
            let maps = *a == STRING_MAP || *b == STRING_MAP;
            (!maps && a.fits(b)).then_some(BOOL)
        }
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => {
            let ordered = [BOOL, INT, Ty::Uint, DOUBLE, TEXT, Ty::Bytes, TIME, DURATION];
            ordered.iter().any(|ty| a.fits(ty) && b.fits(ty)).then_some(BOOL)
        }
        ("_+_", [a, b]) => sum(a, b),
        ("_-_", [a, b]) => difference(a, b),
        ("_*_" | "_/_", [a, b]) => same(a, b, &[INT, Ty::Uint, DOUBLE]),
        ("_%_", [a, b]) => same(a, b, &[INT, Ty::Uint]),
        ("@in", [a, b]) => match b {
            Ty::List(element) => a.fits(element).then_some(BOOL),
            _ => b.entries().filter(|(key, _)| a.fits(key)).map(|_| BOOL),
        },
        ("_[_]", [a, b]) => a.entries().filter(|(key, _)| b.fits(key)).map(|(_, value)| value),
        ("_?_:_", [condition, yes, no]) => condition.fits(&BOOL).then(|| yes.join(no)).flatten(),
        _ => None,
    }
}

fn same(a: &Ty, b: &Ty, of: &[Ty]) -> Option<Ty> {
    of.iter().find(|ty| a.fits(ty) && b.fits(ty)).cloned()
}

fn sum(a: &Ty, b: &Ty) -> Option<Ty> {
    match (a, b) {
        (Ty::List(_), _) | (_, Ty::List(_)) => a.join(b),
        (Ty::Value(ValueType::Timestamp), _) => b.fits(&DURATION).then_some(TIME),
        (_, Ty::Value(ValueType::Timestamp)) => a.fits(&DURATION).then_some(TIME),
        (Ty::Dyn, Ty::Dyn) => Some(Ty::Dyn),
        _ => same(a, b, &[INT, Ty::Uint, DOUBLE, TEXT, Ty::Bytes, DURATION]),
    }
}

fn difference(a: &Ty, b: &Ty) -> Option<Ty> {
    match (a, b) {
        (Ty::Value(ValueType::Timestamp), Ty::Value(ValueType::Timestamp)) => Some(DURATION),
        (Ty::Value(ValueType::Timestamp), _) => b.fits(&DURATION).then_some(TIME),
        (Ty::Dyn, Ty::Dyn) => Some(Ty::Dyn),
        _ => same(a, b, &[INT, Ty::Uint, DOUBLE, DURATION]),
    }
}

/// The type of a function's value: of `target.name(arguments)` when there is a target.
pub(super) fn function(name: &str, target: Option<&Ty>, arguments: &[Ty]) -> Option<Ty> {
    match target {
        Some(target) => method(name, target, arguments),
        None => global(name, arguments),
    }
}

fn method(name: &str, target: &Ty, arguments: &[Ty]) -> Option<Ty> {
    let text = target.fits(&TEXT);
    let ints = arguments.iter().all(|ty| ty.fits(&INT));
    let texts = arguments.iter().all(|ty| ty.fits(&TEXT));
    match (name, arguments.len()) {
        ("contains" | "startsWith" | "endsWith" | "matches", 1) if text && texts => Some(BOOL),
        ("lowerAscii" | "upperAscii" | "trim" | "reverse", 0) if text => Some(TEXT),
        ("charAt", 1) | ("substring", 1 | 2) if text && ints => Some(TEXT),
        ("indexOf" | "lastIndexOf", 1) if text && texts => Some(INT),
        ("split", 1) if text && texts => Some(Ty::list(TEXT)),
        ("size", 0) => sized(target),
        ("getHours" | "getMinutes" | "getSeconds" | "getMilliseconds", 0) => {
            (target.fits(&TIME) || target.fits(&DURATION)).then_some(INT)
        }
        _ if name.starts_with("get") && texts && arguments.len() <= 1 && target.fits(&TIME) => calendar(name),
        _ => None,
    }
}

fn calendar(name: &str) -> Option<Ty> {
    let known = [
        "getFullYear",
        "getMonth",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    ];
    known.contains(&name).then_some(INT)
}

fn sized(ty: &Ty) -> Option<Ty> {
    (ty.entries().is_some() || ty.fits(&TEXT) || *ty == Ty::Bytes).then_some(INT)
}

fn global(name: &str, arguments: &[Ty]) -> Option<Ty> {
    use ValueType::{DnsName, EmailAddress, IpAddress, Uri};
    let from = |of: &[Ty], to: Ty| match arguments {
        [one] => of.iter().any(|ty| one.fits(ty)).then_some(to),
        _ => None,
    };
    match name {
        "match" => match arguments {
            [a, b] => (a.fits(&TEXT) && b.fits(&TEXT)).then_some(BOOL),
            _ => None,
        },
        "reverse" | "toLower" => from(&[TEXT], TEXT),
        "email" => from(&[TEXT], Ty::Value(EmailAddress)),
        "dnsName" => from(&[TEXT], Ty::Value(DnsName)),
        "uri" => from(&[TEXT], Ty::Value(Uri)),
        "ip" => from(&[TEXT], Ty::Value(IpAddress)),
        "size" => arguments.first().filter(|_| arguments.len() == 1).and_then(sized),
        "string" => from(
            &[TEXT, INT, Ty::Uint, DOUBLE, BOOL, Ty::Bytes, TIME, DURATION],
            TEXT,
        ),
        "int" => from(&[INT, Ty::Uint, DOUBLE, TEXT, TIME, DURATION], INT),
        "uint" => from(&[INT, Ty::Uint, DOUBLE, TEXT], Ty::Uint),
        "double" => from(&[INT, Ty::Uint, DOUBLE, TEXT], DOUBLE),
        "bool" => from(&[BOOL, TEXT], BOOL),
        "bytes" => from(&[TEXT, Ty::Bytes], Ty::Bytes),
        "timestamp" => from(&[TEXT, TIME, INT], TIME),
        "duration" => from(&[TEXT, DURATION], DURATION),
        "dyn" => from(&[Ty::Dyn], Ty::Dyn),
        "type" => arguments
            .first()
            .filter(|_| arguments.len() == 1)
            .map(|_| Ty::Type),
        _ => None,
    }
}

/// The names that stand for types.
pub(super) const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];
