//! The attributes that a caller sent, by name, whatever the form in which they came.

use std::collections::BTreeMap;
use std::net::IpAddr;

use expr::{StringLookup, Timestamp, Value};

/// A map as it was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entries<'m>(pub(super) BTreeMap<&'m str, &'m str>);

impl StringLookup for Entries<'_> {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.0.get(key).copied()
    }

    fn entries(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(key, value)| (*key, *value)).collect()
    }
}

/// Attributes as they were sent, by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent<'m> {
    pub(super) scalars: BTreeMap<&'m str, Value<'m>>,
    pub(super) maps: BTreeMap<&'m str, Entries<'m>>,
}

impl<'m> Sent<'m> {
    /// Whether an attribute was sent, or an entry of it.
    pub(crate) fn has(&self, name: &str, key: Option<&str>) -> bool {
        match key {
            Some(key) => self.map(name).is_some_and(|map| map.lookup(key).is_some()),
            None => self.scalars.contains_key(name) || self.maps.contains_key(name),
        }
    }

    /// The value of an attribute that is no map.
    #[cfg(test)]
    pub(crate) fn value(&self, name: &str) -> Option<&Value<'m>> {
        self.scalars.get(name)
    }

    pub(super) fn map(&self, name: &str) -> Option<&Entries<'m>> {
        self.maps.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.scalars.get(name).and_then(Value::as_text)
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        match self.scalars.get(name)? {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn bool(&self, name: &str) -> Option<bool> {
        match self.scalars.get(name)? {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    pub(super) fn time(&self, name: &str) -> Option<Timestamp> {
        match self.scalars.get(name)? {
            Value::Timestamp(at) => Some(*at),
            _ => None,
        }
    }

    pub(super) fn duration(&self, name: &str) -> Option<i64> {
        match self.scalars.get(name)? {
            Value::Duration(length) => Some(*length),
            _ => None,
        }
    }

    pub(super) fn ip(&self, name: &str) -> Option<IpAddr> {
        match self.scalars.get(name)? {
            Value::Ip(ip) => Some(*ip),
            _ => None,
        }
    }

    /// Puts an attribute in, as a front-end of another form read it.
    pub(crate) fn set(&mut self, name: &'m str, value: Value<'m>) {
        self.scalars.insert(name, value);
    }

    /// Puts an entry of a map in.
    pub(crate) fn set_entry(&mut self, name: &'m str, key: &'m str, value: &'m str) {
        self.maps.entry(name).or_default().0.insert(key, value);
    }
}
