//! Which namespaces see an object (`exportTo`) and which labels an object selects. It knows no kinds.

use std::collections::{BTreeMap, BTreeSet};

/// The namespaces that see an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportTo {
    /// Every namespace (`*`).
    Everywhere,
    /// These alone; none for `~`.
    Namespaces(BTreeSet<String>),
}

impl ExportTo {
    /// Reads `exportTo` of an object in `own`; an empty list means MeshConfig's default, and an empty default `*`.
    pub fn new(values: &[String], default: &[String], own: &str) -> ExportTo {
        let values = if values.is_empty() { default } else { values };
        if values.is_empty() || values.iter().any(|v| v == "*") {
            return ExportTo::Everywhere;
        }
        let namespaces = values.iter().filter(|v| *v != "~");
        ExportTo::Namespaces(
            namespaces
                .map(|v| if v == "." { own.to_owned() } else { v.clone() })
                .collect(),
        )
    }

    /// Whether `namespace` sees the object.
    pub fn visible_in(&self, namespace: &str) -> bool {
        match self {
            ExportTo::Everywhere => true,
            ExportTo::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// Whether `labels` carry all of `selector`; an empty selector selects everything.
pub fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_to() {
        for (values, default, other, own) in [
            (vec![], vec![], true, true),
            (vec![], vec!["."], false, true),
            (vec!["*"], vec!["."], true, true),
            (vec!["~"], vec![], false, false),
            (vec!["other"], vec![], true, false),
            (vec![".", "other"], vec![], true, true),
        ] {
            let strings = |v: Vec<&str>| v.into_iter().map(str::to_owned).collect::<Vec<_>>();
            let export = ExportTo::new(&strings(values.clone()), &strings(default), "own");
            assert_eq!(export.visible_in("other"), other, "{values:?}");
            assert_eq!(export.visible_in("own"), own, "{values:?}");
        }
    }

    #[test]
    fn selectors() {
        let map = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| (k.to_string(), v.to_string()))
                .collect()
        };
        assert!(selects(&map(&[]), &map(&[("a", "1")])));
        assert!(selects(&map(&[("a", "1")]), &map(&[("a", "1"), ("b", "2")])));
        assert!(!selects(&map(&[("a", "2")]), &map(&[("a", "1")])));
        assert!(!selects(&map(&[("c", "")]), &map(&[("a", "1")])));
    }
}
