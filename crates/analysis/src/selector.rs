//! Label selectors: Kubernetes' with expressions, and how a selector is written in a message.

use std::collections::BTreeMap;

use config::selector::{LabelSelector, LabelSelectorRequirement};
use model::selects;

/// Labels by key.
pub(crate) type Labels = BTreeMap<String, String>;

/// `a=1,b=2`.
pub(crate) fn text(selector: &Labels) -> String {
    let pairs: Vec<String> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// Whether the selector selects `labels`; an absent one selects everything, one with an unknown operator nothing.
pub(crate) fn matches(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    selector.is_none_or(|selector| {
        selects(&selector.match_labels, labels)
            && selector
                .match_expressions
                .iter()
                .all(|expression| holds(expression, labels))
    })
}

fn holds(expression: &LabelSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&expression.key);
    let listed = || value.is_some_and(|value| expression.values.contains(value));
    match expression.operator.as_str() {
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

    #[test]
    fn expressions() {
        let labels = Labels::from([("a".to_owned(), "1".to_owned())]);
        for (operator, key, values, expected) in [
            ("In", "a", vec!["1", "2"], true),
            ("In", "b", vec!["1"], false),
            ("NotIn", "a", vec!["1"], false),
            ("NotIn", "b", vec!["1"], true),
            ("Exists", "a", vec![], true),
            ("DoesNotExist", "a", vec![], false),
            ("Near", "a", vec!["1"], false),
        ] {
            let selector = LabelSelector {
                match_expressions: vec![LabelSelectorRequirement {
                    key: key.to_owned(),
                    operator: operator.to_owned(),
                    values: values.into_iter().map(str::to_owned).collect(),
                }],
                ..LabelSelector::default()
            };
            assert_eq!(matches(Some(&selector), &labels), expected, "{operator} {key}");
        }
        assert!(matches(None, &labels));
    }
}
