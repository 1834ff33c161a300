//! Patches read from an EnvoyFilter: the value as a message of the type that is patched, the condition checked beforehand.

use std::collections::BTreeMap;

use config::networking::{
    ApplyTo, EnvoyConfigObjectMatch, EnvoyConfigObjectPatch, EnvoyFilter, PatchContext, PatchOperation,
};
use config::{Finding, ObjectKey};
use prost_reflect::DynamicMessage;
use regex::{Regex, RegexBuilder};

use super::PatchId;
use crate::proxy::Proxy;
use crate::reflect::{self, Lists, ReflectError};

/// Longest expression over proxies' versions, in bytes (Istio's bound), and the largest program made of one.
const MAX_EXPRESSION: usize = 1024;
const MAX_PROGRAM: usize = 1 << 20;

/// A patch that can be used.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) id: PatchId,
    pub(super) apply_to: ApplyTo,
    pub(super) operation: PatchOperation,
    pub(super) condition: EnvoyConfigObjectMatch,
    pub(super) proxy: ProxyCondition,
    /// Of the type that `apply_to` patches; none for REMOVE.
    pub(super) value: Option<DynamicMessage>,
}

impl Compiled {
    pub(super) fn is_for(&self, context: PatchContext) -> bool {
        self.condition.context == context || self.condition.context == PatchContext::Any
    }

    /// How lists are merged, if the operation merges.
    pub(super) fn merges(&self) -> Option<Lists> {
        match self.operation {
            PatchOperation::Merge => Some(Lists::Append),
            PatchOperation::MergeAndReplaceList => Some(Lists::Replace),
            _ => None,
        }
    }

    /// The value as a typed message.
    pub(super) fn typed<M: prost::Message + prost::Name + Default>(&self) -> Option<M> {
        reflect::typed(self.value.as_ref()?)
    }

    /// The finding that something about this patch is wrong.
    pub(super) fn finding(&self, message: impl Into<String>) -> Finding {
        Finding::warning(message)
            .at(format!("spec.configPatches[{}]", self.id.index))
            .of(self.id.object.clone())
    }
}

/// Conditions on the proxy itself.
#[derive(Debug, Default)]
pub(super) struct ProxyCondition {
    version: Option<Regex>,
    metadata: BTreeMap<String, String>,
}

impl ProxyCondition {
    fn new(condition: &EnvoyConfigObjectMatch) -> Result<ProxyCondition, String> {
        let Some(proxy) = &condition.proxy else {
            return Ok(ProxyCondition::default());
        };
        let version = match proxy.proxy_version.as_str() {
            "" => None,
            long if long.len() > MAX_EXPRESSION => {
                return Err(format!("proxyVersion has more than {MAX_EXPRESSION} bytes"));
            }
            expression => Some(version(expression)?),
        };
        Ok(ProxyCondition {
            version,
            metadata: proxy.metadata.clone(),
        })
    }

    pub(super) fn matches(&self, proxy: &Proxy) -> bool {
        let version = |expression: &Regex| {
            proxy
                .metadata
                .get("ISTIO_VERSION")
                .is_some_and(|v| expression.is_match(v))
        };
        self.version.as_ref().is_none_or(version)
            && self
                .metadata
                .iter()
                .all(|(key, value)| proxy.metadata.get(key) == Some(value))
    }
}

/// Reads a `proxyVersion` (Go's `regexp`, as Istio; it may match any part of a version).
fn version(expression: &str) -> Result<Regex, String> {
    let read = re2::parse(expression).map_err(|fault| format!("proxyVersion: {fault}"))?;
    RegexBuilder::new(read.rust())
        .size_limit(MAX_PROGRAM)
        .build()
        .map_err(|_| "proxyVersion is too large a regular expression".to_owned())
}

/// Labels of the workloads that an EnvoyFilter is for; all if empty.
pub(super) fn selector(spec: &EnvoyFilter) -> BTreeMap<String, String> {
    let selector = spec
        .workload_selector
        .as_ref()
        .map(|selector| selector.labels.clone());
    selector.unwrap_or_else(|| spec.workload_labels.clone())
}

/// The Kubernetes Gateways that an EnvoyFilter attaches to; none if it has no `targetRefs`.
pub(super) fn gateways(
    spec: &EnvoyFilter,
    key: &ObjectKey,
    findings: &mut Vec<Finding>,
) -> Option<Vec<String>> {
    if spec.target_refs.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    for (index, target) in spec.target_refs.iter().enumerate() {
        if target.kind == "Gateway" && target.group == "gateway.networking.k8s.io" {
            out.push(target.name.clone());
        } else {
            let finding = Finding::warning(format!(
                "nothing here is patched by way of a {}; name a Gateway",
                target.kind
            ));
            findings.push(finding.at(format!("spec.targetRefs[{index}]")).of(key.clone()));
        }
    }
    Some(out)
}

