//! The analyzers, a file per subject. Each is a pure function over a set; none knows of another.

mod annotation_table;
pub(crate) mod annotation_values;
mod annotations;
mod authn;
mod authz;
mod conditions;
mod credential;
mod deployment;
mod deprecation;
mod destination_rule;
mod envoy_filter;
mod external_control_plane;
mod gateway_certificate;
mod gateway_conflict;
mod gateway_credential;
mod gateway_port;
mod gateway_secret;
mod image_auto;
mod injection;
mod injection_image;
mod kubernetes_gateway;
mod locality;
mod mesh_networks;
mod multi_cluster;
mod port_name;
mod precheck;
mod proxy_image_type;
mod service_entry;
mod sidecar;
mod telemetry;
mod telemetry_selector;
mod virtual_service_conflict;
mod virtual_service_destination;
mod virtual_service_gateway;
mod virtual_service_jwt;
mod virtual_service_subset;
mod webhook;

use config::Object;

use crate::Analyzer;

/// The analyzers that run by default.
pub const ALL: &[Analyzer] = &[
    annotations::ANNOTATIONS,
    authn::BLOCKED_CIDRS,
    authz::POLICIES,
    conditions::CONDITIONS,
    deployment::SERVICE_ASSOCIATION,
    deployment::APPLICATION_UID,
    destination_rule::CA_CERTIFICATES,
    destination_rule::SUBSETS,
    deprecation::FIELDS,
    envoy_filter::PATCHES,
    external_control_plane::WEBHOOKS,
    gateway_port::PORTS,
    gateway_certificate::DUPLICATES,
    gateway_credential::CREDENTIALS,
    gateway_secret::SECRETS,
    gateway_conflict::CONFLICTS,
    injection::INJECTION,
    injection_image::IMAGES,
    image_auto::IMAGE_AUTO,
    kubernetes_gateway::SELECTORS,
    kubernetes_gateway::DEFINITIONS,
    mesh_networks::REGISTRIES,
    multi_cluster::SERVICES,
    port_name::NAMES,
    service_entry::ADDRESSES,
    service_entry::PROTOCOLS,
    sidecar::SELECTORS,
    telemetry::PROVIDERS,
    telemetry::UNKNOWN,
    telemetry::LIGHTSTEP,
    telemetry_selector::SELECTORS,
    telemetry_selector::DEFAULTS,
    virtual_service_conflict::HOSTS,
    virtual_service_destination::DESTINATIONS,
    virtual_service_subset::SUBSETS,
    virtual_service_gateway::GATEWAYS,
    virtual_service_jwt::CLAIMS,
    webhook::WEBHOOKS,
];

/// Analyzers that run only when they are asked for: what they say is true of most meshes.
pub const EXTRA: &[Analyzer] = &[annotations::ALPHA];

/// Analyzers that ask whether a cluster is fit for an installation or an update; they run only when that is the question.
pub const PRECHECK: &[Analyzer] = &[
    precheck::VERSION,
    precheck::PERMISSIONS,
    precheck::GATEWAY_API,
    precheck::UPDATE,
];

/// The analyzer of that name, of all lists; `istioctl`'s name does too.
pub fn find(name: &str) -> Option<&'static Analyzer> {
    every().find(|analyzer| analyzer.is_named(name))
}

/// The analyzers of all lists.
fn every() -> impl Iterator<Item = &'static Analyzer> {
    ALL.iter().chain(EXTRA).chain(PRECHECK)
}

/// `NAMESPACE/NAME`, or `NAME` of an object without namespace.
fn full_name(object: &Object) -> String {
    match object.meta.namespace.as_str() {
        "" => object.meta.name.clone(),
        namespace => format!("{namespace}/{}", object.meta.name),
    }
}

/// Objects of one kind by namespace and name, each once.
fn by_name<'a>(objects: impl Iterator<Item = &'a Object>) -> Vec<&'a Object> {
    let name = |object: &&'a Object| (object.meta.namespace.as_str(), object.meta.name.as_str());
    let mut objects: Vec<&Object> = objects.collect();
    objects.sort_by(|a, b| name(a).cmp(&name(b)));
    objects.dedup_by(|a, b| name(a) == name(b));
    objects
}

/// The names of objects, sorted and joined.
fn names<'a>(objects: impl IntoIterator<Item = &'a Object>) -> String {
    let mut names: Vec<&str> = objects
        .into_iter()
        .map(|object| object.meta.name.as_str())
        .collect();
    names.sort_unstable();
    names.join(", ")
}

/// The namespace and name that a reference means, `NAME` or `NAMESPACE/NAME`.
fn reference<'a>(reference: &'a str, namespace: &'a str) -> (&'a str, &'a str) {
    reference.split_once('/').unwrap_or((namespace, reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_inputs_given() {
        for analyzer in every() {
            let named = |name: &str| every().filter(|other| other.is_named(name)).count();
            assert_eq!(named(analyzer.name), 1, "{}", analyzer.name);
            assert!(analyzer.alias.is_none_or(|alias| named(alias) == 1));
            assert!(!analyzer.inputs.is_empty() || analyzer.facts, "{}", analyzer.name);
            assert!(!analyzer.codes.is_empty(), "{}", analyzer.name);
        }
    }
}
