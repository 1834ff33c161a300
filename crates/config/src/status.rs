//! What controllers have written into `status` of an object, as far as analysis reads it. It is no configuration: it is not
//! checked, does not travel in the feed, and what cannot be read of it counts as absent.

use serde_json::Value;

/// Most conditions or addresses read of one object.
const MAX_ITEMS: usize = 256;

/// The status of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `conditions`; of routes those of all `parents`.
    pub conditions: Vec<Condition>,
    /// Values of `addresses`, which ServiceEntries are given by a controller.
    pub addresses: Vec<String>,
}

/// One condition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Such as `Accepted`.
    pub r#type: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
}

impl Status {
    /// The status that an object's JSON has; none when there is nothing to read in it.
    pub(crate) fn of(object: &Value) -> Option<Self> {
        let status = object.get("status")?;
        let parents = items(status, "parents");
        let conditions = items(status, "conditions").chain(parents.flat_map(|p| items(p, "conditions")));
        let found = Self {
            conditions: conditions.take(MAX_ITEMS).map(condition).collect(),
            addresses: items(status, "addresses")
                .take(MAX_ITEMS)
                .map(|address| text(address, "value"))
                .collect(),
        };
        (found != Self::default()).then_some(found)
    }
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, key: &str) -> String {
    value
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn condition(value: &Value) -> Condition {
    Condition {
        r#type: text(value, "type"),
        status: text(value, "status"),
        reason: text(value, "reason"),
        message: text(value, "message"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_of_objects_and_of_parents() {
        let one = json!({"type": "Accepted", "status": "False", "reason": "No", "message": "not so"});
        for status in [
            json!({"conditions": [one]}),
            json!({"parents": [{"conditions": [one]}]}),
        ] {
            let found = Status::of(&json!({"status": status})).unwrap();
            assert_eq!(found.conditions.len(), 1);
            assert_eq!(found.conditions[0].reason, "No");
        }
        assert_eq!(Status::of(&json!({"status": {"conditions": "?"}})), None);
        assert_eq!(Status::of(&json!({})), None);
    }
}
