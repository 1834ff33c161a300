//! One state of several sources: each is a layer over those before it, and where two hold the same object the later one's is
//! served. What a MeshConfig says about all objects is applied here, since it may come from another source than they do.
//!
//! Pure: it is given states and knows no source.

use std::cmp::Ordering;
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::{Finding, Kind, Object, Severity, Spec};

use crate::derived;
use crate::namespaces::Selected;
use crate::store::{MESH_FILE, State};

/// The newest complete state of a source.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The source as people call it: a folder, or `the Kubernetes API`.
    pub name: Arc<str>,
    /// What it says.
    pub state: Arc<State>,
}

/// The state of all layers, the last one's objects first in rank. `trust_domain` is that of the mesh's certificates.
#[must_use]
pub fn merge(layers: &[Layer], trust_domain: &str) -> Arc<State> {
    let mut layers = layers.iter();
    let Some(first) = layers.next() else {
        return Arc::default();
    };
    let mut merged = layers.fold(first.state.clone(), |below, layer| Arc::new(over(&below, layer)));
    let mesh = mesh_config(&merged.objects);
    let selected = mesh.and_then(|(_, mesh)| Selected::new(&mesh.discovery_selectors, &merged.objects));
    let finding = other_trust_domain(trust_domain, mesh);
    if selected.is_some() || finding.is_some() {
        let state = Arc::make_mut(&mut merged);
        if let Some(selected) = selected {
            Arc::make_mut(&mut state.objects).retain(|object| selected.holds(object));
        }
        state.findings.extend(finding);
    }
    if derived::is_needed(&merged.objects) {
        let mesh = mesh_config(&merged.objects).map(|(_, mesh)| mesh.clone());
        derived::add(Arc::make_mut(&mut merged), mesh.as_ref());
    }
    merged
}

/// The mesh's settings; the first by name where there are several.
fn mesh_config(objects: &[Arc<Object>]) -> Option<(&Arc<Object>, &MeshConfig)> {
    let at = objects.partition_point(|object| object.kind < Kind::MeshConfig);
    match objects.get(at) {
        Some(object) => match &object.spec {
            Spec::MeshConfig(mesh) => Some((object, mesh)),
            _ => None,
        },
        None => None,
    }
}

/// A layer over what is below it.
fn over(below: &State, above: &Layer) -> State {
    let mut objects = Vec::with_capacity(below.objects.len() + above.state.objects.len());
    let mut findings = [&*below.findings, &*above.state.findings].concat();
    let (mut lower, mut upper) = (
        below.objects.iter().peekable(),
        above.state.objects.iter().peekable(),
    );
    loop {
        let order = match (lower.peek(), upper.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(two)) => by_key(one, two),
        };
        let one = lower.next_if(|_| order.is_le());
        let two = upper.next_if(|_| order.is_ge());
        if let (Some(one), Some(_)) = (one, two) {
            findings.push(covered(one, &above.name));
        }
        objects.extend(two.or(one).cloned());
    }
    let mut statuses = below.statuses.clone();
    if !above.state.statuses.is_empty() {
        let all = above.state.statuses.iter();
        Arc::make_mut(&mut statuses).extend(all.map(|(key, status)| (key.clone(), status.clone())));
    }
    // What one source does not see another may.
    let mut unseen = [&*below.unseen, &*above.state.unseen].concat();
    unseen.retain(|kind| !objects.iter().any(|object| object.kind == *kind));
    State {
        objects: Arc::new(objects),
        findings,
        statuses,
        unseen,
    }
}

/// The order of objects' keys.
pub(crate) fn by_key(a: &Object, b: &Object) -> Ordering {
    (a.kind.cmp(&b.kind))
        .then_with(|| a.meta.namespace.cmp(&b.meta.namespace))
        .then_with(|| a.meta.name.cmp(&b.meta.name))
}

fn covered(object: &Object, by: &str) -> Finding {
    Finding::new(
        Severity::Info,
        format!("is not served: {by} has an object of the same name, which is"),
    )
    .of(object.key())
    .from(object.origin.clone())
}

