//! Builds trees from the parser's events, and keeps the bounds while doing so.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Options, Parser, ScanError, Span, options};

use super::{Data, Document, Fault, Key, Limits, Node, scalar};

/// Reads documents; the bounds hold for all that one builder reads.
pub(super) struct Builder {
    limits: Limits,
    nodes: usize,
    alias_bytes: usize,
}

/// A list or map that is being read.
struct Frame {
    node: Node,
    anchor: usize,
    /// Key of the value that comes next, when this is a map.
    key: Option<Key>,
    /// Keys seen so far with their lines, once there are too many to look through.
    keys: HashMap<Box<str>, u32>,
    /// Maps given by the merge key `<<`.
    merges: Vec<Node>,
}

/// Keys of a map that are looked through one by one; beyond that they are hashed.
const FEW: usize = 24;

/// One document's tree as far as it is built.
#[derive(Default)]
struct Tree {
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    faults: Vec<Fault>,
}

fn parser_options() -> Options {
    let mut options = options! { flow_nesting_limit: 255, block_nesting_limit: 255 };
    options.set_emit_comments(false);
    options
}

/// JSON may have the character DELETE in its strings (RFC 8259, section 7), which the parser refuses everywhere.
fn escaped(text: &str) -> Cow<'_, str> {
    const DELETE: char = '\u{7f}';
    match text.contains(DELETE) && text.trim_start().starts_with('{') {
        true => text.replace(DELETE, "\\u007f").into(),
        false => text.into(),
    }
}

impl Builder {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            nodes: 0,
            alias_bytes: 0,
        }
    }

    /// Whether nothing more may be read.
    pub(super) fn exhausted(&self) -> bool {
        self.nodes >= self.limits.nodes
    }

    /// Adds the documents of `text`, whose first line has the number `first_line`. Stops at the first syntax error.
    pub(super) fn read(&mut self, text: &str, first_line: u32, documents: &mut Vec<Document>) {
        let offset = first_line.saturating_sub(1);
        let mut tree = Tree::default();
        let text = escaped(text);
        for next in Parser::new_from_str_with_options(&text, parser_options()) {
            let step = match next {
                Ok((Event::DocumentEnd, _)) => {
                    documents.extend(std::mem::take(&mut tree).finish());
                    continue;
                }
                Ok((event, span)) => self.event(&mut tree, event, place(&span, offset)),
                Err(error) => Err(syntax(&error, offset)),
            };
            if let Err(fault) = step {
                tree.faults.push(fault);
                documents.push(Err(tree.faults));
                return;
            }
        }
    }

    fn event(&mut self, tree: &mut Tree, event: Event<'_>, (line, column): (u32, u32)) -> Result<(), Fault> {
        let fault = |message: String| Fault::new(line, column, message);
        let start = |tree: &mut Tree, data, anchor| {
            if tree.stack.len() >= self.limits.depth {
                return Err(fault(format!(
                    "more than {} maps and lists inside one another",
                    self.limits.depth
                )));
            }
            let node = Node { line, column, data };
            tree.stack.push(Frame {
                node,
                anchor,
                key: None,
                keys: HashMap::new(),
                merges: Vec::new(),
            });
            Ok(())
        };
        match event {
            Event::SequenceStart(_, anchor, _) => start(tree, Data::List(Vec::new()), anchor)?,
            Event::MappingStart(_, anchor, _) => start(tree, Data::Map(Vec::new()), anchor)?,
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = tree.stack.pop() {
                    let anchor = frame.anchor;
                    let node = frame.finish(&mut tree.faults);
                    if anchor != 0 {
                        self.repeat(&node).map_err(fault)?;
                    }
                    tree.add(node, anchor)?;
                }
                return Ok(());
            }
            Event::Scalar(text, style, anchor, tag) => {
                let data = scalar::resolve(&text, style, tag.as_deref()).map_err(fault)?;
                tree.add_scalar(Node { line, column, data }, &text, anchor)?;
            }
            Event::Alias(id) => {
                let node = self.alias(tree, id).map_err(fault)?;
                tree.add(Node { line, column, ..node }, 0)?;
            }
            _ => return Ok(()),
        }
        self.count(1).map_err(fault)
    }

    /// The value that an alias repeats.
    fn alias(&mut self, tree: &Tree, id: usize) -> Result<Node, String> {
        let node = tree
            .anchors
            .get(&id)
            .ok_or("an alias inside the value that it repeats")?;
        self.repeat(node)?;
        if tree.stack.len() + depth(node) > self.limits.depth {
            return Err(format!(
                "more than {} maps and lists inside one another",
                self.limits.depth
            ));
        }
        Ok(node.clone())
    }

    /// Accounts for a copy of a value, which an anchor keeps or an alias makes.
    fn repeat(&mut self, node: &Node) -> Result<(), String> {
        let (nodes, bytes) = node.weight();
        self.alias_bytes = self.alias_bytes.saturating_add(bytes);
        if self.alias_bytes > self.limits.alias_bytes {
            return Err(format!(
                "anchors and aliases repeat more than {} bytes; write the values out",
                self.limits.alias_bytes
            ));
        }
        self.count(nodes)
    }

    fn count(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > self.limits.nodes {
            return Err(format!(
                "more than {} values in the file, aliases written out",
                self.limits.nodes
            ));
        }
        Ok(())
    }
}

