//! Rules that several kinds share: ports, durations, percentages, visibility, labels and selectors, headers, patterns.

use std::collections::BTreeSet;

use crate::networking::{LabelsSelector, Percent, PortSelector, StringMatch};
use crate::path::At;
use crate::selector::{PolicyTargetReference, WorkloadSelector};
use crate::{Duration, Protocol, syntax};

/// Longest expression accepted, in bytes (Istio's bound).
const MAX_EXPRESSION: usize = 1024;

/// A port number.
pub(super) fn port(port: u32, at: &At<'_>) {
    if !syntax::is_port(port) {
        at.error(format!("port {port} is not from 1 to 65535"));
    }
}

/// A port given as an object.
pub(super) fn port_selector(selector: &PortSelector, at: &At<'_>) {
    port(selector.number, &at.key("number"));
}

/// A port's name: a DNS label.
pub(super) fn port_name(name: &str, at: &At<'_>) {
    if !syntax::is_host_label(name) {
        at.error(format!(
            "{name:?} is not a port name: up to 63 letters, digits and hyphens, no hyphen at an end"
        ));
    }
}

/// A port's protocol; empty is detected.
pub(super) fn protocol(name: &str, at: &At<'_>) {
    if !name.is_empty() && Protocol::parse(name).is_none() {
        at.error_help(
            format!("{name:?} is not a protocol that is known"),
            format!("use one of {}", Protocol::NAMES),
        );
    }
}

/// A duration of at least 1 ms, in whole milliseconds.
pub(super) fn duration(duration: Duration, at: &At<'_>) {
    if duration.0.as_nanos() < 1_000_000 {
        at.error(format!("{duration} is less than 1ms"));
    } else if !duration.0.as_nanos().is_multiple_of(1_000_000) {
        at.error(format!("{duration} is not in whole milliseconds"));
    }
}

/// A duration that may be absent.
pub(super) fn some_duration(key: &str, value: Option<Duration>, at: &At<'_>) {
    at.some(key, value.as_ref(), |value, at| duration(*value, at));
}

/// A count that must not be negative.
pub(super) fn not_negative(key: &str, value: i32, at: &At<'_>) {
    if value < 0 {
        at.key(key).error(format!("{value} is negative"));
    }
}

/// Whole percent.
pub(super) fn percent(key: &str, value: i32, at: &At<'_>) {
    if !(0..=100).contains(&value) {
        at.key(key).error(format!("{value} is not from 0 to 100"));
    }
}

/// A percentage; Envoy's smallest share is one in a million.
pub(super) fn percentage(percent: &Percent, at: &At<'_>) {
    let value = percent.value;
    if !(0.0..=100.0).contains(&value) || (value > 0.0 && value < 0.0001) {
        at.key("value")
            .error(format!("{value} is neither 0 nor from 0.0001 to 100"));
    }
}

/// A regular expression in RE2's syntax.
pub(super) fn regex(expression: &str, at: &At<'_>) {
    match expression.len() {
        0 => at.error("must not be empty"),
        length if length > MAX_EXPRESSION => at.error(format!(
            "the expression has {length} bytes, more than the {MAX_EXPRESSION} allowed; use several matches"
        )),
        _ => {
            if let Err(fault) = re2::parse(expression) {
                at.error(fault.to_string());
            }
        }
    }
}

/// A comparison whose prefix or expression must not be empty.
pub(super) fn string_match(value: &StringMatch, at: &At<'_>) {
    match value {
        StringMatch::Prefix(prefix) if prefix.is_empty() => at.key("prefix").error("must not be empty"),
        value => string_match_regex(value, at),
    }
}

/// A comparison of which only an expression can be wrong.
pub(super) fn string_match_regex(value: &StringMatch, at: &At<'_>) {
    if let StringMatch::Regex(expression) = value {
        regex(expression, &at.key("regex"));
    }
}

/// Whether an entry of exportTo says something: a namespace, `.`, `*`, or `~` where none is allowed.
pub(super) fn is_visibility(entry: &str, none_allowed: bool) -> bool {
    matches!(entry, "." | "*") || (entry == "~" && none_allowed) || syntax::is_host_label(entry)
}

