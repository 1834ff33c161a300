//! Compares an object's `.status` in the cluster with what it should say, and makes the patch between them.
//!
//! Pure. What others wrote into the status stays: other conditions, addresses that a controller gave.

use serde_json::{Map, Value, json};

use super::wanted::{Condition, Wanted};

/// The merge patch (RFC 7386) of the status subresource; `None` when nothing has to change. `now` is the time of conditions
/// that change their state, RFC 3339.
///
/// A list in a merge patch replaces the whole list, so the patch must be guarded by the object's resourceVersion.
#[must_use]
pub fn plan(current: Option<&Value>, wanted: &Wanted, now: &str) -> Option<Value> {
    let mut patch = Map::new();
    let field = |name: &str| current.and_then(|status| status.get(name));
    if generation(field("observedGeneration")) != Some(wanted.generation) {
        patch.insert("observedGeneration".to_owned(), json!(wanted.generation));
    }
    if let Some(conditions) = conditions(field("conditions"), wanted, now) {
        patch.insert("conditions".to_owned(), Value::Array(conditions));
    }
    let messages = wanted.messages();
    match field("validationMessages") {
        None | Some(Value::Null) if messages.is_empty() => {}
        Some(Value::Array(is)) if *is == messages => {}
        // An empty list and none mean the same; none is what a reader expects.
        _ if messages.is_empty() => _ = patch.insert("validationMessages".to_owned(), Value::Null),
        _ => _ = patch.insert("validationMessages".to_owned(), Value::Array(messages)),
    }
    (!patch.is_empty()).then(|| json!({ "status": patch }))
}

/// Istio writes it as a number or as a text.
fn generation(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::String(text) => text.parse().ok(),
        value => value.as_i64(),
    }
}

