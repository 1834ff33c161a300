//! An object as a message of the feed, and back. The one place that knows both `config`'s form and the generated one.

use std::sync::Arc;

use bytes::Bytes;
use config::{Kind, Object, ObjectKey, Origin, Owner, Wire, WireError};
use prost::Message;
use proto::feed;
use xds::{Table, TypeUrl};

/// Why a resource of the feed is not used.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no message of the feed.
    #[error("{name}: not an object of the feed: {source}")]
    Message {
        /// The resource's name.
        name: String,
        /// The decoder's words.
        source: prost::DecodeError,
    },
    /// The object breaks its kind's rules here: both sides must be of the same release.
    #[error(transparent)]
    Object(#[from] WireError),
    /// The resource bears another object's name.
    #[error("{name}: holds {object}; Galley sent a wrong name")]
    Name {
        /// The resource's name.
        name: String,
        /// What is in it.
        object: ObjectKey,
    },
}

/// The feed's type URL of a kind: `GROUP/VERSION/KIND`.
#[must_use]
pub fn type_url(kind: Kind) -> TypeUrl {
    TypeUrl::fixed(kind.type_url())
}

/// The feed's table: a resource for each object of a kind that is distributed, named `NAMESPACE/NAME`. What `previous`
/// has already is shared.
#[must_use]
pub fn table(objects: &[Arc<Object>], previous: Option<&Table>) -> Table {
    let mut table = Table::builder();
    for object in objects.iter().filter(|object| !object.kind.is_for_analysis()) {
        table.insert(
            type_url(object.kind),
            object.key().resource_name().into(),
            encode(object),
        );
    }
    table.build(previous)
}

/// Whether an annotation of that key is read by anybody who gets the feed. Others stay at home: they change often
/// (`endpoints.kubernetes.io/last-change-trigger-time`) and are long (`kubectl.kubernetes.io/last-applied-configuration`).
#[must_use]
pub fn is_read(annotation: &str) -> bool {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let domain = annotation.split_once('/').map_or("", |(domain, _)| domain);
    domain == "istio.io"
        || domain.ends_with(".istio.io")
        || domain.ends_with(".argosy.io")
        || annotation == CLASS
        || annotation == config::networking::ALLOCATED_ADDRESSES
}

/// The object's message, encoded: the same object always gives the same bytes, and so do objects that differ in nothing
/// that is read.
#[must_use]
pub fn encode(object: &Object) -> Bytes {
    message(object).encode_to_vec().into()
}

/// Objects as one message, to be kept on disk.
#[must_use]
pub fn encode_all<'a>(objects: impl IntoIterator<Item = &'a Arc<Object>>) -> Vec<u8> {
    let objects = objects.into_iter().map(|object| message(object)).collect();
    feed::Objects { objects }.encode_to_vec()
}

/// The objects that [`encode_all`] wrote, and those of them that cannot be read any more (by a newer release, say).
///
/// # Errors
/// When the bytes are no such message.
pub fn decode_all(bytes: &[u8]) -> Result<Vec<Result<Object, DecodeError>>, prost::DecodeError> {
    let all = feed::Objects::decode(bytes)?;
    Ok(all.objects.into_iter().map(object).collect())
}

fn message(object: &Object) -> feed::Object {
    let wire = object.to_feed();
    let origin = feed::Origin {
        file: wire.origin.file.as_deref().unwrap_or_default().to_owned(),
        line: wire.origin.line,
        column: wire.origin.column,
    };
    feed::Object {
        api_version: wire.api_version,
        kind: wire.kind,
        namespace: wire.namespace,
        name: wire.name,
        labels: wire.labels,
        annotations: wire
            .annotations
            .into_iter()
            .filter(|(key, _)| is_read(key))
            .collect(),
        generation: wire.generation,
        uid: wire.uid,
        // It changes with each write, of the status too.
        resource_version: String::new(),
        created: wire.created,
        body: wire.body,
        origin: Some(origin),
        controller: wire.controller.map(|owner| feed::Owner {
            api_version: owner.api_version,
            kind: owner.kind,
            name: owner.name,
        }),
    }
}

