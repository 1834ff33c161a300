//! Values of types that CEL does not have: maps that the bag lends, addresses, names with an equality of their own, patterns.

use std::any::Any;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use ::cel::ExecutionError;
use ::cel::common::traits::{Container, Indexer, Iterable, Iterator, Sizer};
use ::cel::common::types::{CelInt, CelString, MAP_TYPE, Type};
use ::cel::common::value::{CowVal, StaticVal, Val};
use regex::Regex;

use super::run::Tracer;
use crate::names::{same_dns_name, same_email, same_uri};
use crate::value::{StringLookup, ValueType};

/// A map of the bag's; `None` for one that is absent, which has no entries.
#[derive(Clone, Debug)]
pub(super) struct TextMap<'a> {
    name: &'a str,
    map: Option<&'a dyn StringLookup>,
    tracer: &'a Tracer,
    keys: OnceLock<Vec<CelString<'a>>>,
}

impl<'a> TextMap<'a> {
    pub(super) fn new(name: &'a str, map: Option<&'a dyn StringLookup>, tracer: &'a Tracer) -> Self {
        Self {
            name,
            map,
            tracer,
            keys: OnceLock::new(),
        }
    }

    fn find(&self, key: &str) -> Option<&'a str> {
        let map = self.map?;
        let value = map.lookup(key);
        self.tracer.look(self.name, Some(key), value.is_some());
        value
    }

    /// The keys in their order; the whole map is then looked at.
    fn keys(&self) -> &[CelString<'a>] {
        self.keys.get_or_init(|| {
            if self.map.is_some() {
                self.tracer.look(self.name, None, true);
            }
            let entries = self.map.map(StringLookup::entries).unwrap_or_default();
            entries.into_iter().map(|(key, _)| CelString::from(key)).collect()
        })
    }
}

impl Val for TextMap<'_> {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v>
    where
        Self: 'v,
    {
        Box::new(self.clone())
    }
}

fn text_key(key: &dyn Val) -> Result<&str, ExecutionError> {
    match key.downcast_ref::<CelString>() {
        Some(key) => Ok(key.inner()),
        None => Err(ExecutionError::UnexpectedType {
            got: key.get_type().name().to_owned(),
            want: "string".to_owned(),
        }),
    }
}

impl Container for TextMap<'_> {
    fn contains(&self, key: &dyn Val) -> Result<bool, ExecutionError> {
        text_key(key).map(|key| self.find(key).is_some())
    }
}

impl Indexer for TextMap<'_> {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let key = text_key(key)?;
        match self.find(key) {
            Some(value) => Ok(CowVal::owned(CelString::from(value.to_owned()))),
            None => Err(ExecutionError::no_such_key(key)),
        }
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Sizer for TextMap<'_> {
    fn size(&self) -> CelInt {
        CelInt::from(i64::try_from(self.keys().len()).unwrap_or(i64::MAX))
    }
}

impl Iterable for TextMap<'_> {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Iterator<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Keys(self.keys().iter()))
    }
}

struct Keys<'b, 'a>(std::slice::Iter<'b, CelString<'a>>);

impl<'b, 'v, 'a: 'v> Iterator<'b, 'v> for Keys<'b, 'a> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        self.0.next().map(|key| key as &'b (dyn Val + 'v))
    }
}

static SPECIAL: Type = Type::new_unspecified_type("istio.policy.v1beta1.Value");

/// An address, or a name with rules of its own for equality.
#[derive(Clone, Debug)]
pub(super) enum Special {
    /// `None` for an absent one.
    Ip(Option<IpAddr>),
    Text(ValueType, String),
}

impl Val for Special {
    fn get_type(&self) -> &Type {
        &SPECIAL
    }

    fn cel_type() -> &'static Type {
        &SPECIAL
    }

    fn equals(&self, other: &dyn Val) -> bool {
        match (self, other.downcast_ref::<Special>()) {
            (Special::Ip(a), Some(Special::Ip(b))) => {
                a.map(|ip| ip.to_canonical()) == b.map(|ip| ip.to_canonical())
            }
            (Special::Text(ty, a), Some(Special::Text(other, b))) if ty == other => match ty {
                ValueType::DnsName => same_dns_name(a, b),
                ValueType::EmailAddress => same_email(a, b).unwrap_or(a == b),
                _ => same_uri(a, b).unwrap_or(a == b),
            },
            _ => false,
        }
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Special {}

static PATTERN: Type = Type::new_unspecified_type("argosy.Pattern");

/// A pattern that is compiled already.
#[derive(Clone, Debug)]
pub(super) struct Pattern(pub(super) Arc<Regex>);

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}
