//! Gateway API's kinds: the rules across fields that its own definitions have (release 1.6), and a warning for what is
//! bound to the mesh, which does not serve them yet.

use std::collections::BTreeSet;

use super::common::{regex, unique};
use super::host;
use crate::kube::gateway_api::{
    BackendTlsPolicy, GatewayClass, GrpcFilterType, GrpcRouteFilter, HttpFilterType, HttpRouteFilter,
    HttpRouteMatch, KubernetesGateway, KubernetesGrpcRoute, KubernetesHttpRoute, KubernetesL4Route, Listener,
    ListenerSet, ListenerTlsMode, MatchType, NO_EFFECT, NameMatch, ParentReference, PathMatchType,
    PathModifier, PathModifierType, RequestRedirect, SubjectAltNameType, is_own_class, is_own_controller,
};
use crate::path::At;

const METHODS: &[&str] = &[
    "", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

fn unserved(at: &At<'_>) {
    at.warning_help(NO_EFFECT, "use VirtualService and Gateway of networking.istio.io");
}

/// Checks a GatewayClass.
pub(super) fn class(class: &GatewayClass, at: &At<'_>) {
    if is_own_controller(&class.spec.controller_name) {
        unserved(&at.key("spec").key("controllerName"));
    }
}

/// Checks a Gateway.
pub(super) fn gateway(gateway: &KubernetesGateway, at: &At<'_>) {
    let at = at.key("spec");
    if is_own_class(&gateway.spec.gateway_class_name) {
        unserved(&at.key("gatewayClassName"));
    }
    listeners(&gateway.spec.listeners, &at);
}

/// Checks a ListenerSet.
pub(super) fn listener_set(set: &ListenerSet, at: &At<'_>) {
    listeners(&set.spec.listeners, &at.key("spec"));
}

fn listeners(listeners: &[Listener], at: &At<'_>) {
    unique(
        "listeners",
        listeners.iter().map(|listener| listener.name.as_str()),
        "the listener",
        at,
    );
    at.each("listeners", listeners, listener);
    let mut seen = BTreeSet::new();
    for (index, listener) in listeners.iter().enumerate() {
        let place = (
            listener.port,
            listener.protocol.as_str(),
            listener.hostname.as_str(),
        );
        if !seen.insert(place) {
            at.key("listeners")
                .index(index)
                .error("another listener has the same port, protocol and hostname");
        }
    }
}

fn listener(listener: &Listener, at: &At<'_>) {
    let protocol = listener.protocol.as_str();
    if !listener.hostname.is_empty() {
        host::report(host::wildcard(&listener.hostname), &at.key("hostname"));
        if matches!(protocol, "TCP" | "UDP") {
            at.key("hostname")
                .error(format!("{protocol} tells no host; remove it"));
        }
    }
    match (&listener.tls, protocol) {
        (Some(_), "HTTP" | "TCP" | "UDP") => at
            .key("tls")
            .error(format!("{protocol} has no TLS; remove it or use HTTPS or TLS")),
        (None, "TLS") => at.key("tls").error("needed by the protocol TLS"),
        (Some(tls), _) => {
            let at = at.key("tls");
            if protocol == "HTTPS" && tls.mode != ListenerTlsMode::Terminate {
                at.key("mode")
                    .error("the protocol HTTPS ends TLS; use the protocol TLS to pass it through");
            }
            if tls.mode == ListenerTlsMode::Terminate
                && tls.certificate_refs.is_empty()
                && tls.options.is_empty()
            {
                at.key("certificateRefs")
                    .error("mode Terminate needs a certificate");
            }
        }
        (None, _) => {}
    }
}

/// Parents in the mesh; what a Gateway serves is known from the whole set alone.
fn parents(parents: &[ParentReference], at: &At<'_>) {
    at.each("parentRefs", parents, |parent, at| {
        if parent.is_in_mesh() {
            unserved(at);
        }
    });
}

/// Checks an HTTPRoute.
pub(super) fn http_route(route: &KubernetesHttpRoute, at: &At<'_>) {
    let at = at.key("spec");
    parents(&route.spec.parent_refs, &at);
    hostnames(&route.spec.hostnames, &at);
    at.each("rules", &route.spec.rules, |rule, at| {
        at.each("matches", &rule.matches, http_match);
        at.each("filters", &rule.filters, http_filter);
        let redirects = rule
            .filters
            .iter()
            .any(|filter| filter.r#type == Some(HttpFilterType::RequestRedirect));
        if redirects && !rule.backend_refs.is_empty() {
            at.key("backendRefs")
                .error("excluded by the filter RequestRedirect; keep one of them");
        }
        at.each("backendRefs", &rule.backend_refs, |backend, at| {
            service_port(&backend.group, &backend.kind, backend.port, at);
            at.each("filters", &backend.filters, http_filter);
        });
        if let Some(timeouts) = &rule.timeouts
            && let (Some(all), Some(one)) = (timeouts.request, timeouts.backend_request)
            && !all.is_zero()
            && one > all
        {
            at.key("timeouts")
                .key("backendRequest")
                .error(format!("{one} is longer than request, {all}"));
        }
    });
}

/// Checks a GRPCRoute.
pub(super) fn grpc_route(route: &KubernetesGrpcRoute, at: &At<'_>) {
    let at = at.key("spec");
    parents(&route.spec.parent_refs, &at);
    hostnames(&route.spec.hostnames, &at);
    at.each("rules", &route.spec.rules, |rule, at| {
        at.each("matches", &rule.matches, |found, at| {
            at.some("method", found.method.as_ref(), |method, at| {
                at.require(
                    !method.service.is_empty() || !method.method.is_empty(),
                    "service or method is needed",
                );
                for (key, text) in [("service", &method.service), ("method", &method.method)] {
                    if method.r#type == MatchType::RegularExpression && !text.is_empty() {
                        regex(text, &at.key(key));
                    }
                }
            });
            at.each("headers", &found.headers, name_match);
        });
        at.each("filters", &rule.filters, grpc_filter);
        at.each("backendRefs", &rule.backend_refs, |backend, at| {
            service_port(&backend.group, &backend.kind, backend.port, at);
            at.each("filters", &backend.filters, grpc_filter);
        });
    });
}

/// Checks a TLSRoute, TCPRoute or UDPRoute.
pub(super) fn l4_route(route: &KubernetesL4Route, at: &At<'_>) {
    let at = at.key("spec");
    parents(&route.spec.parent_refs, &at);
    hostnames(&route.spec.hostnames, &at);
    at.each("rules", &route.spec.rules, |rule, at| {
        at.each("backendRefs", &rule.backend_refs, |backend, at| {
            service_port(&backend.group, &backend.kind, backend.port, at);
        });
    });
}

fn hostnames(names: &[String], at: &At<'_>) {
    at.each("hostnames", names, |name, at| {
        host::report(host::wildcard(name), at)
    });
}

fn service_port(group: &str, kind: &str, port: u32, at: &At<'_>) {
    if group.is_empty() && matches!(kind, "" | "Service") {
        at.key("port").require(port != 0, "a Service needs its port");
    }
}

fn http_match(found: &HttpRouteMatch, at: &At<'_>) {
    at.some("path", found.path.as_ref(), |path, at| {
        let Some(value) = &path.value else { return };
        match path.r#type {
            PathMatchType::RegularExpression => regex(value, &at.key("value")),
            _ => {
                let fine = value.starts_with('/')
                    && !["//", "/./", "/../", "%2f", "%2F", "#"]
                        .iter()
                        .any(|part| value.contains(part));
                at.key("value")
                    .require(fine, "must be an absolute path without //, /./, /../, %2f and #");
            }
        }
    });
    at.each("headers", &found.headers, name_match);
    at.each("queryParams", &found.query_params, name_match);
    if !METHODS.contains(&found.method.as_str()) {
        at.key("method")
            .error(format!("{:?} is not an HTTP method", found.method));
    }
}

