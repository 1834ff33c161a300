//! What annotations say that the mesh reads on objects of others' kinds. An API server takes any text, and what is wrong has
//! no effect in Istio, so these are warnings.

use super::common::is_visibility;
use crate::path::At;
use crate::{Kind, Meta};

/// Who sees a Service: namespaces, separated by commas (Istio's reference of resource annotations).
const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// How near an endpoint clients should stay.
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// Nodes whose addresses are those of a network's gateway, for a Service of the type NodePort.
const NODE_SELECTOR: &str = "traffic.istio.io/nodeSelector";

/// Checks the annotations of a Service, a Namespace or a ServiceEntry; `at` is the object.
pub(super) fn check(kind: Kind, meta: &Meta, at: &At<'_>) {
    let at = at.key("metadata");
    let at = at.key("annotations");
    let given = |name: &'static str| {
        meta.annotations
            .get(name)
            .map(|value| (value.as_str(), at.key(name)))
    };
    if matches!(kind, Kind::Service | Kind::Namespace | Kind::ServiceEntry)
        && let Some((value, at)) = given(TRAFFIC_DISTRIBUTION)
    {
        traffic_distribution(value, &at);
    }
    if kind == Kind::Service {
        if let Some((value, at)) = given(EXPORT_TO) {
            export_to(value, &at);
        }
        if let Some((_, at)) = given(NODE_SELECTOR) {
            at.warning_help(
                "Nodes' addresses are not read, so this has no effect",
                "let the Service have the type LoadBalancer or externalIPs, or name the gateway's address in meshNetworks",
            );
        }
    }
}

fn traffic_distribution(value: &str, at: &At<'_>) {
    let known = ["Any", "PreferClose", "PreferSameZone", "PreferSameNode"];
    if !value.is_empty() && !known.iter().any(|known| known.eq_ignore_ascii_case(value)) {
        let message = format!("{value:?} is unknown and means any endpoint");
        at.warning_help(message, "use PreferSameZone (or PreferClose) or PreferSameNode");
    }
}

fn export_to(value: &str, at: &At<'_>) {
    let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    for entry in entries.filter(|entry| !is_visibility(entry, true)) {
        let message = format!("{entry:?} is not a namespace, so nobody sees the Service by it");
        at.warning_help(
            message,
            "use namespaces' names, . for its own, * for all or ~ for none",
        );
    }
}