/// The finding that certificates are of another trust domain than MeshConfig's; proxies would not trust each other.
fn other_trust_domain(own: &str, mesh: Option<(&Arc<Object>, &MeshConfig)>) -> Option<Finding> {
    let said = mesh.map_or("", |(_, mesh)| mesh.trust_domain.as_str());
    let said = if said.is_empty() { "cluster.local" } else { said };
    (said != own).then(|| Finding {
        severity: Severity::Error,
        object: mesh.map(|(object, _)| object.key()),
        path: "trustDomain".to_owned(),
        message: format!("is {said}, but the mesh's certificates are of {own}, so proxies trust nobody"),
        help: Some(format!(
            "set trustDomain: {own} in {MESH_FILE}, or the other one in identity.yaml"
        )),
        origin: mesh.map(|(object, _)| object.origin.clone()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, yaml: &str, mesh: &str) -> Layer {
        let mut parsed = config::parse(&format!("{name}.yaml"), yaml.as_bytes(), "default");
        assert!(parsed.findings.is_empty(), "{:?}", parsed.findings);
        if !mesh.is_empty() {
            let mesh = config::parse_mesh_config("mesh.yaml", mesh.as_bytes(), "istio-system");
            parsed.objects.extend(mesh.objects);
        }
        let mut objects: Vec<_> = parsed.objects.into_iter().map(Arc::new).collect();
        objects.sort_by(|a, b| by_key(a, b));
        let state = Arc::new(State {
            objects: Arc::new(objects),
            ..State::default()
        });
        Layer {
            name: name.into(),
            state,
        }
    }

    fn services(names: &[(&str, &str)]) -> String {
        let one = |(namespace, name): &(&str, &str)| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  ports: [{{name: http, port: 80}}]\n"
            )
        };
        names.iter().map(one).collect::<Vec<_>>().join("---\n")
    }

    fn shown(state: &State) -> Vec<String> {
        let from = |object: &Arc<Object>| {
            format!(
                "{} {}",
                object.meta.name,
                object.origin.file.as_deref().unwrap_or("-")
            )
        };
        state.objects.iter().map(from).collect()
    }

    #[test]
    fn a_later_layer_wins_and_says_so() {
        let base = layer("base", &services(&[("shop", "a"), ("shop", "b")]), "");
        let over = layer("over", &services(&[("shop", "b"), ("shop", "c")]), "");
        let merged = merge(&[base.clone(), over], "cluster.local");
        assert_eq!(shown(&merged), ["a base.yaml", "b over.yaml", "c over.yaml"]);
        let told: Vec<String> = merged.findings.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with("base.yaml:") && told[0].contains("Service shop/b: is not served: over"),
            "{told:?}"
        );
        let alone = merge(std::slice::from_ref(&base), "cluster.local");
        assert!(Arc::ptr_eq(&alone, &base.state), "one layer costs nothing");
    }

    #[test]
    fn only_namespaces_that_are_selected_count() {
        let namespaces = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {mesh: 'yes'}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n---\n";
        let objects = services(&[("shop", "a"), ("other", "b"), ("nowhere", "c")]);
        let objects = layer("objects", &format!("{namespaces}{objects}"), "");
        let check = |mesh: &str, served: &[&str]| {
            let merged = merge(&[objects.clone(), layer("mesh", "", mesh)], "cluster.local");
            let names = merged
                .objects
                .iter()
                .filter(|object| object.kind == Kind::Service);
            assert_eq!(
                names.map(|o| o.meta.name.as_str()).collect::<Vec<_>>(),
                served,
                "{mesh}"
            );
            assert!(
                merged
                    .objects
                    .iter()
                    .any(|object| object.kind == Kind::MeshConfig)
            );
            assert_eq!(
                merged
                    .objects
                    .iter()
                    .filter(|o| o.kind == Kind::Namespace)
                    .count(),
                2
            );
        };
        check("enableAutoMtls: true", &["c", "b", "a"]);
        check("discoverySelectors: [{matchLabels: {mesh: 'yes'}}]", &["a"]);
        check(
            "discoverySelectors: [{matchLabels: {mesh: 'no'}}, {matchExpressions: [{key: mesh, operator: DoesNotExist}]}]",
            &["b"],
        );
    }

    #[test]
    fn kinds_of_istio_1_4_are_in_force_as_todays() {
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {selector: {app: a}, ports: [{name: http, port: 80}]}\n---\n";
        let rbac = "apiVersion: rbac.istio.io/v1alpha1\nkind: ClusterRbacConfig\nmetadata: {name: default}\nspec: {mode: 'ON'}\n";
        let parsed = config::parse("f.yaml", rbac.as_bytes(), "default");
        let mut below = layer("service", service, "");
        let state = Arc::make_mut(&mut below.state);
        let objects = Arc::make_mut(&mut state.objects);
        objects.extend(parsed.objects.into_iter().map(Arc::new));
        objects.sort_by(|a, b| by_key(a, b));
        let merged = merge(&[below], "cluster.local");
        let keys: Vec<String> = merged
            .objects
            .iter()
            .map(|object| object.key().to_string())
            .collect();
        assert_eq!(
            keys,
            [
                "AuthorizationPolicy shop/legacy-rbac.a",
                "ClusterRbacConfig default",
                "Service shop/a"
            ]
        );
        let told: Vec<String> = merged.findings.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("ClusterRbacConfig default: a kind of Istio 1.4, in force as"),
            "{told:?}"
        );
    }

    #[test]
    fn a_trust_domain_other_than_the_certificates_is_told() {
        let check = |mesh: &str, own: &str, expected: Option<&str>| {
            let merged = merge(&[layer("a", &services(&[("shop", "a")]), mesh)], own);
            let told: Vec<String> = merged.findings.iter().map(ToString::to_string).collect();
            assert_eq!(told.len(), usize::from(expected.is_some()), "{told:?}");
            assert!(expected.is_none_or(|words| told[0].contains(words)), "{told:?}");
        };
        check("trustDomain: example.org", "example.org", None);
        check("enableAutoMtls: true", "cluster.local", None);
        check(
            "trustDomain: example.org",
            "cluster.local",
            Some("mesh.yaml:1:1: MeshConfig istio-system/istio: trustDomain"),
        );
        check("enableAutoMtls: true", "example.org", Some("is cluster.local"));
        check("", "example.org", Some("trustDomain: example.org"));
    }
}
