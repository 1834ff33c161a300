//! Evaluates a program: lends the bag's attributes to the `cel` crate, and takes note of what is looked at.

use std::sync::{Arc, Mutex, PoisonError};

use ::cel::common::types::{CelBool, CelDouble, CelDuration, CelInt, CelString, CelTimestamp};
use ::cel::common::value::{CowVal, Val};
use ::cel::context::VariableResolver;
use ::cel::{Context, ExecutionError, Value as CelValue};
use chrono::{DateTime, TimeDelta};

use super::values::{Pattern, Special, TextMap};
use super::{Program, functions};
use crate::attributes::{Attributes, Reference, References};
use crate::error::EvalError;
use crate::value::{Timestamp, Value, ValueType};

/// What stands for an attribute; no name that a parser lets through.
pub(super) fn attribute_name(place: usize) -> String {
    format!("@{place}")
}

/// What stands for `has(attribute)`.
pub(super) fn presence_name(place: usize) -> String {
    format!("?{place}")
}

/// What stands for a constant pattern.
pub(super) fn pattern_name(place: usize) -> String {
    format!("~{place}")
}

/// What the bag has.
#[derive(Debug)]
enum Found<'v> {
    Present(Value<'v>),
    Absent,
    /// The bag cannot tell yet.
    Unknown,
}

/// What an evaluation looked at.
#[derive(Debug, Default)]
pub(super) struct Trace {
    references: References,
    /// The first attribute that was wanted and is not known yet.
    unknown: Option<String>,
}

/// The trace, shared with the values that are lent.
#[derive(Debug, Default)]
pub(super) struct Tracer(Mutex<Trace>);

impl Tracer {
    pub(super) fn look(&self, name: &str, key: Option<&str>, present: bool) {
        let reference = Reference {
            name: name.to_owned(),
            key: key.map(str::to_owned),
            present,
        };
        self.with(|trace| trace.references.insert(reference));
    }

    fn with<T>(&self, then: impl FnOnce(&mut Trace) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The attributes of one evaluation.
struct Scope<'v> {
    program: &'v Program,
    found: Vec<Found<'v>>,
    tracer: Tracer,
}

impl Scope<'_> {
    fn look(&self, name: &str, found: &Found<'_>) {
        match found {
            Found::Unknown => self.tracer.with(|trace| {
                trace.unknown.get_or_insert_with(|| name.to_owned());
            }),
            found => self.tracer.look(name, None, matches!(found, Found::Present(_))),
        }
    }

    fn attribute(&self, place: usize) -> Option<CowVal<'_, '_>> {
        let (name, ty) = self.program.attributes.get(place)?;
        let found = self.found.get(place)?;
        if *ty == ValueType::StringMap && !matches!(found, Found::Unknown) {
            let map = match found {
                Found::Present(Value::Map(map)) => Some(*map),
                _ => {
                    self.look(name, found);
                    None
                }
            };
            return Some(CowVal::owned(TextMap::new(name, map, &self.tracer)));
        }
        self.look(name, found);
        match found {
            Found::Present(value) => Some(lend(value, *ty)),
            Found::Absent => Some(zero(*ty)),
            Found::Unknown => None,
        }
    }

    fn presence(&self, place: usize) -> Option<CowVal<'_, '_>> {
        let (name, _) = self.program.attributes.get(place)?;
        let found = self.found.get(place)?;
        self.look(name, found);
        match found {
            Found::Unknown => None,
            found => Some(CowVal::owned(CelBool::from(matches!(found, Found::Present(_))))),
        }
    }
}

impl VariableResolver for Scope<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let place = |rest: &str| rest.parse::<usize>().ok();
        if let Some(rest) = variable.strip_prefix('@') {
            return place(rest).and_then(|place| self.attribute(place));
        }
        if let Some(rest) = variable.strip_prefix('?') {
            return place(rest).and_then(|place| self.presence(place));
        }
        let pattern = self.program.patterns.get(place(variable.strip_prefix('~')?)?)?;
        Some(CowVal::owned(Pattern(Arc::clone(pattern))))
    }
}

/// A value as the `cel` crate takes it.
fn lend<'b>(value: &'b Value<'_>, ty: ValueType) -> CowVal<'b, 'b> {
    match value {
        Value::Text(text) if ty == ValueType::String => CowVal::owned(CelString::from(&**text)),
        Value::Text(text) => CowVal::owned(Special::Text(ty, text.to_string())),
        Value::Int(n) => CowVal::owned(CelInt::from(*n)),
        Value::Double(n) => CowVal::owned(CelDouble::from(*n)),
        Value::Bool(truth) => CowVal::owned(CelBool::from(*truth)),
        Value::Timestamp(at) => CowVal::owned(timestamp(at.0)),
        Value::Duration(ns) => CowVal::owned(CelDuration::from(TimeDelta::nanoseconds(*ns))),
        Value::Ip(ip) => CowVal::owned(Special::Ip(Some(*ip))),
        // Maps are lent by their scope.
        Value::Map(_) => CowVal::owned(CelBool::from(false)),
    }
}