/// The whole list with Galley's conditions in it; `None` when they are there already.
fn conditions(current: Option<&Value>, wanted: &Wanted, now: &str) -> Option<Vec<Value>> {
    let is: Vec<Value> = current.and_then(Value::as_array).cloned().unwrap_or_default();
    let mut list = is.clone();
    for condition in wanted.conditions() {
        let of_type = |each: &&mut Value| each.get("type").and_then(Value::as_str) == Some(condition.r#type);
        match list.iter_mut().find(of_type) {
            Some(old) if says(old, &condition, wanted.generation) => {}
            Some(old) => *old = written(&condition, wanted.generation, Some(old), now),
            None => list.push(written(&condition, wanted.generation, None, now)),
        }
    }
    (list != is).then_some(list)
}

fn says(old: &Value, condition: &Condition, at: i64) -> bool {
    let text = |field: &str| old.get(field).and_then(Value::as_str);
    text("status") == Some(condition.status)
        && text("reason") == Some(condition.reason)
        && text("message") == Some(&condition.message)
        && generation(old.get("observedGeneration")) == Some(at)
}

fn written(condition: &Condition, at: i64, old: Option<&Value>, now: &str) -> Value {
    let same_state = |old: &&Value| old.get("status").and_then(Value::as_str) == Some(condition.status);
    let since = old
        .filter(same_state)
        .and_then(|old| old.get("lastTransitionTime"))
        .cloned();
    json!({
        "type": condition.r#type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": at,
        "lastTransitionTime": since.unwrap_or_else(|| json!(now)),
    })
}

#[cfg(test)]
mod tests {
    use config::Severity;
    use proptest::prelude::*;

    use super::super::progress::Progress;
    use super::super::wanted::Said;
    use super::*;

    const NOW: &str = "2026-02-03T04:05:06Z";

    fn wanted(accepted: u32, messages: usize) -> Wanted {
        Wanted {
            generation: 2,
            served: true,
            progress: Some(Progress {
                proxies: 5,
                accepted,
                ..Progress::default()
            }),
            messages: (0..messages)
                .map(|number| Said {
                    code: "IST0101".to_owned(),
                    name: "ReferencedResourceNotFound".to_owned(),
                    severity: Severity::Error,
                    url: "https://example.com".to_owned(),
                    text: format!("text {number}"),
                })
                .collect(),
            compiled: None,
        }
    }

    /// As the API server does it.
    fn apply(status: Option<&Value>, patch: &Value) -> Value {
        let mut merged = status.cloned().unwrap_or_else(|| json!({}));
        for (name, value) in patch["status"].as_object().unwrap() {
            match value {
                Value::Null => _ = merged.as_object_mut().unwrap().remove(name),
                value => merged[name] = value.clone(),
            }
        }
        merged
    }

    #[test]
    fn a_first_status_has_all_and_the_same_again_is_no_patch() {
        let patch = plan(None, &wanted(5, 1), NOW).unwrap();
        let status = apply(None, &patch);
        assert_eq!(status["observedGeneration"], 2);
        assert_eq!(status["conditions"][0]["message"], "5/5 proxies up to date");
        assert_eq!(status["conditions"][1]["status"], "False");
        assert_eq!(status["validationMessages"][0]["type"]["code"], "IST0101");
        assert_eq!(plan(Some(&status), &wanted(5, 1), "later"), None);
    }

    #[test]
    fn the_time_of_a_condition_changes_with_its_state_alone() {
        let status = apply(None, &plan(None, &wanted(3, 0), NOW).unwrap());
        let more = apply(
            Some(&status),
            &plan(Some(&status), &wanted(4, 0), "later").unwrap(),
        );
        assert_eq!(more["conditions"][0]["message"], "4/5 proxies up to date");
        assert_eq!(more["conditions"][0]["lastTransitionTime"], NOW);
        let all = apply(Some(&more), &plan(Some(&more), &wanted(5, 0), "later").unwrap());
        assert_eq!(all["conditions"][0]["lastTransitionTime"], "later");
        assert_eq!(
            all["conditions"][1]["lastTransitionTime"], NOW,
            "the other one is untouched"
        );
    }

    #[test]
    fn what_others_wrote_stays() {
        let other = json!({"type": "Accepted", "status": "True"});
        let status =
            json!({"addresses": [{"value": "240.0.0.1"}], "conditions": [other], "observedGeneration": "2"});
        let patch = plan(Some(&status), &wanted(5, 0), NOW).unwrap();
        assert!(
            patch["status"].get("observedGeneration").is_none(),
            "a text is a number too"
        );
        let merged = apply(Some(&status), &patch);
        assert_eq!(
            (&merged["conditions"][0], &merged["addresses"]),
            (&other, &status["addresses"])
        );
    }

    #[test]
    fn without_news_of_proxies_their_condition_stays() {
        let status = apply(None, &plan(None, &wanted(5, 0), NOW).unwrap());
        let silent = Wanted {
            progress: None,
            ..wanted(5, 0)
        };
        assert_eq!(plan(Some(&status), &silent, "later"), None);
    }

    #[test]
    fn messages_that_are_over_go() {
        let status = apply(None, &plan(None, &wanted(5, 2), NOW).unwrap());
        let merged = apply(Some(&status), &plan(Some(&status), &wanted(5, 0), NOW).unwrap());
        assert_eq!(merged.get("validationMessages"), None);
        let empty = json!({"validationMessages": []});
        assert_eq!(
            plan(Some(&empty), &wanted(5, 0), NOW).unwrap()["status"]["validationMessages"],
            Value::Null
        );
    }

    fn json_values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[A-Za-z]{0,12}".prop_map(Value::from),
            Just(json!("Reconciled")),
            Just(json!("True")),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(
                    (
                        prop_oneof![
                            Just("conditions"),
                            Just("type"),
                            Just("status"),
                            Just("validationMessages"),
                            Just("observedGeneration")
                        ],
                        inner
                    ),
                    0..4
                )
                .prop_map(|fields| Value::Object(
                    fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
                )),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_there_one_patch_is_enough(status in json_values(), accepted in 0..6u32, messages in 0..3usize) {
            let wanted = wanted(accepted, messages);
            let status = if status.is_object() { status } else { json!({}) };
            if let Some(patch) = plan(Some(&status), &wanted, NOW) {
                let merged = apply(Some(&status), &patch);
                prop_assert_eq!(plan(Some(&merged), &wanted, "later"), None);
            }
        }
    }
}
