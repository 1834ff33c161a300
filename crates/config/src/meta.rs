//! Metadata of objects: its structure and Kubernetes' rules for names, labels and annotations.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::api;
use crate::clip::{self, clip};
use crate::kind::Scope;
use crate::path::At;
use crate::structure::{self, Shape};
use crate::syntax;
use crate::{Kind, Meta, Owner};

/// Most bytes that an object's annotations may have together (Kubernetes' bound).
const MAX_ANNOTATIONS: usize = 256 << 10;

api! {
    /// Kubernetes' ObjectMeta; what the mesh does not read is known by name only.
    #[allow(unreachable_pub, reason = "the macro's types are public; this one is not seen outside")]
    pub struct ObjectMeta {
        name: String,
        generate_name: String,
        namespace: String,
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
        generation: i64,
        creation_timestamp: String,
        uid: String,
        resource_version: String,
        self_link: Value,
        deletion_timestamp: Value,
        deletion_grace_period_seconds: Value,
        owner_references: Vec<OwnerReference>,
        finalizers: Value,
        managed_fields: Value,
        cluster_name: Value,
        initializers: Value,
    }

    /// Kubernetes' OwnerReference.
    #[allow(unreachable_pub, reason = "the macro's types are public; this one is not seen outside")]
    pub struct OwnerReference {
        api_version: String,
        kind: String,
        name: String,
        uid: String,
        controller: bool,
        block_owner_deletion: bool,
    }
}

/// An object's metadata, `namespace` filled in where the kind needs one. What is wrong is reported.
pub(crate) fn read(kind: Kind, metadata: Option<Value>, namespace: &str, at: &At<'_>) -> Meta {
    static SHAPE: OnceLock<Shape> = OnceLock::new();
    let shape = SHAPE.get_or_init(|| Shape::of(&schemars::schema_for!(ObjectMeta), false));
    let metadata = metadata.unwrap_or_else(|| Value::Object(Map::new()));
    let value = structure::conform(shape, metadata, at);
    let fields: ObjectMeta = serde_json::from_value(value).unwrap_or_default();
    let mut meta = Meta {
        namespace: match (kind.scope(), fields.namespace.as_str()) {
            (Scope::Cluster, _) => String::new(),
            (Scope::Namespaced, "") => namespace.to_owned(),
            (Scope::Namespaced, given) => given.to_owned(),
        },
        created: created(&fields.creation_timestamp, &at.key("creationTimestamp")),
        name: fields.name,
        labels: fields.labels,
        annotations: fields.annotations,
        generation: fields.generation,
        uid: fields.uid,
        resource_version: fields.resource_version,
        controller: controller(kind, fields.owner_references),
    };
    if meta.name.is_empty() && !fields.generate_name.is_empty() {
        at.key("generateName")
            .error("names are made by Kubernetes' API only; give metadata.name");
    } else {
        check_name(kind, &meta.name, &at.key("name"));
    }
    if kind.scope() == Scope::Namespaced && !meta.namespace.is_empty() {
        check_namespace(&meta.namespace, &at.key("namespace"));
    }
    check_labels(&meta.labels, &at.key("labels"));
    check_annotations(&meta.annotations, &at.key("annotations"));
    // What is longer is refused, and messages name the object.
    meta.name = clip(meta.name, clip::NAME);
    meta.namespace = clip(meta.namespace, clip::NAME);
    meta
}

/// The owner that is an object's controller: at most one is (Kubernetes' API concepts, "Owners and dependents").
fn controller(kind: Kind, owners: Vec<OwnerReference>) -> Option<Box<Owner>> {
    if !matches!(kind, Kind::Pod | Kind::WorkloadEntry) {
        return None;
    }
    let owner = owners.into_iter().find(|owner| owner.controller)?;
    Some(Box::new(Owner {
        api_version: clip(owner.api_version, clip::NAME),
        kind: clip(owner.kind, clip::NAME),
        name: clip(owner.name, clip::NAME),
    }))
}

fn created(timestamp: &str, at: &At<'_>) -> Option<i64> {
    if timestamp.is_empty() {
        return None;
    }
    match OffsetDateTime::parse(timestamp, &Rfc3339) {
        Ok(time) => Some(time.unix_timestamp()),
        Err(_) => {
            at.error(format!(
                "{timestamp:?} is not a time such as 2006-01-02T15:04:05Z"
            ));
            None
        }
    }
}

fn check_name(kind: Kind, name: &str, at: &At<'_>) {
    if name.is_empty() {
        at.error("every object needs a name");
    } else if matches!(kind, Kind::Namespace | Kind::Service | Kind::Gateway) {
        if !syntax::is_dns_label(name) {
            at.error(format!("{name:?} must be {}", syntax::DNS_LABEL));
        }
    } else if !syntax::is_dns_subdomain(name) {
        at.error(format!("{name:?} must be {}", syntax::DNS_SUBDOMAIN));
    }
}

fn check_namespace(namespace: &str, at: &At<'_>) {
    if !syntax::is_dns_label(namespace) {
        at.error(format!("{namespace:?} must be {}", syntax::DNS_LABEL));
    }
}

/// Kubernetes' rules for labels.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>, at: &At<'_>) {
    for (key, value) in labels {
        let at = at.key(key);
        if !syntax::is_label_key(key) {
            at.error(format!("{key:?} must be {}", syntax::LABEL_KEY));
        }
        if !syntax::is_label_value(value) {
            at.error(format!("{value:?} must be {}", syntax::LABEL_VALUE));
        }
    }
}

fn check_annotations(annotations: &BTreeMap<String, String>, at: &At<'_>) {
    for key in annotations.keys() {
        if !syntax::is_label_key(&key.to_ascii_lowercase()) {
            at.key(key)
                .error(format!("{key:?} must be {}", syntax::LABEL_KEY));
        }
    }
    let size: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > MAX_ANNOTATIONS {
        at.error(format!(
            "the annotations have {size} bytes together, more than the {MAX_ANNOTATIONS} allowed"
        ));
    }
}
