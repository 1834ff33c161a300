//! Which kinds are watched, in which version and how much of them.
//!
//! Pure: it is given CustomResourceDefinitions as JSON.

use std::collections::BTreeMap;

use config::Kind;
use serde_json::Value;

/// How much of a kind is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Whole objects.
    Full,
    /// Metadata: the mesh reads nothing else of them.
    Metadata,
    /// Whole objects, of the root namespace alone.
    RootNamespace,
}

/// How a kind is watched; `None` for one that Galley does not ask the API for. Secrets are Citadel's to read, and so are the
/// facts about them; MeshConfig and MeshNetworks are in a ConfigMap; nobody reads anything of ServiceAccounts.
pub(super) fn extent(kind: Kind) -> Option<Extent> {
    match kind {
        Kind::Secret | Kind::SecretFacts | Kind::MeshConfig | Kind::MeshNetworks | Kind::ServiceAccount => {
            None
        }
        Kind::Namespace | Kind::Node => Some(Extent::Metadata),
        Kind::ConfigMap => Some(Extent::RootNamespace),
        _ => Some(Extent::Full),
    }
}

/// Kinds that every API server has.
pub(super) fn built_in() -> impl Iterator<Item = Kind> {
    let by_definition = |group: &str| group.ends_with(".istio.io") || group == "gateway.networking.k8s.io";
    let kinds = Kind::ALL.iter().copied().filter(|kind| extent(*kind).is_some());
    kinds.filter(move |kind| !by_definition(kind.group()))
}

/// Whether services start without the kind where reading it is not allowed.
pub(super) fn is_optional(kind: Kind) -> bool {
    kind.is_for_analysis() && kind != Kind::CustomResourceDefinition && kind != Kind::ConfigMap
}

/// The kinds that are there by definition, and the version that each is read in.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    by_name: BTreeMap<String, (Kind, &'static str)>,
}

impl Definitions {
    /// Takes a CustomResourceDefinition, new or changed. Says whether a kind came, went or has another version.
    pub(super) fn apply(&mut self, name: &str, definition: &Value) -> bool {
        match served(definition) {
            Some(kind) => self.by_name.insert(name.to_owned(), kind) != Some(kind),
            None => self.remove(name),
        }
    }

    /// A definition is gone.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.by_name.remove(name).is_some()
    }

    /// All definitions are those with these names.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) -> bool {
        let before = self.by_name.len();
        self.by_name.retain(|name, _| is_there(name));
        self.by_name.len() != before
    }

    /// The kinds to watch beside those that are always there.
    pub(super) fn kinds(&self) -> BTreeMap<Kind, &'static str> {
        self.by_name.values().copied().collect()
    }
}

/// The kind that a definition is for and the first of our versions that it serves. `None` for other kinds, and until the API
/// server has taken the definition up.
fn served(definition: &Value) -> Option<(Kind, &'static str)> {
    let text = |pointer: &str| definition.pointer(pointer).and_then(Value::as_str);
    let kind = Kind::find(text("/spec/group")?, text("/spec/names/kind")?)?;
    let is_ours = text("/spec/names/plural") == Some(kind.plural()) && !built_in().any(|other| other == kind);
    let list = |pointer: &str| {
        definition
            .pointer(pointer)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let is_established = list("/status/conditions").any(|c| {
        c.get("type").and_then(Value::as_str) == Some("Established")
            && c.get("status").and_then(Value::as_str) == Some("True")
    });
    if !is_ours || !is_established || extent(kind).is_none() {
        return None;
    }
    let is_served = |version: &&str| {
        list("/spec/versions").any(|v| {
            v.get("name").and_then(Value::as_str) == Some(version)
                && v.get("served").and_then(Value::as_bool) == Some(true)
        })
    };
    let version = kind.versions().iter().copied().find(is_served);
    if version.is_none() {
        tracing::warn!(%kind, "the cluster's CustomResourceDefinition serves none of the versions {}", kind.versions().join(", "));
    }
    Some((kind, version?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(
        group: &str,
        kind: &str,
        plural: &str,
        versions: &[(&str, bool)],
        established: &str,
    ) -> Value {
        let versions: Vec<Value> = versions
            .iter()
            .map(|(name, served)| json!({"name": name, "served": served}))
            .collect();
        json!({
            "spec": {"group": group, "names": {"kind": kind, "plural": plural}, "versions": versions},
            "status": {"conditions": [{"type": "Established", "status": established}]},
        })
    }

    #[test]
    fn a_definition_counts_once_it_is_established_in_a_version_that_is_known() {
        let check = |group: &str,
                     kind: &str,
                     plural: &str,
                     versions: &[(&str, bool)],
                     established: &str,
                     expected| {
            let mut definitions = Definitions::default();
            definitions.apply("x", &definition(group, kind, plural, versions, established));
            assert_eq!(
                definitions.kinds().into_iter().next(),
                expected,
                "{group} {kind} {versions:?}"
            );
        };
        let istio = "networking.istio.io";
        let new = [("v1alpha3", true), ("v1", true)];
        check(
            istio,
            "VirtualService",
            "virtualservices",
            &new,
            "True",
            Some((Kind::VirtualService, "v1")),
        );
        check(istio, "VirtualService", "virtualservices", &new, "False", None);
        let old = [("v1alpha3", true), ("v1", false)];
        check(
            istio,
            "VirtualService",
            "virtualservices",
            &old,
            "True",
            Some((Kind::VirtualService, "v1alpha3")),
        );
        check(
            istio,
            "VirtualService",
            "virtualservices",
            &[("v2", true)],
            "True",
            None,
        );
        check(istio, "VirtualService", "others", &new, "True", None);
        check(
            "example.com",
            "VirtualService",
            "virtualservices",
            &new,
            "True",
            None,
        );
        check(
            "mesh.istio.io",
            "MeshConfig",
            "meshconfigs",
            &[("v1alpha1", true)],
            "True",
            None,
        );
        let gateway = [("v1", true)];
        check(
            "gateway.networking.k8s.io",
            "Gateway",
            "gateways",
            &gateway,
            "True",
            Some((Kind::KubernetesGateway, "v1")),
        );
    }

    #[test]
    fn what_changes_is_news_and_what_does_not_is_none() {
        let mut definitions = Definitions::default();
        let one = definition(
            "networking.istio.io",
            "Gateway",
            "gateways",
            &[("v1", true)],
            "True",
        );
        assert!(definitions.apply("a", &one));
        assert!(!definitions.apply("a", &one));
        assert!(!definitions.apply("b", &json!({"spec": {"group": "example.com"}})));
        assert!(definitions.apply(
            "a",
            &definition(
                "networking.istio.io",
                "Gateway",
                "gateways",
                &[("v1beta1", true)],
                "True"
            )
        ));
        assert!(!definitions.retain(|name| name == "a"));
        assert!(definitions.remove("a"));
        assert!(!definitions.remove("a"));
    }

    #[test]
    fn secrets_are_not_read_and_settings_come_by_config_map() {
        let kinds: Vec<Kind> = built_in().collect();
        assert!(
            kinds.contains(&Kind::Service)
                && kinds.contains(&Kind::EndpointSlice)
                && kinds.contains(&Kind::ConfigMap)
        );
        assert!(
            !kinds.contains(&Kind::Secret)
                && !kinds.contains(&Kind::ServiceAccount)
                && !kinds.contains(&Kind::MeshConfig)
                && !kinds.contains(&Kind::VirtualService)
        );
        assert_eq!(extent(Kind::ConfigMap), Some(Extent::RootNamespace));
    }
}
