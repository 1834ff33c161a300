//! Evaluation: a checked tree and a bag to a value.
//!
//! Absence is a value only on the left of `|`: an attribute, a map's entry, or the left of an inner `|` that is
//! absent there gives way to the right side. Everywhere else, inside a function's arguments too, it is an error, as
//! in Istio.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::attributes::{Attributes, Reference, References};
use crate::builtin::Builtin;
use crate::check::{Expression, Node};
use crate::error::EvalError;
use crate::functions::{compile_pattern, wildcard_match};
use crate::names::{check_dns_name, parse_email, parse_uri, same_dns_name, same_email, same_uri};
use crate::value::{Timestamp, Value, ValueType};

type Evaluated<'a> = Result<Value<'a>, EvalError>;

impl Expression {
    /// The expression's value for `bag`.
    ///
    /// # Errors
    /// Something was absent without a fallback, or text could not be converted.
    pub fn eval<'a>(&'a self, bag: &'a dyn Attributes) -> Evaluated<'a> {
        Evaluator {
            bag,
            references: None,
        }
        .required(self.root())
    }

    /// As [`Expression::eval`], adding to `references` what was looked at.
    ///
    /// # Errors
    /// As [`Expression::eval`].
    pub fn eval_tracked<'a>(&'a self, bag: &'a dyn Attributes, references: &mut References) -> Evaluated<'a> {
        Evaluator {
            bag,
            references: Some(references),
        }
        .required(self.root())
    }
}

struct Evaluator<'a, 'r> {
    bag: &'a dyn Attributes,
    references: Option<&'r mut References>,
}

impl<'a> Evaluator<'a, '_> {
    fn track(&mut self, name: &str, key: Option<&str>, present: bool) {
        if let Some(references) = &mut self.references {
            references.insert(Reference {
                name: name.to_owned(),
                key: key.map(str::to_owned),
                present,
            });
        }
    }

    /// The value of a node that must have one.
    fn required(&mut self, node: &'a Node) -> Evaluated<'a> {
        match self.optional(node)? {
            Some(value) => Ok(value),
            None => Err(absence(node)),
        }
    }

    /// The value of a node, or `None` when it is absent in a way that `|` mends.
    fn optional(&mut self, node: &'a Node) -> Result<Option<Value<'a>>, EvalError> {
        match node {
            Node::Constant(value, _) => Ok(Some(value.clone())),
            Node::Attribute(name, ty) => self.attribute(name, *ty),
            Node::Index(map, key) => self.entry(map, key),
            Node::Fallback(left, right) => match self.optional(left)? {
                Some(value) => Ok(Some(value)),
                None => self.optional(right),
            },
            Node::And(left, right) => self.and(left, right).map(|truth| Some(Value::Bool(truth))),
            Node::Or(left, right) => {
                let truth = self.truth(left)? || self.truth(right)?;
                Ok(Some(Value::Bool(truth)))
            }
            Node::Compare(op, left, right) => {
                let ty = left.ty();
                let (left, right) = (self.required(left)?, self.required(right)?);
                compare(op, ty, &left, &right).map(|truth| Some(Value::Bool(truth)))
            }
            Node::Add(left, right) => Ok(Some(add(&self.required(left)?, &self.required(right)?))),
            Node::Matches(regex, subject) => {
                let subject = self.text(subject)?;
                Ok(Some(Value::Bool(regex.is_match(&subject))))
            }
            Node::Call(builtin, arguments) => self.call(*builtin, arguments).map(Some),
            Node::Cel(program) => program.eval(self.bag, self.references.as_deref_mut()).map(Some),
        }
    }

    fn attribute(&mut self, name: &'a str, ty: ValueType) -> Result<Option<Value<'a>>, EvalError> {
        let value = self.bag.get(name);
        self.track(name, None, value.is_some());
        match value {
            None if !self.bag.is_known(name) => Err(EvalError::Unknown {
                name: name.to_owned(),
            }),
            Some(value) if !value.is(ty) => Err(EvalError::WrongType {
                name: name.to_owned(),
                expected: ty,
            }),
            value => Ok(value),
        }
    }

    fn entry(&mut self, map: &'a Node, key: &'a Node) -> Result<Option<Value<'a>>, EvalError> {
        let Some(Value::Map(entries)) = self.optional(map)? else {
            return Ok(None);
        };
        let Some(Value::Text(key)) = self.optional(key)? else {
            return Ok(None);
        };
        let value = entries.lookup(&key);
        if self.references.is_some()
            && let Some(name) = self.map_name(map)
        {
            self.track(name, Some(&key), value.is_some());
        }
        Ok(value.map(Value::from))
    }

    /// The attribute that a map's node resolved to.
    fn map_name(&self, node: &'a Node) -> Option<&'a str> {
        match node {
            Node::Attribute(name, _) => self.bag.get(name).map(|_| name.as_str()),
            Node::Fallback(left, right) => self.map_name(left).or_else(|| self.map_name(right)),
            _ => None,
        }
    }

    /// Whether both hold. What is not known on the left does not matter when the right cannot hold.
    fn and(&mut self, left: &'a Node, right: &'a Node) -> Result<bool, EvalError> {
        match self.truth(left) {
            Ok(true) => self.truth(right),
            Err(unknown @ EvalError::Unknown { .. }) => match self.truth(right) {
                Ok(false) => Ok(false),
                Err(error) if error.is_absence() => Ok(false),
                _ => Err(unknown),
            },
            other => other,
        }
    }

    fn truth(&mut self, node: &'a Node) -> Result<bool, EvalError> {
        Ok(matches!(self.required(node)?, Value::Bool(true)))
    }

    fn text(&mut self, node: &'a Node) -> Result<Cow<'a, str>, EvalError> {
        Ok(match self.required(node)? {
            Value::Text(text) => text,
            // The checker lets only text through.
            _ => Cow::Borrowed(""),
        })
    }

    fn call(&mut self, builtin: Builtin, arguments: &'a [Node]) -> Evaluated<'a> {
        match (builtin, arguments) {
            (Builtin::Conditional, [condition, yes, no]) => {
                let chosen = if self.truth(condition)? { yes } else { no };
                self.required(chosen)
            }
            (_, [subject, other]) => {
                let (subject, other) = (self.text(subject)?, self.text(other)?);
                binary_call(builtin, &subject, &other)
            }
            (_, [argument]) => {
                let argument = self.text(argument)?;
                unary_call(builtin, argument)
            }
            _ => Ok(Value::empty_map()),
        }
    }
}

/// The error for a node without value: names what is missing last in a chain of fallbacks.
fn absence(node: &Node) -> EvalError {
    match node {
        Node::Attribute(name, _) => EvalError::Absent { name: name.clone() },
        Node::Index(map, key) => {
            let map = match &**map {
                Node::Attribute(name, _) => name.clone(),
                _ => "the map".to_owned(),
            };
            let key = match &**key {
                Node::Constant(Value::Text(key), _) => key.to_string(),
                _ => "…".to_owned(),
            };
            EvalError::AbsentEntry { map, key }
        }
        Node::Fallback(_, right) => absence(right),
        _ => EvalError::Absent {
            name: "an operand".to_owned(),
        },
    }
}

fn compare(op: &str, ty: ValueType, left: &Value<'_>, right: &Value<'_>) -> Result<bool, EvalError> {
    use std::cmp::Ordering;
    let ordering = match (left, right) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) if op != "==" && op != "!=" => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => equal_text(ty, a, b)?.then_some(Ordering::Equal),
        (a, b) => (a == b).then_some(Ordering::Equal),
    };
    Ok(match op {
        "==" => ordering == Some(Ordering::Equal),
        "!=" => ordering != Some(Ordering::Equal),
        "<" => ordering.is_some_and(Ordering::is_lt),
        "<=" => ordering.is_some_and(Ordering::is_le),
        ">" => ordering.is_some_and(Ordering::is_gt),
        _ => ordering.is_some_and(Ordering::is_ge),
    })
}

/// Equality of text, by the rules of its type.
fn equal_text(ty: ValueType, a: &str, b: &str) -> Result<bool, EvalError> {
    let equal = match ty {
        ValueType::DnsName => return Ok(same_dns_name(a, b)),
        ValueType::EmailAddress => same_email(a, b),
        ValueType::Uri => same_uri(a, b),
        _ => return Ok(a == b),
    };
    equal.map_err(|(left, reason)| conversion(if left { a } else { b }, ty, reason))
}

fn add<'a>(left: &Value<'a>, right: &Value<'a>) -> Value<'a> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => Value::Int(a.wrapping_add(*b)),
        (Value::Double(a), Value::Double(b)) => Value::Double(a + b),
        (Value::Text(a), Value::Text(b)) => Value::from(format!("{a}{b}")),
        // The checker lets only equal types through.
        _ => left.clone(),
    }
}

