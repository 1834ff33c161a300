//! Injection of manifests, as `argosy inject -f` does it: pods and everything that has a template of pods. Other objects go
//! through as they are.

use config::Owner;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

use crate::InjectError;
use crate::decide::{Decision, Skipped, decide};
use crate::inject::{Request, difference, into_pod};
use crate::settings::Settings;

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Its pods have a proxy.
    Injected,
    /// Its pods stay without.
    Skipped(Skipped),
    /// It has no pods.
    NoPods,
}

/// Why an object cannot be injected.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The pod's part is not what Kubernetes has.
    #[error("{kind} {namespace}/{name}: its pod is not one that Kubernetes knows: {error}")]
    Unreadable {
        /// Kind of the object.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Where it breaks off.
        error: serde_json::Error,
    },
    /// The pod asks for what cannot be.
    #[error("{kind} {namespace}/{name}: {error}")]
    Refused {
        /// Kind of the object.
        kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is wrong.
        error: InjectError,
    },
}

/// Where a kind has its pods.
fn place(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            Some("/spec/template")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Injects one object, or each of a `List`. `namespace` is where objects belong that name none.
///
/// # Errors
/// The first object that cannot be injected; those before it are.
pub fn inject_object(
    object: &mut Value,
    namespace: &str,
    settings: &Settings,
) -> Result<Vec<Outcome>, DocumentError> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if text("/kind") == "List" {
        let items = object
            .get_mut("items")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten();
        let outcomes = items.map(|item| inject_object(item, namespace, settings));
        return Ok(outcomes
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect());
    }
    let kind = text("/kind");
    let own = text("/metadata/namespace");
    let owner = Owner::new(&text("/apiVersion"), &kind, &text("/metadata/name"));
    let namespace = if own.is_empty() { namespace.to_owned() } else { own };
    let Some(pods) = place(&kind).and_then(|place| object.pointer_mut(place)) else {
        return Ok(vec![Outcome::NoPods]);
    };
    one(pods, &namespace, &owner, settings).map(|outcome| vec![outcome])
}

fn one(
    pods: &mut Value,
    namespace: &str,
    owner: &Owner,
    settings: &Settings,
) -> Result<Outcome, DocumentError> {
    let named = || (owner.kind.clone(), namespace.to_owned(), owner.name.clone());
    let pod: Pod = serde_json::from_value(as_pod(pods)).map_err(|error| {
        let (kind, namespace, name) = named();
        DocumentError::Unreadable {
            kind,
            namespace,
            name,
            error,
        }
    })?;
    if let Decision::Skip(reason) = decide(&pod, namespace, settings) {
        return Ok(Outcome::Skipped(reason));
    }
    let request = Request {
        pod: &pod,
        namespace,
        settings,
    };
    let changed = into_pod(&request, owner).and_then(|injected| difference(&pod, &injected));
    let patch = changed.map_err(|error| {
        let (kind, namespace, name) = named();
        DocumentError::Refused {
            kind,
            namespace,
            name,
            error,
        }
    })?;
    // The patch is for the pod as it was read, and what was read is a part of the object.
    let mut whole = as_pod(pods);
    if json_patch::patch(&mut whole, &patch).is_ok() {
        put_back(pods, whole);
    }
    Ok(Outcome::Injected)
}

/// A template is a pod without kind, and may lack metadata.
fn as_pod(pods: &Value) -> Value {
    let mut pod = pods.clone();
    if let Some(fields) = pod.as_object_mut() {
        fields.insert("apiVersion".to_owned(), "v1".into());
        fields.insert("kind".to_owned(), "Pod".into());
        fields
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()));
    }
    pod
}

fn put_back(pods: &mut Value, mut whole: Value) {
    if let Some(fields) = whole.as_object_mut() {
        for key in ["apiVersion", "kind"] {
            match pods.get(key) {
                Some(value) => fields.insert(key.to_owned(), value.clone()),
                None => fields.remove(key),
            };
        }
    }
    *pods = whole;
}
