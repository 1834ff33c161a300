//! An object as it travels in the feed: the fields of `argosy.feed.v1.Object`, without depending on its generated type.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{Finding, Kind, Meta, Object, ObjectKey, Origin, Owner, decode};

/// An object in the feed's form. `body` is the JSON of the object without apiVersion, kind and metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wire {
    /// `group/version`.
    pub api_version: String,
    /// The kind's name.
    pub kind: String,
    /// Empty for kinds of the whole cluster.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Counts changes of the body.
    pub generation: i64,
    /// Given by Kubernetes.
    pub uid: String,
    /// Given by Kubernetes.
    pub resource_version: String,
    /// The controller that made it, where that is kept.
    pub controller: Option<Owner>,
    /// Seconds since 1970; 0 when not known.
    pub created: i64,
    /// JSON.
    pub body: Vec<u8>,
    /// Where the object was written.
    pub origin: Origin,
}

/// Why an object could not be read from the feed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WireError {
    /// The other side knows a kind that this one does not: both must be of the same release.
    #[error(
        "{api_version} {kind} is not a kind that this release knows; run the same release on both sides of the feed"
    )]
    UnknownKind {
        /// As received.
        api_version: String,
        /// As received.
        kind: String,
    },
    /// The body is not JSON.
    #[error("{object}: the body is not a JSON object: {reason}")]
    Body {
        /// The object.
        object: ObjectKey,
        /// The parser's words.
        reason: String,
    },
    /// The object has not its kind's structure, or breaks its rules.
    #[error("{object}: {}", findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// The object.
        object: ObjectKey,
        /// What is wrong with it.
        findings: Vec<Finding>,
    },
}

impl Object {
    /// The object in the feed's form.
    pub fn to_feed(&self) -> Wire {
        // Maps of the API have string or integer keys and its floats are finite, so encoding cannot fail; were it to,
        // the body would be empty and the other side would refuse it by name.
        let body = self
            .spec
            .to_body(self.kind)
            .and_then(|body| serde_json::to_vec(&body))
            .unwrap_or_default();
        let meta = self.meta.clone();
        Wire {
            api_version: self.kind.api_version(),
            kind: self.kind.as_str().to_owned(),
            namespace: meta.namespace,
            name: meta.name,
            labels: meta.labels,
            annotations: meta.annotations,
            generation: meta.generation,
            uid: meta.uid,
            resource_version: meta.resource_version,
            controller: meta.controller.map(|owner| *owner),
            created: meta.created.unwrap_or_default(),
            body,
            origin: self.origin.clone(),
        }
    }

    /// The object that the feed's form describes, checked as when it was first read.
    ///
    /// # Errors
    /// When the kind is not known, the body is no JSON object, or the object breaks its kind's rules.
    pub fn from_feed(wire: Wire) -> Result<Self, WireError> {
        let group = wire.api_version.split_once('/').map_or("", |(group, _)| group);
        let Some(kind) = Kind::find(group, &wire.kind) else {
            return Err(WireError::UnknownKind {
                api_version: wire.api_version,
                kind: wire.kind,
            });
        };
        let object = ObjectKey::new(kind, &*wire.namespace, &*wire.name);
        let body: Map<String, Value> = match serde_json::from_slice(&wire.body) {
            Ok(body) => body,
            Err(error) => {
                return Err(WireError::Body {
                    object,
                    reason: error.to_string(),
                });
            }
        };
        let meta = Meta {
            namespace: wire.namespace,
            name: wire.name,
            labels: wire.labels,
            annotations: wire.annotations,
            generation: wire.generation,
            created: (wire.created != 0).then_some(wire.created),
            uid: wire.uid,
            resource_version: wire.resource_version,
            controller: wire.controller.map(Box::new),
        };
        match decode::body(kind, &meta, body) {
            Ok((spec, _)) => Ok(Self {
                kind,
                meta,
                spec,
                origin: wire.origin,
            }),
            Err(findings) => Err(WireError::Invalid { object, findings }),
        }
    }
}

impl Origin {
    /// A place in a file.
    pub fn new(file: impl Into<Arc<str>>, line: u32, column: u32) -> Self {
        Self {
            file: Some(file.into()),
            line,
            column,
        }
    }
}
