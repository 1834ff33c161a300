//! Metrics as statsd's lines, in both dialects, and lines as datagrams. Pure.
//!
//! `NAME:VALUE|c`, `|g`, `|ms`, `|h`, with `|@RATE` when only a part is sent (github.com/statsd/statsd, "Metric Types");
//! Datadog adds `|#TAG:VALUE,…` (docs.datadoghq.com, "Datagram format").

use policy::{Datum, Dogstatsd, InstanceValue, NamePart, Statsd, StatsdKind};

/// How a handler writes.
#[derive(Debug, Clone)]
pub(in crate::adapters) enum Dialect {
    Statsd(Statsd),
    Dogstatsd(Dogstatsd),
}

impl Dialect {
    /// The lines of a metric; none when it is not sampled, or is none of the handler's. `chance` is from 0 to 1.
    pub(super) fn lines(&self, instance: &InstanceValue, chance: f64) -> Option<String> {
        let key = instance.key.as_ref()?;
        let value = instance.fields.one("value")?;
        match self {
            Self::Statsd(statsd) => {
                let metric = statsd.metrics.get(key)?;
                // Only what is added up can be scaled back.
                let rate = match metric.kind {
                    StatsdKind::Counter => statsd.sampling,
                    _ => 1.0,
                };
                let name = match &metric.name {
                    Some(parts) => parts.iter().map(|part| named(part, instance)).collect(),
                    None => instance.name.to_string(),
                };
                let name = format!("{}{}", statsd.prefix, safe(&name, ":|@#"));
                (chance < rate).then(|| line(&name, metric.kind, value, rate, ""))?
            }
            Self::Dogstatsd(dogstatsd) => {
                let metric = dogstatsd.metrics.get(key)?;
                let name = format!("{}{}", dogstatsd.prefix, safe(&metric.name, ":|@#"));
                let dimensions = instance.fields.many("dimensions").iter();
                let dimensions = dimensions.map(|(name, value)| (name, value.to_string()));
                let fixed = dogstatsd.tags.iter().chain(&metric.tags);
                let tags = fixed.map(|(name, value)| (name, value.clone())).chain(dimensions);
                let tags: Vec<String> = tags
                    .map(|(name, value)| format!("{}:{}", safe(name, ",|#:"), safe(&value, ",|#")))
                    .collect();
                let tags = match tags.is_empty() {
                    true => String::new(),
                    false => format!("|#{}", tags.join(",")),
                };
                (chance < dogstatsd.sampling)
                    .then(|| line(&name, metric.kind, value, dogstatsd.sampling, &tags))?
            }
        }
    }
}

fn named(part: &NamePart, instance: &InstanceValue) -> String {
    match part {
        NamePart::Text(text) => text.clone(),
        NamePart::Dimension(name) => instance
            .fields
            .many("dimensions")
            .get(name)
            .map(Datum::to_string)
            .unwrap_or_default(),
    }
}

/// Text without what would end it in a line.
fn safe(text: &str, ends: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || ends.contains(c) {
                '_'
            } else {
                c
            }
        })
        .collect()
}

fn line(name: &str, kind: StatsdKind, value: &Datum, rate: f64, tags: &str) -> Option<String> {
    let number = value.number().filter(|number| number.is_finite())?;
    let sampled = match rate < 1.0 {
        true => format!("|@{rate}"),
        false => String::new(),
    };
    let one = |number: f64, letter: &str| format!("{name}:{number}|{letter}{sampled}{tags}");
    Some(match (kind, value) {
        (StatsdKind::Counter | StatsdKind::Unknown, _) => one(number, "c"),
        // A sign means a step: a gauge below zero is set to zero first.
        (StatsdKind::Gauge, _) if number < 0.0 => format!("{}\n{}", one(0.0, "g"), one(number, "g")),
        (StatsdKind::Gauge, _) => one(number, "g"),
        (StatsdKind::Distribution, Datum::Duration(_)) => one(number * 1000.0, "ms"),
        (StatsdKind::Distribution, _) => one(number, "h"),
    })
}

/// Lines put together to datagrams of at most `bytes` bytes and `most` lines; a longer line goes alone.
pub(super) fn datagrams(lines: &[String], bytes: usize, most: usize) -> Vec<String> {
    let mut datagrams: Vec<String> = Vec::new();
    let mut count = 0;
    for line in lines {
        match datagrams.last_mut() {
            Some(last) if count < most && last.len() + 1 + line.len() <= bytes => {
                last.push('\n');
                last.push_str(line);
                count += 1;
            }
            _ => {
                datagrams.push(line.clone());
                count = 1;
            }
        }
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use policy::Backend;
    use serde_json::{Value, json};

    use super::*;
    use crate::adapters::tests::{backend, instance};

    fn lines(adapter: &str, params: Value, value: Datum, chance: f64) -> Option<String> {
        let dialect = match backend(adapter, params) {
            Backend::Statsd(statsd) => Dialect::Statsd(statsd),
            Backend::Dogstatsd(dogstatsd) => Dialect::Dogstatsd(dogstatsd),
            other => panic!("{other:?}"),
        };
        let mut metric = instance("metric", &json!({"dimensions": {"app": "a,b|c", "code": 200}}));
        metric.fields.set("value", policy::FieldValue::One(value));
        dialect.lines(&metric, chance)
    }

    #[test]
    fn statsd() {
        let check = |kind: &str, value: Datum, expected: &str| {
            let metrics = json!({"i": {"type": kind, "nameTemplate": "{{.app}}-{{.code}}"}});
            let params = json!({"prefix": "p.", "samplingRate": 0.5, "metrics": metrics});
            assert_eq!(lines("statsd", params, value, 0.4).as_deref(), Some(expected));
        };
        check("COUNTER", Datum::Int(2), "p.a,b_c-200:2|c|@0.5");
        check("GAUGE", Datum::Double(1.5), "p.a,b_c-200:1.5|g");
        check("GAUGE", Datum::Int(-3), "p.a,b_c-200:0|g\np.a,b_c-200:-3|g");
        check("DISTRIBUTION", Datum::Duration(1_500_000), "p.a,b_c-200:1.5|ms");
        check("DISTRIBUTION", Datum::Int(7), "p.a,b_c-200:7|h");
        let params = json!({"samplingRate": 0.5, "metrics": {"i": {"type": "COUNTER"}}});
        assert_eq!(lines("statsd", params, Datum::Int(1), 0.5), None);
    }

    #[test]
    fn dogstatsd() {
        let metrics = json!({"i": {"type": "COUNTER", "name": "req", "tags": {"x": "1"}}});
        let params = json!({"globalTags": {"env": "prod"}, "metrics": metrics});
        assert_eq!(
            lines("dogstatsd", params, Datum::Int(1), 0.0).as_deref(),
            Some("istio.req:1|c|#env:prod,x:1,app:a_b_c,code:200")
        );
    }

    #[test]
    fn datagrams_are_filled_and_not_overfilled() {
        let lines = ["aaa", "bbb", "ccc", "dddddddddd"].map(str::to_owned);
        assert_eq!(
            datagrams(&lines, 7, usize::MAX),
            ["aaa\nbbb", "ccc", "dddddddddd"]
        );
        assert_eq!(datagrams(&lines, 100, 1), lines);
    }
}