/// The object in a resource.
///
/// # Errors
/// When it is no object of the feed, or not the one that the resource's name promises. It concerns this one alone.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Object, DecodeError> {
    let message = feed::Object::decode(bytes).map_err(|source| DecodeError::Message {
        name: name.to_owned(),
        source,
    })?;
    let object = object(message)?;
    match object.key() {
        key if key.resource_name() == name => Ok(object),
        object => Err(DecodeError::Name {
            name: name.to_owned(),
            object,
        }),
    }
}

fn object(message: feed::Object) -> Result<Object, DecodeError> {
    let origin = message.origin.unwrap_or_default();
    Ok(Object::from_feed(Wire {
        api_version: message.api_version,
        kind: message.kind,
        namespace: message.namespace,
        name: message.name,
        labels: message.labels,
        annotations: message.annotations,
        generation: message.generation,
        uid: message.uid,
        resource_version: message.resource_version,
        created: message.created,
        body: message.body,
        controller: message.controller.map(|owner| Owner {
            api_version: owner.api_version,
            kind: owner.kind,
            name: owner.name,
        }),
        origin: Origin {
            file: (!origin.file.is_empty()).then(|| origin.file.into()),
            line: origin.line,
            column: origin.column,
        },
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_reads_changes_no_version() {
        let text = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: shop\n  annotations: {networking.istio.io/exportTo: '*'}\nspec:\n  ports: [{name: http, port: 80}]\n";
        let object = config::parse("x.yaml", text.as_bytes(), "default")
            .objects
            .remove(0);
        let with = |key: &str, value: &str| {
            let mut other = object.clone();
            other.meta.annotations.insert(key.to_owned(), value.to_owned());
            encode(&other)
        };
        assert_eq!(
            encode(&object),
            with("kubectl.kubernetes.io/last-applied-configuration", "{}")
        );
        assert_eq!(encode(&object), with("myistio.io/owner", "me"));
        assert_ne!(encode(&object), with("networking.istio.io/exportTo", "."));
        assert_ne!(encode(&object), with("kubernetes.io/ingress.class", "istio"));
        assert_ne!(encode(&object), with("policy.argosy.io/fail-open", "true"));
        let mut written = object.clone();
        written.meta.resource_version = "17".to_owned();
        assert_eq!(encode(&object), encode(&written));
    }

    #[test]
    fn what_made_a_pod_travels_with_it() {
        let of = |kind: &str, owner: &str| {
            let text = format!(
                "apiVersion: v1\nkind: {kind}\nmetadata:\n  name: mysql-0\n  namespace: shop\n  ownerReferences: [{{apiVersion: apps/v1, kind: StatefulSet, name: other, uid: '1'}}, {{apiVersion: apps/v1, kind: StatefulSet, name: {owner}, uid: '2', controller: true, blockOwnerDeletion: true}}]\n"
            );
            let mut parsed = config::parse("x.yaml", text.as_bytes(), "default");
            assert!(parsed.findings.is_empty(), "{:?}", parsed.findings);
            encode(&parsed.objects.remove(0))
        };
        let bytes = of("Pod", "mysql");
        let object = decode("shop/mysql-0", &bytes).unwrap();
        let owner = Owner::new("apps/v1", "StatefulSet", "mysql");
        assert_eq!(object.meta.controller.as_deref(), Some(&owner));
        assert_eq!(encode(&object), bytes);
        assert_ne!(of("Pod", "postgres"), bytes);
        assert_eq!(
            of("ServiceAccount", "mysql"),
            of("ServiceAccount", "postgres"),
            "of other kinds nobody reads it"
        );
    }

    #[test]
    fn what_only_analysis_reads_does_not_leave_galley() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec:\n  ports: [{name: http, port: 80}]\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: shop}\ndata: {key: value}\n";
        let objects = config::parse("x.yaml", text.as_bytes(), "default").objects;
        assert_eq!(objects.len(), 2);
        let objects: Vec<Arc<Object>> = objects.into_iter().map(Arc::new).collect();
        let types: Vec<String> = table(&objects, None)
            .types()
            .map(|(url, _)| url.to_string())
            .collect();
        assert_eq!(types, ["core/v1/Service"]);
    }
}
