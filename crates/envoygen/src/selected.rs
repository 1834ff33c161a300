//! Objects that choose workloads by labels or by the Kubernetes Gateway that a proxy serves, with the namespaces that they act in:
//! those of the root namespace everywhere, others in their own (Istio, "WorkloadSelector").

use std::collections::BTreeMap;

use config::selector::{PolicyTargetReference, WorkloadSelector};
use config::{Kind, ObjectKey, Spec};
use model::Snapshot;

/// A label by which Istio names the Kubernetes Gateway that a proxy serves.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// A label by which Istio names that Gateway's class.
const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";

/// One such object.
#[derive(Debug, Clone)]
pub(crate) struct Selecting {
    pub(crate) key: ObjectKey,
    selector: BTreeMap<String, String>,
    /// Names of Kubernetes Gateways; none where the object attaches to workloads by labels.
    gateways: Option<Vec<String>>,
}

impl Selecting {
    /// Whether it is for all workloads of its namespace.
    pub(crate) fn is_wide(&self) -> bool {
        self.selector.is_empty() && self.gateways.is_none()
    }

    /// Whether it chooses a workload of `namespace` with these labels.
    pub(crate) fn selects(&self, root: &str, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let own = self.key.namespace == namespace;
        let attached =
            |names: &Vec<String>| own && labels.get(GATEWAY_NAME).is_some_and(|name| names.contains(name));
        (own || self.key.namespace == root)
            && model::selects(&self.selector, labels)
            && self.gateways.as_ref().is_none_or(attached)
    }
}

/// The objects of a snapshot that change proxies by selection, each kind oldest first.
#[derive(Debug, Default)]
pub(crate) struct Selected {
    root: String,
    telemetries: Vec<Selecting>,
    extensions: Vec<Selecting>,
}

impl Selected {
    pub(crate) fn new(snapshot: &Snapshot) -> Selected {
        Selected {
            root: snapshot.root_namespace().to_owned(),
            telemetries: of_kinds(snapshot, &[Kind::Telemetry]),
            extensions: of_kinds(snapshot, &[Kind::WasmPlugin, Kind::TrafficExtension]),
        }
    }

    /// The Telemetry objects for a workload, those that count more behind those that count less: the root namespace's, its
    /// namespace's, those that choose it. Of several that are for a whole namespace the oldest counts.
    pub(crate) fn telemetries(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<ObjectKey> {
        let wide = |ns: &str| {
            self.telemetries
                .iter()
                .find(|t| t.key.namespace == ns && t.is_wide())
        };
        let of_root = wide(&self.root);
        let of_namespace = (namespace != self.root).then(|| wide(namespace)).flatten();
        let own = self.telemetries.iter().filter(|t| {
            t.key.namespace == namespace && !t.is_wide() && t.selects(&self.root, namespace, labels)
        });
        let all = of_root.into_iter().chain(of_namespace).chain(own);
        all.map(|t| t.key.clone()).collect()
    }

    /// The WasmPlugins and TrafficExtensions for a workload.
    pub(crate) fn extensions(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<ObjectKey> {
        let own = self
            .extensions
            .iter()
            .filter(|e| e.selects(&self.root, namespace, labels));
        own.map(|e| e.key.clone()).collect()
    }
}

fn of_kinds(snapshot: &Snapshot, kinds: &[Kind]) -> Vec<Selecting> {
    let mut found: Vec<_> = kinds.iter().flat_map(|kind| snapshot.of_kind(*kind)).collect();
    found.sort_by_key(|o| {
        (
            o.meta.created.is_none(),
            o.meta.created,
            o.meta.name.clone(),
            o.meta.namespace.clone(),
        )
    });
    let selecting = |spec: &Spec| match spec {
        Spec::Telemetry(t) => Some(targets(
            t.selector.as_ref(),
            t.target_ref.iter().chain(&t.target_refs),
        )),
        Spec::WasmPlugin(w) => Some(targets(
            w.selector.as_ref(),
            w.target_ref.iter().chain(&w.target_refs),
        )),
        Spec::TrafficExtension(e) => Some(targets(e.selector.as_ref(), e.target_refs.iter())),
        _ => None,
    };
    let objects = found.into_iter().filter_map(|object| {
        let (selector, gateways) = selecting(&object.spec)?;
        Some(Selecting {
            key: object.key(),
            selector,
            gateways,
        })
    });
    objects.collect()
}

/// Whether a policy of `namespace` that names `targets` is for a proxy: none are named, or one of them is the Kubernetes Gateway
/// that the proxy serves, in its own namespace, or the class of that Gateway, for policies of the root namespace (Istio,
/// "PolicyTargetReference"). Services and ServiceEntries choose nothing: only waypoints stand in front of them.
pub(crate) fn attaches<'a>(
    mut targets: impl Iterator<Item = &'a PolicyTargetReference>,
    policy: &ObjectKey,
    root: &str,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    let is = |label: &str, name: &str| labels.get(label).is_some_and(|value| value == name);
    let mut named = false;
    let found = targets.any(|target| {
        named = true;
        match target.kind.as_str() {
            "Gateway" => policy.namespace == namespace && is(GATEWAY_NAME, &target.name),
            "GatewayClass" => policy.namespace == root && is(GATEWAY_CLASS, &target.name),
            _ => false,
        }
    });
    found || !named
}

/// What an object attaches to. References to other kinds than Gateways choose nothing here: only waypoints would serve them.
fn targets<'a>(
    selector: Option<&WorkloadSelector>,
    targets: impl Iterator<Item = &'a PolicyTargetReference>,
) -> (BTreeMap<String, String>, Option<Vec<String>>) {
    let targets: Vec<_> = targets.collect();
    let gateways = targets
        .iter()
        .filter(|target| target.kind == "Gateway")
        .map(|target| target.name.clone());
    let gateways = (!targets.is_empty()).then(|| gateways.collect());
    (
        selector.map(|s| s.match_labels.clone()).unwrap_or_default(),
        gateways,
    )
}
