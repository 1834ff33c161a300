//! Extension providers of MeshConfig.

use super::common::port;
use super::header;
use super::host::{self, Owner};
use crate::mesh::{ExtAuthzRequestBody, ExtensionProvider};
use crate::path::At;
use crate::syntax;

/// Checks a provider.
pub(super) fn check(provider: &ExtensionProvider, at: &At<'_>) {
    at.key("name")
        .require(!provider.name.is_empty(), "this field is required");
    let services = services(provider);
    for (key, service, number) in &services {
        let at = at.key(key);
        port(*number, &at.key("port"));
        service_name(service, &at.key("service"));
    }
    let others = [
        provider.stackdriver.is_some(),
        provider.prometheus.is_some(),
        provider.envoy_file_access_log.is_some(),
        provider.sds.is_some(),
    ];
    if services.is_empty() && !others.contains(&true) {
        at.error("the provider is of no kind; give one, such as zipkin or envoyExtAuthzGrpc");
    }
    at.some(
        "envoyExtAuthzHttp",
        provider.envoy_ext_authz_http.as_ref(),
        |authorizer, at| {
            status(&authorizer.status_on_error, &at.key("statusOnError"));
            let prefix = &authorizer.path_prefix;
            at.key("pathPrefix")
                .require(prefix.is_empty() || prefix.starts_with('/'), "must begin with /");
            body(authorizer.include_request_body_in_check.as_ref(), at);
        },
    );
    at.some(
        "envoyExtAuthzGrpc",
        provider.envoy_ext_authz_grpc.as_ref(),
        |authorizer, at| {
            status(&authorizer.status_on_error, &at.key("statusOnError"));
            body(authorizer.include_request_body_in_check.as_ref(), at);
        },
    );
    let logs = "logFormat";
    at.some(
        "envoyFileAccessLog",
        provider.envoy_file_access_log.as_ref(),
        |log, at| {
            at.some(logs, log.log_format.as_ref(), |format, at| {
                at.some("text", format.text.as_deref(), header::format_string);
                at.some("labels", format.labels.as_ref(), header::format_values);
            });
        },
    );
    at.some("envoyOtelAls", provider.envoy_otel_als.as_ref(), |log, at| {
        at.some(logs, log.log_format.as_ref(), |format, at| {
            header::format_string(&format.text, &at.key("text"));
            at.some("labels", format.labels.as_ref(), header::format_values);
        });
    });
    at.some("lightstep", provider.lightstep.as_ref(), |tracer, at| {
        at.key("accessToken")
            .require(!tracer.access_token.is_empty(), "this field is required");
    });
}

/// Envoy refuses a filter that buffers bodies of no size (its API: `max_request_bytes` > 0).
fn body(body: Option<&ExtAuthzRequestBody>, at: &At<'_>) {
    at.key("includeRequestBodyInCheck")
        .key("maxRequestBytes")
        .require(
            body.is_none_or(|body| body.max_request_bytes > 0),
            "must be more than 0",
        );
}

/// Service and port of the providers that have them.
fn services(provider: &ExtensionProvider) -> Vec<(&'static str, &str, u32)> {
    macro_rules! of {
        ($($key:literal $field:ident),* $(,)?) => {
            [$(provider.$field.as_ref().map(|p| ($key, p.service.as_str(), p.port)),)*]
        };
    }
    let all = of![
        "envoyExtAuthzHttp" envoy_ext_authz_http, "envoyExtAuthzGrpc" envoy_ext_authz_grpc, "zipkin" zipkin,
        "lightstep" lightstep, "datadog" datadog, "opencensus" opencensus, "skywalking" skywalking,
        "opentelemetry" opentelemetry, "envoyHttpAls" envoy_http_als, "envoyTcpAls" envoy_tcp_als,
        "envoyOtelAls" envoy_otel_als,
    ];
    all.into_iter().flatten().collect()
}

/// A service by DNS name or IP, or `NAMESPACE/HOST`.
fn service_name(service: &str, at: &At<'_>) {
    match service.contains('/') {
        true => host::within_namespace(service, Owner::Sidecar, at),
        false if syntax::ip(service).is_some() => {}
        false => host::report(host::dns_name(service), at),
    }
}

/// The HTTP status that is answered when an authorizer cannot be asked.
fn status(status: &str, at: &At<'_>) {
    let fine = status.is_empty()
        || status
            .parse::<u16>()
            .is_ok_and(|status| (100..=511).contains(&status));
    at.require(fine, "must be an HTTP status such as \"503\"");
}
