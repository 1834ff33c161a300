//! Telemetry: providers, tags and metric overrides.

use cel::parser::PrattParser;

use super::common::{attachment, some_duration};
use super::header;
use crate::path::At;
use crate::telemetry::{Metrics, TagOperation, Telemetry, Tracing};

/// Deepest nesting of an expression.
const MAX_NESTING: u16 = 48;

/// Checks a Telemetry.
pub(super) fn check(spec: &Telemetry, at: &At<'_>) {
    attachment(
        spec.selector.as_ref(),
        spec.target_ref.as_ref(),
        &spec.target_refs,
        at,
    );
    if spec.tracing.len() > 1 {
        at.key("tracing").warning("only the first entry has an effect");
    }
    at.each("tracing", &spec.tracing, tracing);
    at.each("metrics", &spec.metrics, metrics);
    at.each("accessLogging", &spec.access_logging, |logging, at| {
        at.some("filter", logging.filter.as_ref(), |filter, at| {
            expression(&filter.expression, &at.key("expression"));
        });
    });
}

/// CEL, as Envoy evaluates it: which requests are logged, or what a tag is worth. Its names are checked by Envoy alone.
fn expression(text: &str, at: &At<'_>) {
    if text.len() > expr::MAX_LENGTH {
        let (size, limit) = (text.len(), expr::MAX_LENGTH);
        return at.error(format!(
            "the expression has {size} bytes, more than the {limit} allowed"
        ));
    }
    let parser = PrattParser::new().max_recursion_depth(MAX_NESTING);
    if let Err(errors) = parser.parse(text) {
        let reason = errors.errors.first().map_or("", |error| error.msg.trim());
        at.error_help(
            format!("{text:?} is not an expression in CEL: {reason}"),
            "write one such as response.code >= 400",
        );
    }
}

fn tracing(tracing: &Tracing, at: &At<'_>) {
    if tracing.providers.len() > 1 {
        at.key("providers")
            .warning("only the first provider has an effect");
    }
    for (name, tag) in &tracing.custom_tags {
        let at = at.key("customTags");
        at.require(!name.is_empty(), "a tag's name must not be empty");
        let given = [
            tag.literal.is_some(),
            tag.environment.is_some(),
            tag.header.is_some(),
            tag.formatter.is_some(),
        ];
        at.key(name).some("formatter", tag.formatter.as_ref(), |tag, at| {
            if let Some(fault) = header::command_fault(&tag.value) {
                at.key("value").error(format!(
                    "{fault}; Envoy would refuse every listener with this tag"
                ));
            }
        });
        at.key(name).require(
            given.contains(&true),
            "no value is given; literal, environment, header or formatter is needed",
        );
    }
}

fn metrics(metrics: &Metrics, at: &At<'_>) {
    some_duration("reportingInterval", metrics.reporting_interval, at);
    at.each("overrides", &metrics.overrides, |change, at| {
        for (name, tag) in &change.tag_overrides {
            let at = at.key("tagOverrides");
            let at = at.key(name);
            match (tag.operation, tag.value.is_empty()) {
                (TagOperation::Upsert, true) => at
                    .key("value")
                    .error("operation UPSERT needs the tag's new value"),
                (TagOperation::Remove, false) => {
                    at.key("value")
                        .error("operation REMOVE takes no value; remove it or use UPSERT");
                }
                (TagOperation::Upsert, false) => expression(&tag.value, &at.key("value")),
                (TagOperation::Remove, true) => {}
            }
        }
    });
}
