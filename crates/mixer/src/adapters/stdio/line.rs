//! Instances as lines, in the two forms of Istio's adapter: JSON, or text for people. Pure.

use std::time::SystemTime;

use policy::{FieldValue, InstanceValue, Level, Stdio};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Adds an instance's line; nothing when it matters less than the handler wants.
pub(super) fn write(text: &mut String, stdio: &Stdio, instance: &InstanceValue, now: SystemTime) {
    let level = level(stdio, instance);
    if level < stdio.least {
        return;
    }
    let time = instance.fields.time("timestamp").map_or_else(
        || OffsetDateTime::from(now),
        |nanos| OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos)).unwrap_or_else(|_| now.into()),
    );
    let time = time.format(&Rfc3339).unwrap_or_default();
    let fields = fields(instance);
    if stdio.json {
        let mut line = Map::new();
        line.insert("level".to_owned(), level.name().into());
        line.insert("time".to_owned(), time.into());
        line.insert("instance".to_owned(), (*instance.name).into());
        // Names of our own come first and are not replaced.
        for (name, value) in fields {
            line.entry(name).or_insert(value);
        }
        text.push_str(&Value::Object(line).to_string());
    } else {
        let fields = Value::Object(fields);
        text.push_str(&format!("{time}\t{}\t{}\t{fields}", level.name(), instance.name));
    }
    text.push('\n');
}

fn level(stdio: &Stdio, instance: &InstanceValue) -> Level {
    match &*instance.template {
        "logentry" => stdio.level(instance.fields.text("severity")),
        "metric" => stdio.metrics,
        _ => Level::Info,
    }
}

/// A log entry's variables, a metric's value and dimensions, and of other templates all fields.
fn fields(instance: &InstanceValue) -> Map<String, Value> {
    let mut all = Map::new();
    let own: &[&str] = match &*instance.template {
        "logentry" => &["timestamp", "severity"],
        _ => &["timestamp"],
    };
    for (name, value) in instance.fields.iter().filter(|(name, _)| !own.contains(name)) {
        match value {
            FieldValue::One(datum) => {
                all.insert(name.to_owned(), datum.json());
            }
            FieldValue::Many(values) if matches!(name, "variables" | "dimensions") => {
                all.extend(values.iter().map(|(name, datum)| (name.clone(), datum.json())));
            }
            FieldValue::Many(values) => {
                let values = values.iter().map(|(name, datum)| (name.clone(), datum.json()));
                all.insert(name.to_owned(), Value::Object(values.collect()));
            }
            FieldValue::Message(_) => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::adapters::tests::instance;
    use crate::adapters::tests::stdio;

    #[expect(clippy::needless_pass_by_value, reason = "calls read better")]
    fn line(params: Value, template: &'static str, fields: Value) -> String {
        let mut text = String::new();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
        write(&mut text, &stdio(params), &instance(template, &fields), now);
        text
    }

    #[test]
    fn both_forms() {
        let entry =
            json!({"severity": "warning", "variables": {"code": 200, "level": "mine", "path": "/a\nb"}});
        assert_eq!(
            line(json!({}), "logentry", entry.clone()),
            "{\"level\":\"warn\",\"time\":\"2017-07-14T02:40:00Z\",\"instance\":\"i.instance.shop\",\"code\":200,\
             \"path\":\"/a\\nb\"}\n"
        );
        assert_eq!(
            line(
                json!({"outputAsJson": false}),
                "metric",
                json!({"value": 1, "dimensions": {"app": "x"}})
            ),
            "2017-07-14T02:40:00Z\tinfo\ti.instance.shop\t{\"value\":1,\"app\":\"x\"}\n"
        );
        assert_eq!(line(json!({"outputLevel": "ERROR"}), "logentry", entry), "");
    }
}
