//! Where the fields of a file's objects were written, for those who find something out about an object later than its
//! reader did, and know the field by its path alone.

use std::collections::BTreeMap;

use crate::yaml::{self, Data, Node, camel_case};
use crate::{Limits, Origin};

/// The places of one file.
#[derive(Debug, Default)]
pub struct Places {
    documents: Vec<Node>,
    /// Where objects begin: documents, and the items of those that are Lists, which come first where both begin.
    begins: BTreeMap<(u32, u32), (usize, Option<usize>)>,
}

/// A step of a path, and what is left of the path behind it.
enum Step<'a> {
    Index(usize, &'a str),
    Key(String, &'a str),
    /// A name without quotes: it may have dots in it, so the map that it leads into decides where it ends.
    Name(&'a str),
}

impl Places {
    /// The places of a file's text; documents that cannot be read have none.
    pub fn of(text: &[u8]) -> Self {
        let documents = yaml::documents(text, &Limits::default());
        let documents: Vec<Node> = documents.into_iter().flatten().collect();
        let mut begins = BTreeMap::new();
        for (number, document) in documents.iter().enumerate() {
            for (item, node) in items(document).iter().enumerate() {
                begins
                    .entry((node.line, node.column))
                    .or_insert((number, Some(item)));
            }
            begins
                .entry((document.line, document.column))
                .or_insert((number, None));
        }
        Self { documents, begins }
    }

    /// Where the field at `path` (such as `spec.http[0].route[1].weight`) of an object was written, or the last part of the
    /// path that was; `object` is the object's own [`Origin`]. None when no object of the file begins there.
    pub fn find(&self, object: &Origin, path: &str) -> Option<Origin> {
        let (document, item) = *self.begins.get(&(object.line, object.column))?;
        let document = self.documents.get(document)?;
        let node = match item {
            Some(item) => items(document).get(item)?,
            None => document,
        };
        let (line, column) = follow(node, path);
        Some(Origin {
            line,
            column,
            ..object.clone()
        })
    }
}

/// The items of a List.
fn items(document: &Node) -> &[Node] {
    match document.get("items").map(|items| &items.data) {
        Some(Data::List(items)) => items,
        _ => &[],
    }
}

fn follow(node: &Node, path: &str) -> (u32, u32) {
    let (mut node, mut path) = (node, path);
    let mut place = (node.line, node.column);
    while let Some(step) = step(path) {
        let found = match (step, &node.data) {
            (Step::Index(index, rest), Data::List(items)) => items
                .get(index)
                .map(|item| ((item.line, item.column), item, rest)),
            (Step::Key(name, rest), Data::Map(entries)) => entries
                .iter()
                .find(|(key, _)| *key.name == *name)
                .map(|(key, value)| ((key.line, key.column), value, rest)),
            (Step::Name(text), Data::Map(entries)) => entries
                .iter()
                .filter_map(|(key, value)| {
                    let rest = behind(text, &key.name).or_else(|| behind(text, &camel_case(&key.name)))?;
                    Some(((key.line, key.column), value, rest))
                })
                // Of `a` and `a.b` the one that explains more of the path.
                .min_by_key(|(_, _, rest)| rest.len()),
            _ => None,
        };
        let Some((at, value, rest)) = found else { break };
        (place, node, path) = (at, value, rest);
    }
    place
}

fn step(path: &str) -> Option<Step<'_>> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return None;
    }
    let Some(inside) = path.strip_prefix('[') else {
        return Some(Step::Name(path));
    };
    if inside.starts_with('"') {
        let (quoted, rest) = inside.split_once("\"]")?;
        let name = serde_json::from_str(&format!("{quoted}\"")).ok()?;
        return Some(Step::Key(name, rest));
    }
    let (index, rest) = inside.split_once(']')?;
    Some(Step::Index(index.parse().ok()?, rest))
}

/// What follows a name at the start of a path, when the name is a whole step.
fn behind<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(name)?;
    (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "kind: A
metadata:
  annotations:
    a.b/c: x
spec:
  http:
  - route: [{destination: {host: a}}]
  - match_labels:
      app: a
      app.kubernetes.io/name: b
---
kind: List
items:
- kind: B
  spec: {hosts: [a]}
";

    fn check(object: (u32, u32), path: &str, expected: Option<(u32, u32)>) {
        let origin = Origin {
            line: object.0,
            column: object.1,
            ..Origin::default()
        };
        let found = Places::of(TEXT.as_bytes()).find(&origin, path);
        assert_eq!(found.map(|place| (place.line, place.column)), expected, "{path}");
    }

    #[test]
    fn paths_lead_to_lines() {
        check((1, 1), "", Some((1, 1)));
        check((1, 1), "spec.http[0].route[0].destination.host", Some((7, 28)));
        check((1, 1), "metadata.annotations[\"a.b/c\"]", Some((4, 5)));
        check((1, 1), "spec.http[1].matchLabels.app", Some((9, 7)));
        check(
            (1, 1),
            "spec.http[1].matchLabels.app.kubernetes.io/name",
            Some((10, 7)),
        );
        check((14, 3), "spec.hosts[0]", Some((15, 18)));
    }

    #[test]
    fn what_was_not_written_is_where_it_would_be() {
        check((1, 1), "spec.http[7].route", Some((6, 3)));
        check((1, 1), "status", Some((1, 1)));
        check((1, 1), "spec.htt", Some((5, 1)));
        check((1, 1), "spec.http[\"x", Some((6, 3)));
        check((2, 2), "spec", None);
    }
}
