//! Where an evaluation finds its attributes, and what it looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::value::{StringLookup, Value};

/// A bag of attributes.
pub trait Attributes {
    /// The value of the attribute `name`; `None` when it is absent.
    fn get(&self, name: &str) -> Option<Value<'_>>;

    /// Whether an attribute without a value is absent for certain. A bag that knows only a part of a request says no
    /// for the rest, and expressions that depend on it have no value yet ([`crate::EvalError::Unknown`]).
    fn is_known(&self, _name: &str) -> bool {
        true
    }
}

/// A bag in memory.
#[derive(Clone, Debug, Default)]
pub struct Bag {
    scalars: BTreeMap<String, Value<'static>>,
    maps: BTreeMap<String, BTreeMap<String, String>>,
}

impl Bag {
    /// Sets an attribute that is not a map.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<Value<'static>>) -> &mut Self {
        self.scalars.insert(name.into(), value.into());
        self
    }

    /// Sets an attribute that is a map.
    pub fn set_map<K: Into<String>, V: Into<String>>(
        &mut self,
        name: impl Into<String>,
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        let entries = entries.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        self.maps.insert(name.into(), entries);
        self
    }
}

impl Attributes for Bag {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        match self.scalars.get(name) {
            Some(value) => Some(value.clone()),
            None => self
                .maps
                .get(name)
                .map(|map| Value::Map(map as &dyn StringLookup)),
        }
    }
}

/// One look at the bag: an attribute, or an entry of a map, that was there or not. Displayed as in Istio's tests:
/// `source.name`, `-source.name` when absent, `request.headers[cookie]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The attribute.
    pub name: String,
    /// The entry of a map.
    pub key: Option<String>,
    /// Whether it was there.
    pub present: bool,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.present {
            f.write_str("-")?;
        }
        match &self.key {
            Some(key) => write!(f, "{}[{key}]", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The looks of one or more evaluations, as Mixer reports them to those who cache its answers.
pub type References = BTreeSet<Reference>;

/// What an expression may read, known without evaluating it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// The attribute itself.
    Attribute(String),
    /// One entry of a map attribute: `request.headers["cookie"]`.
    Entry(String, String),
    /// Any entry of a map attribute: the map as a value, or a key that is computed.
    AnyEntry(String),
}

impl Use {
    /// The attribute's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Attribute(name) | Self::Entry(name, _) | Self::AnyEntry(name) => name,
        }
    }
}
