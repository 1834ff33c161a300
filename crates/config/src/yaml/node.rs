//! A tree of values with their places.

use serde_json::{Map, Number, Value};

use crate::path::Segment;

/// A value and where it was written; line and column count from 1.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) data: Data,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Data {
    Null,
    Bool(bool),
    Number(Number),
    String(Box<str>),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A map's key and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) name: Box<str>,
}

impl Node {
    /// The value at a key, when this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, node)| node)
    }

    fn entry(&self, key: &str) -> Option<&(Key, Self)> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|(name, _)| &*name.name == key),
            _ => None,
        }
    }

    /// The text, when this is a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    /// Line and column of what a path leads to, or of the last part of it that was written.
    pub(crate) fn locate(&self, path: &[Segment]) -> (u32, u32) {
        let mut place = (self.line, self.column);
        let mut node = self;
        for segment in path {
            node = match (segment, &node.data) {
                (Segment::Key(key), _) => match node.entry(key).or_else(|| node.entry(&snake_case(key))) {
                    Some((key, value)) => {
                        place = (key.line, key.column);
                        value
                    }
                    None => break,
                },
                (Segment::Index(index), Data::List(items)) => match items.get(*index) {
                    Some(item) => {
                        place = (item.line, item.column);
                        item
                    }
                    None => break,
                },
                (Segment::Index(_), _) => break,
            };
        }
        place
    }

    /// The value without places.
    pub(crate) fn to_value(&self) -> Value {
        match &self.data {
            Data::Null => Value::Null,
            Data::Bool(value) => Value::Bool(*value),
            Data::Number(value) => Value::Number(value.clone()),
            Data::String(value) => Value::String(value.to_string()),
            Data::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Data::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.name.to_string(), node.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// How many values and how many bytes of text the tree has.
    pub(crate) fn weight(&self) -> (usize, usize) {
        match &self.data {
            Data::String(text) => (1, text.len()),
            Data::List(items) => items.iter().fold((1, 0), |sum, item| add(sum, item.weight())),
            Data::Map(entries) => entries.iter().fold((1, 0), |sum, (key, node)| {
                let (nodes, bytes) = node.weight();
                add(sum, (nodes, bytes + key.name.len()))
            }),
            _ => (1, 0),
        }
    }
}

fn add(left: (usize, usize), right: (usize, usize)) -> (usize, usize) {
    (left.0.saturating_add(right.0), left.1.saturating_add(right.1))
}

/// `camelCase` as `snake_case`, the other spelling that Istio's API accepts for a field.
pub(crate) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

/// `snake_case` as `camelCase`.
pub(crate) fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        match character {
            '_' => upper = true,
            c if upper => {
                camel.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}
