//! EnvoyFilters whose patches cannot work, or work only as long as other filters come first.

use std::collections::BTreeSet;

use config::Kind;
use config::networking::{ApplyTo, EnvoyConfigObjectPatch, PatchOperation};

use crate::analyzer::Check;
use crate::{Analyzer, Code, Report, Set};

/// Whether operations fit what they are applied to, and relative ones have a priority.
pub(crate) const PATCHES: Analyzer = Analyzer::new(
    "envoyfilter.EnvoyPatchAnalyzer",
    "EnvoyFilters whose patches cannot work, or only as long as others come first",
    &[
        Code::EnvoyFilterUsesRelativeOperation,
        Code::EnvoyFilterUsesReplaceOperationIncorrectly,
        Code::EnvoyFilterUsesAddOperationIncorrectly,
        Code::EnvoyFilterUsesRemoveOperationIncorrectly,
        Code::EnvoyFilterUsesRelativeOperationWithProxyVersion,
    ],
    &[Kind::EnvoyFilter],
    Check::Mesh(run),
);

fn run(set: &Set<'_>, report: &mut Report) {
    // Filters that an earlier patch has for some proxy versions only.
    let mut versioned: BTreeSet<String> = BTreeSet::new();
    for (object, filter) in set.envoy_filters() {
        let mut said = BTreeSet::new();
        for (index, patch) in filter.config_patches.iter().enumerate() {
            let Some(change) = &patch.patch else { break };
            let name = filter_name(patch);
            let code = match misuse(change.operation, patch.apply_to) {
                Some(code) => Some(code),
                None if filter.priority == 0 && is_relative(change.operation) => {
                    Some(match versioned.contains(&name) {
                        true => Code::EnvoyFilterUsesRelativeOperationWithProxyVersion,
                        false => Code::EnvoyFilterUsesRelativeOperation,
                    })
                }
                None => None,
            };
            // Once for an object: one remedy is for all its patches.
            if let Some(code) = code.filter(|code| said.insert(*code)) {
                let path = format!("spec.configPatches[{index}].patch.operation");
                report.say(code, object, path, &[]);
            }
            let proxy = patch.r#match.as_ref().and_then(|found| found.proxy.as_ref());
            if proxy.is_some_and(|proxy| !proxy.proxy_version.is_empty()) {
                versioned.insert(name);
            }
        }
    }
}

/// The message for an operation that has no effect on such objects.
fn misuse(operation: PatchOperation, apply_to: ApplyTo) -> Option<Code> {
    let routes = matches!(apply_to, ApplyTo::RouteConfiguration | ApplyTo::HttpRoute);
    let replaceable = matches!(
        apply_to,
        ApplyTo::NetworkFilter | ApplyTo::HttpFilter | ApplyTo::VirtualHost
    );
    match operation {
        PatchOperation::Add if routes => Some(Code::EnvoyFilterUsesAddOperationIncorrectly),
        PatchOperation::Remove if routes => Some(Code::EnvoyFilterUsesRemoveOperationIncorrectly),
        PatchOperation::Replace if !replaceable => Some(Code::EnvoyFilterUsesReplaceOperationIncorrectly),
        _ => None,
    }
}

/// Whether the outcome depends on what other patches have done before.
fn is_relative(operation: PatchOperation) -> bool {
    matches!(
        operation,
        PatchOperation::Remove
            | PatchOperation::Replace
            | PatchOperation::InsertBefore
            | PatchOperation::InsertAfter
    )
}

/// What a patch is about: the name in its value, or else the filter that it matches. Empty without a value.
fn filter_name(patch: &EnvoyConfigObjectPatch) -> String {
    let Some(value) = patch.patch.as_ref().and_then(|change| change.value.as_ref()) else {
        return String::new();
    };
    if let Some(name) = value.get("name") {
        return format!("value {name}");
    }
    let listener = patch.r#match.as_ref().and_then(|found| found.listener.as_ref());
    let chain = listener.and_then(|listener| listener.filter_chain.as_ref());
    let filter = chain.and_then(|chain| chain.filter.as_ref());
    filter.map(|filter| filter.name.clone()).unwrap_or_default()
}