/// The patches that can be used; the others are reported.
pub(super) fn patches(spec: &EnvoyFilter, key: &ObjectKey, findings: &mut Vec<Finding>) -> Vec<Compiled> {
    let mut out = Vec::new();
    for (index, entry) in spec.config_patches.iter().enumerate() {
        let id = PatchId {
            object: key.clone(),
            index,
        };
        let mut report = |path: &str, message: String| {
            let path = format!("spec.configPatches[{index}]{path}");
            findings.push(Finding::warning(message).at(path).of(key.clone()));
        };
        match patch(id, entry) {
            Ok((patch, unknown)) => {
                if let Some(unknown) = unknown {
                    report(
                        ".patch.value",
                        format!("a field is not known to this release and is left out: {unknown}"),
                    );
                }
                out.push(patch);
            }
            Err((path, message)) => report(path, message),
        }
    }
    out
}

type Fault = (&'static str, String);

fn patch(id: PatchId, entry: &EnvoyConfigObjectPatch) -> Result<(Compiled, Option<String>), Fault> {
    let Some(change) = &entry.patch else {
        return Err((".patch", "the patch is missing".to_owned()));
    };
    let message = message(entry.apply_to).map_err(|reason| (".applyTo", reason.to_owned()))?;
    let condition = entry.r#match.clone().unwrap_or_default();
    if condition.context == PatchContext::Waypoint {
        return Err((
            ".match.context",
            "there are no waypoints; name another context".to_owned(),
        ));
    }
    let operation = operation(entry.apply_to, change.operation).ok_or_else(|| {
        (
            ".patch.operation",
            format!("has no effect with applyTo {}", entry.apply_to.as_str()),
        )
    })?;
    let mut unknown = None;
    let value = match (&change.value, operation) {
        (_, PatchOperation::Remove) => None,
        (None, _) => return Err((".patch.value", "the value is missing".to_owned())),
        (Some(json), _) => {
            let json = serde_json::Value::Object(json.clone());
            let fault = |error: ReflectError| (".patch.value", format!("{error}; the patch is left out"));
            let (value, left_out) = reflect::from_json(message, &json).map_err(fault)?;
            unknown = left_out;
            Some(value)
        }
    };
    let proxy = ProxyCondition::new(&condition).map_err(|reason| (".match.proxy.proxyVersion", reason))?;
    let compiled = Compiled {
        id,
        apply_to: entry.apply_to,
        operation,
        condition,
        proxy,
        value,
    };
    Ok((compiled, unknown))
}

/// The full name of the message that is patched.
fn message(apply_to: ApplyTo) -> Result<&'static str, &'static str> {
    Ok(match apply_to {
        ApplyTo::Listener => "envoy.config.listener.v3.Listener",
        ApplyTo::FilterChain => "envoy.config.listener.v3.FilterChain",
        ApplyTo::NetworkFilter => "envoy.config.listener.v3.Filter",
        ApplyTo::ListenerFilter => "envoy.config.listener.v3.ListenerFilter",
        ApplyTo::HttpFilter => "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
        ApplyTo::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
        ApplyTo::VirtualHost => "envoy.config.route.v3.VirtualHost",
        ApplyTo::HttpRoute => "envoy.config.route.v3.Route",
        ApplyTo::Cluster => "envoy.config.cluster.v3.Cluster",
        ApplyTo::ExtensionConfig => "envoy.config.core.v3.TypedExtensionConfig",
        ApplyTo::Bootstrap => {
            return Err(
                "the bootstrap is the agent's, and patches of it have no effect in this release; \
                        use ProxyConfig or the agent's flags",
            );
        }
        ApplyTo::Invalid => return Err("say what is patched"),
    })
}

/// What an operation means for what it is applied to: an insertion into something without order is an addition (Istio). None
/// for what has no meaning.
fn operation(apply_to: ApplyTo, operation: PatchOperation) -> Option<PatchOperation> {
    use PatchOperation::{
        Add, InsertAfter, InsertBefore, InsertFirst, Invalid, Merge, MergeAndReplaceList, Replace,
    };
    let ordered = matches!(
        apply_to,
        ApplyTo::NetworkFilter | ApplyTo::HttpFilter | ApplyTo::ListenerFilter | ApplyTo::HttpRoute
    );
    let meant = match operation {
        Invalid => return None,
        InsertAfter | InsertBefore | InsertFirst if !ordered => Add,
        other => other,
    };
    let replaceable = ordered && apply_to != ApplyTo::HttpRoute || apply_to == ApplyTo::VirtualHost;
    let works = match apply_to {
        ApplyTo::ExtensionConfig => meant == Add,
        ApplyTo::RouteConfiguration => matches!(meant, Merge | MergeAndReplaceList),
        _ => meant != Replace || replaceable,
    };
    works.then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_go_reads_them() {
        let matches = |expression: &str, text: &str| version(expression).unwrap().is_match(text);
        assert!(matches(r"^\Q1.27\E", "1.27.3") && !matches(r"^\Q1.27\E", "1x27.3"));
        assert!(matches(r"^1\.2\d", "1.27.3"));
        assert!(version("1.27(?=x)").unwrap_err().contains("proxyVersion"));
    }
}