/// How many maps and lists are inside one another.
fn depth(node: &Node) -> usize {
    match &node.data {
        Data::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Data::Map(entries) => 1 + entries.iter().map(|(_, node)| depth(node)).max().unwrap_or(0),
        _ => 0,
    }
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn place(span: &Span, offset: u32) -> (u32, u32) {
    (
        narrow(span.start.line()).saturating_add(offset),
        narrow(span.start.col()).saturating_add(1),
    )
}

fn syntax(error: &ScanError, offset: u32) -> Fault {
    let mark = error.marker();
    let (line, column) = (
        narrow(mark.line()).saturating_add(offset),
        narrow(mark.col()).saturating_add(1),
    );
    Fault::new(line, column, format!("not valid YAML: {}", error.info()))
}

impl Tree {
    /// Adds a complete value to the innermost list or map, or makes it the root.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.node.data {
            Data::List(items) => items.push(node),
            Data::Map(entries) => match frame.key.take() {
                Some(key) if &*key.name == "<<" => frame.merges.push(node),
                Some(key) => entries.push((key, node)),
                None => match node.data {
                    // A number or a boolean as a key means its text, as in Kubernetes' YAML.
                    Data::String(name) => frame.start_entry(node.line, node.column, name, &mut self.faults),
                    _ => {
                        return Err(Fault::new(
                            node.line,
                            node.column,
                            "a key must be a text, not a list or a map",
                        ));
                    }
                },
            },
            _ => {}
        }
        Ok(())
    }

    /// Adds a scalar; as a key it counts as it was written.
    fn add_scalar(&mut self, node: Node, text: &str, anchor: usize) -> Result<(), Fault> {
        let is_key = self
            .stack
            .last()
            .is_some_and(|f| matches!(f.node.data, Data::Map(_)) && f.key.is_none());
        match is_key {
            true => self.add(
                Node {
                    data: Data::String(text.into()),
                    ..node
                },
                anchor,
            ),
            false => self.add(node, anchor),
        }
    }

    /// The finished document; none when it is empty.
    fn finish(self) -> Option<Document> {
        if !self.faults.is_empty() {
            return Some(Err(self.faults));
        }
        self.root.filter(|root| root.data != Data::Null).map(Ok)
    }
}

impl Frame {
    fn start_entry(&mut self, line: u32, column: u32, name: Box<str>, faults: &mut Vec<Fault>) {
        if &*name != "<<"
            && let Some(first) = self.line_of(&name, line)
            && faults.len() < 100
        {
            let message = format!(
                "the key {name:?} is given twice in one map (first in line {first}); keep one of them"
            );
            faults.push(Fault::new(line, column, message));
        }
        self.key = Some(Key { line, column, name });
    }

