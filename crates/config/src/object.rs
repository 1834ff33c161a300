//! An object of configuration: its metadata, its typed body and where it came from.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kind::{Kind, Scope};
use crate::{Origin, Owner, Spec};

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind. [`Spec`] has fewer variants than there are kinds: see [`Spec`].
    pub kind: Kind,
    /// Name, labels and so on.
    pub meta: Meta,
    /// The typed body.
    pub spec: Spec,
    /// Where it was written.
    pub origin: Origin,
}

impl Object {
    /// What identifies the object.
    pub fn key(&self) -> ObjectKey {
        ObjectKey {
            kind: self.kind,
            namespace: self.meta.namespace.clone(),
            name: self.meta.name.clone(),
        }
    }
}

/// Metadata of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Empty for kinds of the whole cluster.
    pub namespace: String,
    /// Unique among the kind's objects in the namespace.
    pub name: String,
    /// Labels, by which selectors choose.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Counts changes of the body; 0 where the source does not count.
    pub generation: i64,
    /// Seconds since 1970, when known.
    pub created: Option<i64>,
    /// Given by Kubernetes; empty otherwise.
    pub uid: String,
    /// Given by Kubernetes; empty otherwise.
    pub resource_version: String,
    /// The controller that made it, of a Pod and of a WorkloadEntry; kept of no other kind.
    pub controller: Option<Box<Owner>>,
}

/// Identifies an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for kinds of the whole cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// A key.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The name in the feed: `NAMESPACE/NAME`, or `NAME` for kinds of the whole cluster.
    pub fn resource_name(&self) -> String {
        match self.kind.scope() {
            Scope::Namespaced => format!("{}/{}", self.namespace, self.name),
            Scope::Cluster => self.name.clone(),
        }
    }

    /// The key that [`Self::resource_name`] was made from; none when the name has not the kind's form.
    pub fn from_resource_name(kind: Kind, resource_name: &str) -> Option<Self> {
        match kind.scope() {
            Scope::Cluster => (!resource_name.contains('/')).then(|| Self::new(kind, "", resource_name)),
            Scope::Namespaced => {
                let (namespace, name) = resource_name.split_once('/')?;
                (!name.contains('/')).then(|| Self::new(kind, namespace, name))
            }
        }
    }
}

impl fmt::Display for ObjectKey {
    /// `VirtualService shop/reviews`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => write!(f, "{} {}", self.kind, self.name),
            false => write!(f, "{} {}/{}", self.kind, self.namespace, self.name),
        }
    }
}

/// An [`ObjectKey`]'s JSON form.
#[derive(Serialize, Deserialize)]
struct KeyFields {
    #[serde(rename = "type")]
    type_url: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let type_url = self.kind.type_url().to_owned();
        KeyFields {
            type_url,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ObjectKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = KeyFields::deserialize(deserializer)?;
        let kind = Kind::from_type_url(&fields.type_url).ok_or_else(|| {
            serde::de::Error::custom(format_args!("no kind has the type {:?}", fields.type_url))
        })?;
        Ok(Self {
            kind,
            namespace: fields.namespace,
            name: fields.name,
        })
    }
}