/// Namespaces that see an object: names, `.` for its own, `*` for all, `~` for none.
pub(super) fn export_to(namespace: &str, entries: &[String], none_allowed: bool, at: &At<'_>) {
    let mut seen = BTreeSet::new();
    at.each("exportTo", entries, |entry, at| {
        if !is_visibility(entry, none_allowed) {
            at.error(format!(
                "{entry:?} is not a namespace; use a name, . for the own one or * for all"
            ));
        }
    });
    for (index, entry) in entries.iter().enumerate() {
        let name = if entry == "." { namespace } else { entry };
        if !seen.insert(name) {
            at.key("exportTo")
                .index(index)
                .error(format!("{entry:?} names a namespace that is named already"));
        }
    }
    if entries.len() > 1 && entries.iter().any(|entry| matches!(entry.as_str(), "*" | "~")) {
        at.key("exportTo").error(match none_allowed {
            true => "* (all) and ~ (none) stand alone; remove the other entries",
            false => "* (all) stands alone; remove the other entries",
        });
    }
}

/// Labels by which networking's kinds choose workloads.
pub(super) fn labels_selector(selector: Option<&LabelsSelector>, at: &At<'_>) {
    if let Some(selector) = selector {
        selected_labels("labels", selector.labels.iter(), &at.key("workloadSelector"));
    }
}

/// Labels by which policies choose workloads.
pub(super) fn workload_selector(key: &str, selector: Option<&WorkloadSelector>, at: &At<'_>) {
    if let Some(selector) = selector {
        selected_labels("matchLabels", selector.match_labels.iter(), &at.key(key));
    }
}

fn selected_labels<'a>(
    key: &str,
    labels: impl ExactSizeIterator<Item = (&'a String, &'a String)>,
    at: &At<'_>,
) {
    if labels.len() == 0 {
        at.warning("no label is given, so all workloads of the namespace are meant");
    }
    let at = at.key(key);
    for (name, value) in labels {
        let at = at.key(name);
        if name.is_empty() {
            at.error("a label's key must not be empty");
        }
        if name.contains('*') || value.contains('*') {
            at.error(format!(
                "{name}={value}: labels are compared whole, * is no wildcard here"
            ));
        }
    }
}

/// How a policy is attached: by labels, or by naming objects; not both.
pub(super) fn attachment(
    selector: Option<&WorkloadSelector>,
    target_ref: Option<&PolicyTargetReference>,
    target_refs: &[PolicyTargetReference],
    at: &At<'_>,
) {
    workload_selector("selector", selector, at);
    at.some("targetRef", target_ref, target);
    at.each("targetRefs", target_refs, target);
    let ways = [selector.is_some(), target_ref.is_some(), !target_refs.is_empty()];
    if ways.iter().filter(|given| **given).count() > 1 {
        at.error("selector, targetRef and targetRefs exclude one another; keep one of them");
    }
}

/// Kinds that a policy can be attached to, with their groups.
const TARGETS: &[(&str, &str)] = &[
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

fn target(target: &PolicyTargetReference, at: &At<'_>) {
    if !target.namespace.is_empty() {
        at.key("namespace")
            .error("objects of other namespaces cannot be named here; remove the field");
    }
    if !TARGETS.contains(&(target.group.as_str(), target.kind.as_str())) {
        let message = format!(
            "a policy cannot be attached to a {} of the group {:?}",
            target.kind, target.group
        );
        let help = "use Service, ServiceEntry of networking.istio.io, or Gateway or GatewayClass of gateway.networking.k8s.io";
        at.key("kind").error_help(message, help);
    } else if matches!(target.kind.as_str(), "Service" | "ServiceEntry") {
        // Istio: only waypoints stand in front of a service; sidecars and gateways pass such a policy over.
        at.key("kind").warning(format!(
            "only waypoints serve what is attached to a {}, and there are none here; choose workloads by selector, or \
             attach to a Gateway",
            target.kind
        ));
    }
}

/// None of the values is empty.
pub(super) fn no_empty_values(key: &str, values: &[String], at: &At<'_>) {
    at.each(key, values, |value, at| {
        at.require(!value.is_empty(), "must not be empty");
    });
}

/// Reports values that were given before.
pub(super) fn unique<'a>(key: &str, values: impl Iterator<Item = &'a str>, what: &str, at: &At<'_>) {
    let mut seen = BTreeSet::new();
    for (index, value) in values.enumerate() {
        if !seen.insert(value) {
            at.key(key)
                .index(index)
                .error(format!("{what} {value:?} is given twice"));
        }
    }
}
