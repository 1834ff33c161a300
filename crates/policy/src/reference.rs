//! How rules and adapters name handlers and instances: `name`, `name.namespace`, `name.kind`, `name.kind.namespace`,
//! where the kind is `handler` or `instance`, or the adapter's or template's own (Istio 1.1 to 1.4).

use std::collections::BTreeMap;

/// Something that can be referred to: its kind is in the name's form, not in its identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `handler`, `instance`, `denier`, `metric`, ….
    pub(crate) kind: String,
}

impl Name {
    /// As Istio shows it: `NAME.NAMESPACE`, or `NAME.KIND.NAMESPACE` for a kind of its own.
    pub(crate) fn full(&self) -> String {
        match self.kind.as_str() {
            "handler" => format!("{}.{}", self.name, self.namespace),
            kind => format!("{}.{kind}.{}", self.name, self.namespace),
        }
    }
}

/// Things by name.
#[derive(Clone, Debug)]
pub(crate) struct Names<T> {
    by_name: BTreeMap<(String, String), Vec<(String, T)>>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            by_name: BTreeMap::new(),
        }
    }
}

impl<T: Clone> Names<T> {
    pub(crate) fn insert(&mut self, name: Name, value: T) {
        self.by_name
            .entry((name.namespace, name.name))
            .or_default()
            .push((name.kind, value));
    }

    fn find(&self, namespace: &str, name: &str, kind: Option<&str>) -> Option<T> {
        let named = self.by_name.get(&(namespace.to_owned(), name.to_owned()))?;
        let generic = |kind: &str| kind == "handler" || kind == "instance";
        match kind {
            Some(kind) => named.iter().find(|(k, _)| k == kind),
            // Without a kind the newer form is meant first.
            None => named.iter().find(|(k, _)| generic(k)).or_else(|| named.first()),
        }
        .map(|(_, value)| value.clone())
    }

    /// What `reference` means in an object of `namespace`.
    pub(crate) fn resolve(&self, reference: &str, namespace: &str) -> Option<T> {
        if let Some(value) = self.find(namespace, reference, None) {
            return Some(value);
        }
        let (rest, last) = reference.rsplit_once('.')?;
        if let Some(value) = self
            .find(namespace, rest, Some(last))
            .or_else(|| self.find(last, rest, None))
        {
            return Some(value);
        }
        let (name, kind) = rest.rsplit_once('.')?;
        self.find(last, name, Some(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_reference() {
        let mut names = Names::default();
        let mut add = |namespace: &str, name: &str, kind: &str, value: u8| {
            names.insert(
                Name {
                    namespace: namespace.into(),
                    name: name.into(),
                    kind: kind.into(),
                },
                value,
            );
        };
        add("shop", "deny", "handler", 1);
        add("shop", "deny", "denier", 2);
        add("istio-system", "count", "metric", 3);
        add("shop", "dotted.name", "instance", 4);
        let check = |reference: &str, expected: Option<u8>| {
            assert_eq!(names.resolve(reference, "shop"), expected, "{reference}");
        };
        check("deny", Some(1));
        check("deny.denier", Some(2));
        check("deny.handler.shop", Some(1));
        check("deny.shop", Some(1));
        check("count", None);
        check("count.istio-system", Some(3));
        check("count.metric.istio-system", Some(3));
        check("count.metric", None);
        check("dotted.name", Some(4));
        check("nothing", None);
    }
}
