//! What a proxy itself says of finished requests for Mixer's rules: metrics by the stats access logger, lines of JSON by the file
//! logger on its standard streams. Neither holds a request up, and both go on while Mixer is away.

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog, access_log::ConfigType};
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::extensions::access_loggers::stats::v3::{
    Config,
    config::{Counter, Gauge, Stat, Tag, gauge::Set},
};
use envoy_types::pb::envoy::r#type::v3::Scope;
use policy::{Amount, Count, Field, Line, Requirements, Text};
use serde_json::{Map, Value};

use crate::access_log;
use crate::telemetry::logs;
use crate::telemetry::metrics::STATS_LOGGER;
use crate::wire::{plain_any, u32_value, u64_value};

/// What stands before the names of these metrics in the proxy. The agent's page leaves it out; the beginning `istio` is what
/// proxies keep statistics of.
const PREFIX: &str = "istiomixer";

/// Most series that a proxy keeps of one logger: clients may write what becomes a label. Envoy counts what it leaves out in
/// `server.stats_overflow.counter` and `.gauge`.
const MAX_SERIES: u32 = 1_000;

/// The logs of finished requests.
pub(crate) fn logs(asks: &Requirements) -> Vec<AccessLog> {
    let counts = together(&asks.counts);
    counts
        .iter()
        .map(|counts| counted(counts))
        .chain(asks.lines.iter().map(written))
        .collect()
}

/// Metrics of the same requests are counted by one logger: the condition is evaluated once.
fn together(counts: &[Count]) -> Vec<Vec<&Count>> {
    let mut groups: Vec<Vec<&Count>> = Vec::new();
    for count in counts {
        let same = |group: &&mut Vec<&Count>| group.first().is_some_and(|first| first.when == count.when);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(count),
            None => groups.push(vec![count]),
        }
    }
    groups
}

fn counted(counts: &[&Count]) -> AccessLog {
    let (gauges, counters): (Vec<&Count>, Vec<&Count>) = counts.iter().partition(|count| count.gauge);
    let limit = u32_value(MAX_SERIES);
    let config = Config {
        stats_scope: Some(Scope {
            prefix: PREFIX.to_owned(),
            max_counters: limit,
            max_gauges: limit,
            ..Default::default()
        }),
        counters: counters.into_iter().map(counter).collect(),
        gauges: gauges.into_iter().map(gauge).collect(),
        ..Default::default()
    };
    let when = counts.first().and_then(|count| count.when.as_deref());
    AccessLog {
        name: STATS_LOGGER.to_owned(),
        filter: when.map(logs::cel),
        config_type: Some(ConfigType::TypedConfig(plain_any(&config))),
    }
}

fn counter(count: &Count) -> Counter {
    let (value_fixed, value_format) = value(&count.value);
    Counter {
        stat: Some(stat(count)),
        value_fixed: value_fixed.and_then(u64_value),
        value_format,
    }
}

fn gauge(count: &Count) -> Gauge {
    let (value_fixed, value_format) = value(&count.value);
    Gauge {
        stat: Some(stat(count)),
        value_fixed: value_fixed.and_then(u64_value),
        value_format,
        set: Some(Set {
            log_type: AccessLogType::DownstreamEnd as i32,
        }),
        ..Default::default()
    }
}

fn value(amount: &Amount) -> (Option<u64>, String) {
    match amount {
        Amount::Fixed(number) => (Some(*number), String::new()),
        Amount::Text(text) => (None, format(text, "CEL")),
    }
}

fn stat(count: &Count) -> Stat {
    let tag = |(name, text): &(String, Text)| Tag {
        name: name.clone(),
        value_format: format(text, "CEL"),
        ..Default::default()
    };
    Stat {
        name: count.metric.clone(),
        tags: count.labels.iter().map(tag).collect(),
    }
}

fn written(line: &Line) -> AccessLog {
    let field = |(name, field): (&String, &Field)| {
        let format = match field {
            Field::Typed(text) => format(text, "TYPED_CEL"),
            Field::Text(text) => format(text, "CEL"),
            Field::Now => "%EMIT_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%".to_owned(),
        };
        (name.clone(), Value::String(format))
    };
    let fields: Map<String, Value> = line.fields.iter().map(field).collect();
    let path = if line.stderr { "/dev/stderr" } else { "/dev/stdout" };
    AccessLog {
        filter: line.when.as_deref().map(logs::cel),
        ..access_log::to_file(path, access_log::labels(&fields), false)
    }
}

/// A text as one of Envoy's formats; `operator` evaluates CEL.
fn format(text: &Text, operator: &str) -> String {
    match text {
        Text::Fixed(text) => text.replace('%', "%%"),
        // A command ends at `%`, which CEL has within literals alone.
        Text::Cel(cel) => format!("%{operator}({})%", cel.replace('%', "\\u0025")),
        Text::Flags => "%RESPONSE_FLAGS%".to_owned(),
        Text::RequestBytes => "%BYTES_RECEIVED%".to_owned(),
        Text::SourceIp => "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_hold_no_command_of_a_text() {
        let check = |text: Text, expected: &str| assert_eq!(format(&text, "CEL"), expected);
        check(Text::Fixed("50% %REQ(A)%".into()), "50%% %%REQ(A)%%");
        check(Text::Cel("'50%'".into()), r"%CEL('50\u0025')%");
    }
}
