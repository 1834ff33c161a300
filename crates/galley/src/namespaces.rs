//! Which namespaces the mesh looks at: MeshConfig's `discoverySelectors` (Istio's MeshConfig reference).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::selector::{LabelSelector, LabelSelectorRequirement};
use config::{Kind, Object, Scope};

/// The namespaces that are selected.
#[derive(Debug)]
pub(crate) struct Selected(BTreeSet<String>);

impl Selected {
    /// Those of which a Namespace among `objects` (in order of keys) matches one of the selectors; `None` without selectors,
    /// when all count.
    pub(crate) fn new(selectors: &[LabelSelector], objects: &[Arc<Object>]) -> Option<Self> {
        if selectors.is_empty() {
            return None;
        }
        let from = objects.partition_point(|object| object.kind < Kind::Namespace);
        let namespaces = objects
            .iter()
            .skip(from)
            .take_while(|object| object.kind == Kind::Namespace);
        let matched = namespaces.filter(|namespace| {
            selectors
                .iter()
                .any(|selector| matches(selector, &namespace.meta.labels))
        });
        Some(Self(
            matched.map(|namespace| namespace.meta.name.clone()).collect(),
        ))
    }

    /// Whether the object counts. The mesh's own settings and what belongs to no namespace do always.
    pub(crate) fn holds(&self, object: &Object) -> bool {
        object.kind.scope() == Scope::Cluster
            || matches!(object.kind, Kind::MeshConfig | Kind::MeshNetworks)
            || self.0.contains(&object.meta.namespace)
    }
}

/// Kubernetes' label selector: all labels and all expressions must hold, and an empty one matches everything.
fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let has = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    selector.match_labels.iter().all(has) && selector.match_expressions.iter().all(|each| holds(each, labels))
}

fn holds(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = || value.is_some_and(|value| requirement.values.contains(value));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operator: &str, key: &str, values: &[&str], expected: bool) {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        let requirement = LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let selector = LabelSelector {
            match_expressions: vec![requirement],
            ..LabelSelector::default()
        };
        assert_eq!(
            matches(&selector, &labels),
            expected,
            "{operator} {key} {values:?}"
        );
    }

    #[test]
    fn expressions() {
        check("In", "env", &["prod", "test"], true);
        check("In", "env", &["test"], false);
        check("In", "team", &["a"], false);
        check("NotIn", "env", &["test"], true);
        check("NotIn", "env", &["prod"], false);
        check("NotIn", "team", &["a"], true);
        check("Exists", "env", &[], true);
        check("Exists", "team", &[], false);
        check("DoesNotExist", "team", &[], true);
        check("Near", "env", &["prod"], false);
        assert!(matches(&LabelSelector::default(), &BTreeMap::new()));
    }
}