fn conversion(text: &str, to: ValueType, reason: &'static str) -> EvalError {
    EvalError::Conversion {
        text: text.to_owned(),
        to,
        reason,
    }
}

fn binary_call<'a>(builtin: Builtin, subject: &str, other: &str) -> Evaluated<'a> {
    Ok(Value::Bool(match builtin {
        Builtin::StartsWith => subject.starts_with(other),
        Builtin::EndsWith => subject.ends_with(other),
        // The pattern is the target: "^/api".matches(request.path).
        Builtin::Matches => compile_pattern(subject)
            .map_err(|problem| EvalError::Pattern {
                pattern: subject.to_owned(),
                problem,
            })?
            .is_match(other),
        _ => wildcard_match(subject, other),
    }))
}

fn unary_call(builtin: Builtin, text: Cow<'_, str>) -> Evaluated<'_> {
    let checked = |text: Cow<'_, str>, to, check: Result<(), &'static str>| match check {
        Ok(()) => Ok(Value::from(text.into_owned())),
        Err(reason) => Err(conversion(&text, to, reason)),
    };
    match builtin {
        Builtin::DnsName => {
            let check = check_dns_name(&text);
            checked(text, ValueType::DnsName, check)
        }
        Builtin::Email => {
            let check = parse_email(&text).map(|_| ());
            checked(text, ValueType::EmailAddress, check)
        }
        Builtin::Uri => {
            let check = parse_uri(&text).map(|_| ());
            checked(text, ValueType::Uri, check)
        }
        Builtin::Ip => match text.parse::<IpAddr>() {
            Ok(ip) => Ok(Value::Ip(ip)),
            Err(_) => Err(conversion(&text, ValueType::IpAddress, "neither IPv4 nor IPv6")),
        },
        Builtin::Timestamp => match Timestamp::parse(&text) {
            Some(at) => Ok(Value::Timestamp(at)),
            None => Err(conversion(
                &text,
                ValueType::Timestamp,
                "write it as 2006-01-02T15:04:05Z (RFC 3339)",
            )),
        },
        Builtin::Size => Ok(Value::Int(i64::try_from(text.len()).unwrap_or(i64::MAX))),
        Builtin::Reverse => Ok(Value::from(text.chars().rev().collect::<String>())),
        Builtin::ToLower => Ok(Value::from(text.to_lowercase())),
        _ => Ok(Value::Text(text)),
    }
}