fn name_match(found: &NameMatch, at: &At<'_>) {
    if found.r#type == MatchType::RegularExpression {
        regex(&found.value, &at.key("value"));
    }
}

/// A filter has the field that its type names, and no other.
fn one_field(wanted: &str, fields: &[(&str, bool)], at: &At<'_>) {
    for (name, given) in fields {
        match (*name == wanted, *given) {
            (true, false) => at.key(name).error("needed by the filter's type"),
            (false, true) => at.key(name).error("does not fit the filter's type; remove it"),
            _ => {}
        }
    }
}

fn http_filter(filter: &HttpRouteFilter, at: &At<'_>) {
    let Some(kind) = filter.r#type else { return };
    let wanted = match kind {
        HttpFilterType::RequestHeaderModifier => "requestHeaderModifier",
        HttpFilterType::ResponseHeaderModifier => "responseHeaderModifier",
        HttpFilterType::RequestMirror => "requestMirror",
        HttpFilterType::RequestRedirect => "requestRedirect",
        HttpFilterType::UrlRewrite => "urlRewrite",
        HttpFilterType::Cors => "cors",
        HttpFilterType::ExternalAuth => "externalAuth",
        HttpFilterType::ExtensionRef => "extensionRef",
    };
    let fields = [
        ("requestHeaderModifier", filter.request_header_modifier.is_some()),
        (
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        ("requestMirror", filter.request_mirror.is_some()),
        ("requestRedirect", filter.request_redirect.is_some()),
        ("urlRewrite", filter.url_rewrite.is_some()),
        ("cors", filter.cors.is_some()),
        ("externalAuth", filter.external_auth.is_some()),
        ("extensionRef", filter.extension_ref.is_some()),
    ];
    one_field(wanted, &fields, at);
    at.some("requestRedirect", filter.request_redirect.as_ref(), redirect);
    at.some("urlRewrite", filter.url_rewrite.as_ref(), |rewrite, at| {
        at.some("path", rewrite.path.as_ref(), path_modifier);
    });
    at.some("requestMirror", filter.request_mirror.as_ref(), |mirror, at| {
        let backend = &mirror.backend_ref;
        service_port(&backend.group, &backend.kind, backend.port, &at.key("backendRef"));
        at.some("fraction", mirror.fraction.as_ref(), |fraction, at| {
            if fraction.numerator.unwrap_or(0) > fraction.denominator.unwrap_or(100) {
                at.key("numerator").error("is more than the denominator");
            }
        });
    });
}

fn grpc_filter(filter: &GrpcRouteFilter, at: &At<'_>) {
    let Some(kind) = filter.r#type else { return };
    let wanted = match kind {
        GrpcFilterType::RequestHeaderModifier => "requestHeaderModifier",
        GrpcFilterType::ResponseHeaderModifier => "responseHeaderModifier",
        GrpcFilterType::RequestMirror => "requestMirror",
        GrpcFilterType::ExtensionRef => "extensionRef",
    };
    let fields = [
        ("requestHeaderModifier", filter.request_header_modifier.is_some()),
        (
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        ("requestMirror", filter.request_mirror.is_some()),
        ("extensionRef", filter.extension_ref.is_some()),
    ];
    one_field(wanted, &fields, at);
}

fn redirect(redirect: &RequestRedirect, at: &At<'_>) {
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        at.key("scheme")
            .error(format!("{:?} is neither http nor https", redirect.scheme));
    }
    if !matches!(redirect.status_code, None | Some(301 | 302 | 303 | 307 | 308)) {
        at.key("statusCode").error("is not 301, 302, 303, 307 or 308");
    }
    at.some("path", redirect.path.as_ref(), path_modifier);
}

fn path_modifier(change: &PathModifier, at: &At<'_>) {
    let Some(kind) = change.r#type else { return };
    let wanted = match kind {
        PathModifierType::ReplaceFullPath => "replaceFullPath",
        PathModifierType::ReplacePrefixMatch => "replacePrefixMatch",
    };
    let fields = [
        ("replaceFullPath", change.replace_full_path.is_some()),
        ("replacePrefixMatch", change.replace_prefix_match.is_some()),
    ];
    one_field(wanted, &fields, at);
}

/// Checks a BackendTLSPolicy.
pub(super) fn backend_tls_policy(policy: &BackendTlsPolicy, at: &At<'_>) {
    let at = at.key("spec");
    let at = at.key("validation");
    let validation = &policy.spec.validation;
    host::report(host::dns_name(&validation.hostname), &at.key("hostname"));
    if validation.ca_certificate_refs.is_empty() == validation.well_known_ca_certificates.is_empty() {
        at.error("exactly one of caCertificateRefs and wellKnownCACertificates is needed");
    }
    at.each("subjectAltNames", &validation.subject_alt_names, |name, at| {
        let fields = [
            ("hostname", !name.hostname.is_empty()),
            ("uri", !name.uri.is_empty()),
        ];
        let Some(kind) = name.r#type else { return };
        let wanted = match kind {
            SubjectAltNameType::Hostname => "hostname",
            SubjectAltNameType::Uri => "uri",
        };
        one_field(wanted, &fields, at);
    });
}
