//! The rules that one object must keep by itself, beyond its structure: a file per kind, what several share in files of
//! its own. Everything that is wrong is reported, not the first only. The rules are Istio's (pkg/config/validation and the
//! CEL rules of its CRDs); where Istio of today and Istio 1.4 differ, [`crate::Options`] says which holds.

mod annotations;
mod authentication;
mod authorization;
mod client_tls;
mod commands;
mod common;
mod connection_pool;
mod destination_rule;
mod envoy_filter;
mod extensions;
mod fingerprint;
mod gateway;
mod gateway_api;
mod header;
mod host;
mod http_route;
mod ingress;
mod kubernetes;
mod legacy;
mod load_balancer;
mod mesh;
mod mixer;
mod mixer_params;
mod providers;
mod reachability;
mod service_entry;
mod sidecar;
mod spiffe;
mod telemetry;
mod virtual_service;
mod workload;

use crate::path::At;
use crate::{Kind, Meta, Spec};

/// Checks the body of an object; `at` is where the body is.
pub(crate) fn spec(kind: Kind, meta: &Meta, spec: &Spec, at: &At<'_>) {
    match spec {
        Spec::VirtualService(spec) => virtual_service::check(spec, meta, at),
        Spec::DestinationRule(spec) => destination_rule::check(spec, meta, at),
        Spec::Gateway(spec) => gateway::check(spec, at),
        Spec::ServiceEntry(spec) => service_entry::check(spec, meta, at),
        Spec::WorkloadEntry(spec) => workload::entry(spec, at),
        Spec::WorkloadGroup(spec) => workload::group(spec, at),
        Spec::Sidecar(spec) => sidecar::check(spec, meta, at),
        Spec::EnvoyFilter(spec) => envoy_filter::check(spec, at),
        Spec::ProxyConfig(spec) => common::workload_selector("selector", spec.selector.as_ref(), at),
        Spec::AuthorizationPolicy(spec) => authorization::check(spec, meta, at),
        Spec::PeerAuthentication(spec) => authentication::peer(spec, at),
        Spec::RequestAuthentication(spec) => authentication::request(spec, at),
        Spec::Telemetry(spec) => telemetry::check(spec, at),
        Spec::WasmPlugin(spec) => extensions::wasm_plugin(spec, at),
        Spec::TrafficExtension(spec) => extensions::traffic_extension(spec, at),
        Spec::Rule(spec) => mixer::rule(spec, meta, at),
        Spec::Handler(spec) => mixer::handler(kind, spec, at),
        Spec::Instance(spec) => mixer::instance(kind, spec, meta, at),
        Spec::AttributeManifest(spec) => mixer::attribute_manifest(spec, at),
        Spec::Template(spec) => mixer::template(spec, meta, at),
        Spec::Adapter(spec) => mixer::adapter(spec, at),
        Spec::QuotaSpec(spec) => mixer::quota_spec(spec, at),
        Spec::QuotaSpecBinding(spec) => mixer::quota_spec_binding(spec, at),
        Spec::HttpApiSpec(spec) => mixer::http_api_spec(spec, at),
        Spec::HttpApiSpecBinding(spec) => mixer::http_api_spec_binding(spec, at),
        Spec::Policy(spec) => legacy::policy(kind, spec, meta, at),
        Spec::ServiceRole(spec) => legacy::service_role(spec, at),
        Spec::ServiceRoleBinding(spec) => legacy::service_role_binding(spec, at),
        Spec::RbacConfig(spec) => legacy::rbac_config(kind, spec, meta, at),
        Spec::MeshConfig(spec) => mesh::check(spec, at),
        Spec::MeshNetworks(spec) => mesh::networks(spec, at),
        Spec::Service(spec) => kubernetes::service(spec, at),
        Spec::EndpointSlice(spec) => kubernetes::endpoint_slice(spec, at),
        Spec::Ingress(spec) => ingress::check(spec, at),
        Spec::Pod(spec) => kubernetes::pod(spec, at),
        Spec::Deployment(spec) => kubernetes::template(&spec.spec.template, &at.key("spec")),
        Spec::DaemonSet(spec) => kubernetes::template(&spec.spec.template, &at.key("spec")),
        Spec::ConfigMap(spec) => kubernetes::config_map(spec, meta, at),
        Spec::KubernetesGateway(spec) => gateway_api::gateway(spec, at),
        Spec::GatewayClass(spec) => gateway_api::class(spec, at),
        Spec::ListenerSet(spec) => gateway_api::listener_set(spec, at),
        Spec::KubernetesHttpRoute(spec) => gateway_api::http_route(spec, at),
        Spec::KubernetesGrpcRoute(spec) => gateway_api::grpc_route(spec, at),
        Spec::KubernetesL4Route(spec) => gateway_api::l4_route(spec, at),
        Spec::BackendTlsPolicy(spec) => gateway_api::backend_tls_policy(spec, at),
        Spec::Namespace(_)
        | Spec::Node(_)
        | Spec::IngressClass(_)
        | Spec::Secret(_)
        | Spec::WebhookConfiguration(_)
        | Spec::CustomResourceDefinition(_)
        | Spec::ServiceAccount(_)
        | Spec::SecretFacts(_)
        | Spec::ReferenceGrant(_) => {}
    }
}

/// Checks what annotations say; `at` is the object.
pub(crate) fn annotations(kind: Kind, meta: &Meta, spec: &Spec, at: &At<'_>) {
    annotations::check(kind, meta, at);
    if let Some(value) = meta
        .annotations
        .get(authorization::DRY_RUN)
        .filter(|_| !kind.is_kubernetes())
    {
        let at = at.key("metadata");
        let at = at.key("annotations");
        authorization::dry_run(spec, value, &at.key(authorization::DRY_RUN));
    }
}
