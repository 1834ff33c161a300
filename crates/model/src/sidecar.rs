//! Sidecars with the workloads that they select.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::networking::Sidecar as SidecarSpec;
use config::{Object, ObjectKey};

use crate::export::selects;

/// A Sidecar.
#[derive(Debug, Clone, PartialEq)]
pub struct Sidecar {
    /// The object.
    pub key: ObjectKey,
    /// Labels of the workloads; the whole namespace if `None`.
    pub selector: Option<BTreeMap<String, String>>,
    /// What it says.
    pub spec: Arc<SidecarSpec>,
}

impl Sidecar {
    pub(crate) fn new(object: &Object, spec: &SidecarSpec) -> Sidecar {
        let selector = spec
            .workload_selector
            .as_ref()
            .map(|s| s.labels.clone())
            .filter(|s| !s.is_empty());
        Sidecar {
            key: object.key(),
            selector,
            spec: Arc::new(spec.clone()),
        }
    }
}

/// The Sidecar of a workload: one of its namespace that selects it, else its namespace's, else the root namespace's; the
/// oldest of several (Istio, "Sidecar").
pub(crate) fn choose<'a>(
    sidecars: &'a [Arc<Sidecar>],
    root: &str,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Option<&'a Arc<Sidecar>> {
    let in_namespace = |ns: &str| {
        sidecars
            .iter()
            .filter(move |s| s.key.namespace == *ns)
            .collect::<Vec<_>>()
    };
    let own = in_namespace(namespace);
    let selected = own.iter().find(|s| {
        s.selector
            .as_ref()
            .is_some_and(|selector| selects(selector, labels))
    });
    let of_namespace = own.iter().find(|s| s.selector.is_none());
    let of_root = || in_namespace(root).into_iter().find(|s| s.selector.is_none());
    selected.or(of_namespace).copied().or_else(of_root)
}