    /// The line of an earlier key of that name; the key is noted.
    fn line_of(&mut self, name: &str, line: u32) -> Option<u32> {
        let Data::Map(entries) = &self.node.data else {
            return None;
        };
        if entries.len() < FEW {
            let same = entries.iter().find(|(key, _)| *key.name == *name);
            return same.map(|(key, _)| key.line);
        }
        if self.keys.is_empty() {
            self.keys = entries
                .iter()
                .map(|(key, _)| (key.name.clone(), key.line))
                .collect();
        }
        self.keys.insert(name.into(), line)
    }

    /// The list or map, with what it merges.
    fn finish(mut self, faults: &mut Vec<Fault>) -> Node {
        let Data::Map(entries) = &mut self.node.data else {
            return self.node;
        };
        if self.merges.is_empty() {
            return self.node;
        }
        let mut names: HashSet<Box<str>> = entries.iter().map(|(key, _)| key.name.clone()).collect();
        for merge in std::mem::take(&mut self.merges) {
            let sources = match merge.data {
                Data::List(items) => items,
                _ => vec![merge],
            };
            for source in sources {
                let Data::Map(more) = source.data else {
                    faults.push(Fault::new(
                        source.line,
                        source.column,
                        "the merge key << takes a map or a list of maps",
                    ));
                    continue;
                };
                entries.extend(more.into_iter().filter(|(key, _)| names.insert(key.name.clone())));
            }
        }
        self.node
    }
}

#[cfg(test)]
mod tests {
    use super::super::documents;
    use super::*;

    fn json(text: &str) -> Vec<Result<String, String>> {
        let fault = |f: &Fault| format!("{}:{}: {}", f.line, f.column, f.message);
        documents(text.as_bytes(), &Limits::default())
            .iter()
            .map(|d| match d {
                Ok(node) => Ok(node.to_value().to_string()),
                Err(faults) => Err(faults.iter().map(fault).collect::<Vec<_>>().join("; ")),
            })
            .collect()
    }

    #[test]
    fn documents_fail_alone() {
        let seen = json("a: 1\n---\nb: [1\n---\nc: {d: e}\n...\n---\n# none\n---\nf: 2\n");
        assert_eq!(seen.len(), 4);
        assert_eq!(seen[0].as_deref(), Ok(r#"{"a":1}"#));
        assert!(
            seen[1].as_ref().unwrap_err().starts_with("4:")
                || seen[1].as_ref().unwrap_err().starts_with("3:"),
            "{seen:?}"
        );
        assert_eq!(seen[2].as_deref(), Ok(r#"{"c":{"d":"e"}}"#));
        assert_eq!(seen[3].as_deref(), Ok(r#"{"f":2}"#));
    }

    #[test]
    fn duplicate_keys() {
        let seen = json("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n");
        assert_eq!(
            seen[0],
            Err("5:3: the key \"c\" is given twice in one map (first in line 3); keep one of them".into())
        );
    }

    #[test]
    fn aliases_and_merges() {
        let seen = json("base: &b {x: 1, y: [2]}\nuse: *b\nmore:\n  <<: *b\n  x: 3\n");
        assert_eq!(
            seen[0].as_deref(),
            Ok(r#"{"base":{"x":1,"y":[2]},"use":{"x":1,"y":[2]},"more":{"x":3,"y":[2]}}"#)
        );
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for level in 1..12 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        bomb.push_str("---\nok: 1\n");
        let seen = json(&bomb);
        assert!(seen[0].as_ref().unwrap_err().contains("aliases"), "{seen:?}");
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(json(&deep)[0].as_ref().unwrap_err().contains("more than 64"));
        let deeper = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(json(&deeper)[0].is_err());
    }

    #[test]
    fn keys_are_texts() {
        assert_eq!(
            json("1: a\ntrue: b\n")[0].as_deref(),
            Ok(r#"{"1":"a","true":"b"}"#)
        );
        assert!(json("? [a]\n: b\n")[0].is_err());
        assert!(json("a: &x [*x]\n")[0].is_err());
    }

    #[test]
    fn json_is_yaml() {
        assert_eq!(
            json("{\"a\": \"1\",\n\t\"b\": [true, null]}")[0].as_deref(),
            Ok(r#"{"a":"1","b":[true,null]}"#)
        );
    }
}
