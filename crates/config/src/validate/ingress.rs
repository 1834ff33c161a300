//! Ingress, by the rules of Kubernetes' API server (pkg/apis/networking/validation): for files that come from no cluster.

use super::common;
use crate::kube::{HttpIngressPath, Ingress, IngressBackend};
use crate::path::At;
use crate::syntax;

/// Parts that a path may not have, since proxies read them differently.
const PARTS: [&str; 6] = ["//", "/./", "/../", "%2f", "%2F", "\0"];

/// Checks an Ingress.
pub(super) fn check(ingress: &Ingress, at: &At<'_>) {
    let at = at.key("spec");
    let spec = &ingress.spec;
    if spec.rules.is_empty() && spec.default_backend.is_none() {
        at.error("rules or defaultBackend is needed");
    }
    at.some(
        "ingressClassName",
        spec.ingress_class_name.as_ref(),
        |name, at| {
            if !syntax::is_dns_subdomain(name) {
                at.error(format!("{name:?} must be {}", syntax::DNS_SUBDOMAIN));
            }
        },
    );
    at.some("defaultBackend", spec.default_backend.as_ref(), backend);
    at.each("tls", &spec.tls, |tls, at| {
        at.each("hosts", &tls.hosts, |name, at| host(name, at));
        if !tls.secret_name.is_empty() && !syntax::is_dns_subdomain(&tls.secret_name) {
            at.key("secretName")
                .error(format!("{:?} must be {}", tls.secret_name, syntax::DNS_SUBDOMAIN));
        }
    });
    at.each("rules", &spec.rules, |rule, at| {
        if !rule.host.is_empty() {
            host(&rule.host, &at.key("host"));
        }
        at.some("http", rule.http.as_ref(), |http, at| {
            at.key("paths")
                .require(!http.paths.is_empty(), "at least one path is needed");
            at.each("paths", &http.paths, path);
        });
    });
}

/// A DNS name, of which the first label may be `*`.
fn host(name: &str, at: &At<'_>) {
    if syntax::ip(name).is_some() {
        at.error(format!("{name:?} is an IP address; a DNS name is needed"));
    } else if !syntax::is_dns_subdomain(name.strip_prefix("*.").unwrap_or(name)) {
        at.error(format!(
            "{name:?} must be {}, perhaps with *. before it",
            syntax::DNS_SUBDOMAIN
        ));
    }
}

fn path(path: &HttpIngressPath, at: &At<'_>) {
    match path.path_type.as_str() {
        "Exact" | "Prefix" => absolute(&path.path, &at.key("path")),
        "ImplementationSpecific" | "" => {
            if !path.path.is_empty() && !path.path.starts_with('/') {
                at.key("path").error(format!("{:?} must begin with /", path.path));
            }
            if path.path_type.is_empty() {
                at.key("pathType").warning(
                    "Kubernetes' API demands it: Exact, Prefix or ImplementationSpecific, as which it is read",
                );
            }
        }
        other => at.key("pathType").error_help(
            format!("{other:?} is not a type of paths"),
            "use Exact, Prefix or ImplementationSpecific",
        ),
    }
    backend(&path.backend, &at.key("backend"));
}

fn absolute(path: &str, at: &At<'_>) {
    if !path.starts_with('/') {
        at.error(format!("{path:?} must begin with /"));
    }
    if let Some(part) = PARTS.into_iter().find(|part| path.contains(part)) {
        at.error(format!("{path:?} must not contain {part:?}"));
    }
    if path.ends_with("/..") || path.ends_with("/.") {
        at.error(format!("{path:?} must not end in a dot"));
    }
}

/// Where requests go: a Service. Other backends are not read.
fn backend(backend: &IngressBackend, at: &At<'_>) {
    let Some(service) = &backend.service else {
        return at
            .warning("names no Service; other resources are not served, so requests get no answer here");
    };
    let at = at.key("service");
    if !syntax::is_dns_label(&service.name) {
        at.key("name")
            .error(format!("{:?} must be {}", service.name, syntax::DNS_LABEL));
    }
    let at = at.key("port");
    match (service.port.name.as_str(), service.port.number) {
        ("", 0) => at.error("name or number is needed"),
        ("", number) => common::port(number, &at.key("number")),
        (name, 0) => {
            if !syntax::is_port_name(name) {
                at.key("name")
                    .error(format!("{name:?} must be {}", syntax::PORT_NAME));
            }
        }
        _ => at.error("name and number exclude one another; keep one of them"),
    }
}
