//! Files of YAML or JSON into objects, each finding with its place in the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clip::{self, clip};
use crate::decode::{self, Decoded};
use crate::path::{Issue, Report};
use crate::yaml::{self, Data, Fault, Node};
use crate::{Finding, Kind, Limits, Meta, Object, ObjectKey, Options, Origin, Severity, Status, path};

/// Most findings kept for one file.
const MAX_FINDINGS: usize = 1000;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The objects with which nothing is wrong, in the file's order.
    pub objects: Vec<Object>,
    /// Objects that have errors, as far as they have their kind's structure. They must not be used but for finding out
    /// more that is wrong.
    pub invalid: Vec<Object>,
    /// What controllers have written about objects, where they have.
    pub statuses: BTreeMap<ObjectKey, Status>,
    /// What there is to say, about these objects and about documents that are none.
    pub findings: Vec<Finding>,
}

/// Reads a file of any number of objects. `file` is the name for messages; objects that name no namespace belong to
/// `default_namespace`. A document that is wrong is lost alone.
pub fn parse(file: &str, text: &[u8], default_namespace: &str) -> Parsed {
    parse_with(file, text, default_namespace, &Options::default())
}

/// As [`parse`], with other bounds and choices.
pub fn parse_with(file: &str, text: &[u8], default_namespace: &str, options: &Options) -> Parsed {
    let mut reader = Reader::new(file, *options);
    for document in yaml::documents(text, &options.limits) {
        match document {
            Ok(node) => reader.document(&node, default_namespace),
            Err(faults) => reader.faults(faults),
        }
    }
    reader.parsed
}

/// Reads one object as an API server gives it, and what controllers have written about it. Findings have no place in a file.
pub fn read(object: &serde_json::Value) -> Parsed {
    let decoded = decode::object(object.clone(), "default", Options::default());
    let mut parsed = Parsed::default();
    if let (Some(key), Some(status)) = (&decoded.key, Status::of(object)) {
        parsed.statuses.insert(key.clone(), status);
    }
    let Decoded { key, object, issues } = decoded;
    parsed.findings = issues
        .into_iter()
        .map(|issue| issue.into_finding(key.as_ref()))
        .collect();
    match object {
        Ok(object) => parsed.objects.push(object),
        Err(object) => parsed.invalid.extend(object),
    }
    parsed
}

/// Reads MeshConfig as Istio writes it: the settings themselves, without apiVersion, kind and metadata. An empty file means
/// the defaults. The object's name is `istio`, its namespace `namespace`.
pub fn parse_mesh_config(file: &str, text: &[u8], namespace: &str) -> Parsed {
    settings(Kind::MeshConfig, file, text, namespace)
}

/// Reads MeshNetworks as Istio writes them, likewise.
pub fn parse_mesh_networks(file: &str, text: &[u8], namespace: &str) -> Parsed {
    settings(Kind::MeshNetworks, file, text, namespace)
}

fn settings(kind: Kind, file: &str, text: &[u8], namespace: &str) -> Parsed {
    let mut reader = Reader::new(file, Options::default());
    let meta = Meta {
        namespace: namespace.to_owned(),
        name: "istio".to_owned(),
        ..Meta::default()
    };
    let mut documents = yaml::documents(text, &Limits::default()).into_iter();
    let empty = Node {
        line: 1,
        column: 1,
        data: Data::Map(Vec::new()),
    };
    match documents.next().unwrap_or(Ok(empty)) {
        Ok(node) => reader.settings(kind, meta, &node),
        Err(faults) => reader.faults(faults),
    }
    if documents.next().is_some() {
        reader.faults(vec![Fault::new(
            0,
            0,
            format!("{kind} is one document; remove the others"),
        )]);
        reader.parsed.objects.clear();
    }
    reader.parsed
}

struct Reader {
    file: Arc<str>,
    options: Options,
    parsed: Parsed,
}

impl Reader {
    fn new(file: &str, options: Options) -> Self {
        Self {
            file: file.into(),
            options,
            parsed: Parsed::default(),
        }
    }

    fn push(&mut self, finding: Finding) {
        if self.parsed.findings.len() < MAX_FINDINGS {
            self.parsed.findings.push(finding);
        } else if self.parsed.findings.len() == MAX_FINDINGS {
            let more = format!("there are more than {MAX_FINDINGS} findings; the others are left out");
            self.parsed
                .findings
                .push(Finding::warning(more).from(Origin::new(self.file.clone(), 0, 0)));
        }
    }

    fn faults(&mut self, faults: Vec<Fault>) {
        for fault in faults {
            let origin = Origin::new(self.file.clone(), fault.line, fault.column);
            self.push(Finding::error(clip(fault.message, clip::MESSAGE)).from(origin));
        }
    }

    /// One object, or a Kubernetes List of them.
    fn document(&mut self, node: &Node, namespace: &str) {
        let is_list = node.get("apiVersion").and_then(Node::as_str) == Some("v1")
            && node.get("kind").and_then(Node::as_str) == Some("List");
        match node.get("items").map(|items| &items.data) {
            Some(Data::List(items)) if is_list => items.iter().for_each(|item| self.object(item, namespace)),
            _ => self.object(node, namespace),
        }
    }

    fn object(&mut self, node: &Node, namespace: &str) {
        let value = node.to_value();
        let status = Status::of(&value);
        let decoded = decode::object(value, namespace, self.options);
        if let (Some(key), Some(status)) = (&decoded.key, status) {
            self.parsed.statuses.insert(key.clone(), status);
        }
        self.keep(node, decoded);
    }

    fn settings(&mut self, kind: Kind, meta: Meta, node: &Node) {
        let report = Report::default();
        let at = path::At::root(&report);
        let key = ObjectKey::new(kind, &*meta.namespace, &*meta.name);
        let spec = decode::checked(kind, &meta, node.to_value(), &at);
        let object = spec.map(|spec| Object {
            kind,
            meta,
            spec,
            origin: Origin::default(),
        });
        self.keep(node, Decoded::new(Some(key), object, report));
    }

    fn keep(&mut self, node: &Node, decoded: Decoded) {
        let Decoded { key, object, issues } = decoded;
        for issue in issues {
            let place = self.place(node, &issue);
            self.push(issue.into_finding(key.as_ref()).from(place));
        }
        let (objects, object) = match object {
            Ok(object) => (&mut self.parsed.objects, Some(object)),
            Err(object) => (&mut self.parsed.invalid, object),
        };
        objects.extend(object.map(|object| Object {
            origin: Origin::new(self.file.clone(), node.line, node.column),
            ..object
        }));
    }

    fn place(&self, node: &Node, issue: &Issue) -> Origin {
        let (line, column) = match issue.path.as_slice() {
            [] => (node.line, node.column),
            path => node.locate(path),
        };
        Origin::new(self.file.clone(), line, column)
    }
}

impl Parsed {
    /// Whether anything is wrong.
    pub fn has_errors(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }
}