fn timestamp(nanos: i64) -> CelTimestamp {
    CelTimestamp::from(DateTime::from_timestamp_nanos(nanos).fixed_offset())
}

/// What an absent attribute of a type counts as, as in Istio.
fn zero(ty: ValueType) -> CowVal<'static, 'static> {
    match ty {
        ValueType::String => CowVal::owned(CelString::from("")),
        ValueType::Int64 => CowVal::owned(CelInt::from(0)),
        ValueType::Double => CowVal::owned(CelDouble::from(0.0)),
        ValueType::Bool | ValueType::StringMap => CowVal::owned(CelBool::from(false)),
        ValueType::Timestamp => CowVal::owned(timestamp(0)),
        ValueType::Duration => CowVal::owned(CelDuration::from(TimeDelta::zero())),
        ValueType::IpAddress => CowVal::owned(Special::Ip(None)),
        ValueType::EmailAddress | ValueType::Uri | ValueType::DnsName => {
            CowVal::owned(Special::Text(ty, String::new()))
        }
    }
}

impl Program {
    /// The program's value for `bag`.
    ///
    /// # Errors
    /// An entry is absent, text cannot be converted, or the evaluation fails otherwise.
    pub(crate) fn eval(
        &self,
        bag: &dyn Attributes,
        references: Option<&mut References>,
    ) -> Result<Value<'static>, EvalError> {
        let mut found = Vec::with_capacity(self.attributes.len());
        for (name, ty) in &self.attributes {
            found.push(match bag.get(name) {
                Some(value) if !value.is(*ty) => {
                    return Err(EvalError::WrongType {
                        name: name.clone(),
                        expected: *ty,
                    });
                }
                Some(value) => Found::Present(value),
                None if bag.is_known(name) => Found::Absent,
                None => Found::Unknown,
            });
        }
        let scope = Scope {
            program: self,
            found,
            tracer: Tracer::default(),
        };
        let value = self.run(&scope);
        let trace = scope
            .tracer
            .0
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(references) = references {
            references.extend(trace.references);
        }
        match (value, trace.unknown) {
            (Err(_), Some(name)) => Err(EvalError::Unknown { name }),
            (value, _) => value,
        }
    }

    fn run(&self, scope: &Scope<'_>) -> Result<Value<'static>, EvalError> {
        let mut context = Context::with_env(functions::environment());
        context.set_variable_resolver(scope);
        let value = CelValue::resolve_val(&self.root, &context).map_err(failure)?;
        take(self.ty, &*value).ok_or_else(|| EvalError::Cel {
            problem: format!(
                "the value is of type {}, not {}",
                value.get_type().name(),
                self.ty
            ),
        })
    }
}

/// A value of the `cel` crate as one of ours.
fn take(ty: ValueType, value: &(dyn Val + '_)) -> Option<Value<'static>> {
    Some(match ty {
        ValueType::String => Value::from(value.downcast_ref::<CelString>()?.inner().to_owned()),
        ValueType::Int64 => Value::Int(*value.downcast_ref::<CelInt>()?.inner()),
        ValueType::Double => Value::Double(*value.downcast_ref::<CelDouble>()?.inner()),
        ValueType::Bool => Value::Bool(*value.downcast_ref::<CelBool>()?.inner()),
        ValueType::Timestamp => {
            let at = value.downcast_ref::<CelTimestamp>()?.inner();
            Value::Timestamp(Timestamp(at.timestamp_nanos_opt()?))
        }
        ValueType::Duration => {
            Value::Duration(value.downcast_ref::<CelDuration>()?.inner().num_nanoseconds()?)
        }
        _ => match value.downcast_ref::<Special>()? {
            Special::Ip(ip) => Value::Ip((*ip)?),
            Special::Text(_, text) => Value::from(text.clone()),
        },
    })
}

fn failure(error: ExecutionError) -> EvalError {
    match error {
        ExecutionError::NoSuchKey(key) => EvalError::AbsentEntry {
            map: "the map".to_owned(),
            key: key.to_string(),
        },
        error => EvalError::Cel {
            problem: error.to_string(),
        },
    }
}
