//! HTTP routes of a VirtualService: conditions, what is done with a request, and which of that excludes which.

use super::common::{duration, percentage, regex, some_duration, string_match, string_match_regex};
use super::virtual_service::{destination, weights};
use super::{header, host};
use crate::networking::{
    CorsPolicy, FaultAbort, FaultDelay, HttpDirectResponse, HttpMatchRequest, HttpRedirect, HttpRetry,
    HttpRewrite, HttpRoute, Percent, StringMatch,
};
use crate::path::At;
use crate::{Duration, grpc_status, meta, syntax};

/// Largest body of a direct response, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Size above which a direct response's body deserves a warning, in bytes.
const LARGE_BODY: usize = 100 << 10;

/// Conditions on which Envoy can retry, HTTP's and gRPC's (Envoy: router filter, x-envoy-retry-on, x-envoy-retry-grpc-on).
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
];

/// Checks a route; `delegate` says that its VirtualService has no hosts.
pub(super) fn check(route: &HttpRoute, delegate: bool, at: &At<'_>) {
    exclusions(route, delegate, at);
    at.each("match", &route.r#match, conditions);
    header::operations(route.headers.as_ref(), at);
    at.each("route", &route.route, |target, at| {
        at.some("destination", target.destination.as_ref(), destination);
        header::operations(target.headers.as_ref(), at);
    });
    weights(route.route.iter().map(|target| target.weight), at);
    at.some("redirect", route.redirect.as_ref(), |value, at| {
        redirect(value, &route.r#match, at)
    });
    at.some("directResponse", route.direct_response.as_ref(), direct_response);
    at.some("rewrite", route.rewrite.as_ref(), rewrite);
    authority_once(route, at);
    at.some("fault", route.fault.as_ref(), |fault, at| {
        at.require(
            fault.abort.is_some() || fault.delay.is_some(),
            "delay or abort is needed",
        );
        at.some("abort", fault.abort.as_ref(), abort);
        at.some("delay", fault.delay.as_ref(), delay);
    });
    mirrors(route, at);
    at.some("corsPolicy", route.cors_policy.as_ref(), cors);
    at.some("retries", route.retries.as_ref(), retry);
    some_duration("timeout", route.timeout, at);
}

/// What a route does with a request, and what that excludes.
fn exclusions(route: &HttpRoute, delegate: bool, at: &At<'_>) {
    let routes = !route.route.is_empty();
    let given = [
        ("redirect", route.redirect.is_some()),
        ("route", routes),
        ("directResponse", route.direct_response.is_some()),
        ("fault", route.fault.is_some()),
        ("rewrite", route.rewrite.is_some()),
    ];
    let excludes = |what: &str, others: &[&str]| {
        for (other, _) in given
            .iter()
            .filter(|(name, given)| *given && others.contains(name))
        {
            at.key(other)
                .error(format!("excluded by {what}; keep one of them"));
        }
    };
    if route.delegate.is_some() {
        match delegate {
            true => at
                .key("delegate")
                .error("a VirtualService without hosts cannot delegate further"),
            false => excludes("delegate", &["redirect", "route", "directResponse"]),
        }
        return;
    }
    if route.redirect.is_some() {
        excludes("redirect", &["route", "fault", "rewrite", "directResponse"]);
    } else if route.direct_response.is_some() {
        excludes("directResponse", &["route", "fault", "rewrite"]);
    } else if !routes {
        at.error("nothing is done with the request; route, redirect, directResponse or delegate is needed");
    }
}

fn conditions(found: &HttpMatchRequest, at: &At<'_>) {
    for (name, value) in &found.headers {
        let field = at.key("headers");
        header::match_name(name, &field.key(name));
        string_match(value, &field.key(name));
    }
    for (name, value) in &found.without_headers {
        let field = at.key("withoutHeaders");
        header::match_name(name, &field.key(name));
        // `*` is no expression; Istio takes it for any value.
        if *value != StringMatch::Regex("*".to_owned()) {
            string_match(value, &field.key(name));
        }
    }
    for (name, value) in &found.query_params {
        string_match(value, &at.key("queryParams").key(name));
    }
    at.some("uri", found.uri.as_ref(), string_match_regex);
    for (key, value) in [
        ("scheme", &found.scheme),
        ("method", &found.method),
        ("authority", &found.authority),
    ] {
        at.some(key, value.as_ref(), string_match);
    }
    if found.port != 0 {
        super::common::port(found.port, &at.key("port"));
    }
    meta::check_labels(&found.source_labels, &at.key("sourceLabels"));
    host::gateways(&found.gateways, at);
    if !found.source_namespace.is_empty() && !syntax::is_host_label(&found.source_namespace) {
        at.key("sourceNamespace")
            .error(format!("{:?} is not a namespace's name", found.source_namespace));
    }
}

fn redirect(value: &HttpRedirect, matches: &[HttpMatchRequest], at: &At<'_>) {
    if !value.uri.is_empty() && !value.prefix_rewrite.is_empty() {
        at.error("uri and prefixRewrite exclude one another; keep one of them");
    }
    let by_prefix = |found: &HttpMatchRequest| matches!(found.uri, None | Some(StringMatch::Prefix(_)));
    if !value.prefix_rewrite.is_empty() && !matches.iter().all(by_prefix) {
        at.key("prefixRewrite")
            .error("each match of the route must compare uri by prefix");
    }
    let texts = [&value.uri, &value.prefix_rewrite, &value.authority, &value.scheme];
    if texts.iter().all(|text| text.is_empty()) && value.port.is_none() && value.derive_port.is_none() {
        at.error("nothing is changed; uri, prefixRewrite, authority, scheme, port or derivePort is needed");
    }
    if !matches!(value.redirect_code, 0 | 301 | 302 | 303 | 307 | 308) {
        let code = value.redirect_code;
        at.key("redirectCode").error(format!(
            "{code} is not a redirect that Envoy can send; use 301, 302, 303, 307 or 308"
        ));
    }
    if !matches!(value.scheme.as_str(), "" | "http" | "https") {
        at.key("scheme")
            .error(format!("{:?} is neither http nor https", value.scheme));
    }
    at.some(
        "port",
        value.port.as_ref().filter(|port| **port != 0),
        |port, at| super::common::port(*port, at),
    );
}

fn direct_response(value: &HttpDirectResponse, at: &At<'_>) {
    status(i64::from(value.status), &at.key("status"));
    let Some(body) = &value.body else { return };
    if body.bytes.as_ref().is_some_and(|bytes| !is_base64(bytes)) {
        at.key("body")
            .key("bytes")
            .error_help("is not base64", "write plain text as string");
    }
    let texts = [("string", &body.string), ("bytes", &body.bytes)];
    for (key, text) in texts
        .into_iter()
        .filter_map(|(key, text)| text.as_ref().map(|text| (key, text)))
    {
        let at = at.key("body");
        if text.len() > MAX_BODY {
            at.key(key).error(format!(
                "has {} bytes, more than the {MAX_BODY} allowed",
                text.len()
            ));
        } else if text.len() > LARGE_BODY {
            at.key(key)
                .warning("large bodies are sent to each proxy and cost memory there");
        }
    }
}

/// Whether a text is base64 as protobuf's JSON has it: standard or URL-safe, padded or not.
fn is_base64(text: &str) -> bool {
    use base64::Engine;
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabets = [&base64::alphabet::STANDARD, &base64::alphabet::URL_SAFE];
    alphabets
        .into_iter()
        .any(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).is_ok())
}

fn status(status: i64, at: &At<'_>) {
    if !(200..=599).contains(&status) {
        at.error(format!("{status} is not an HTTP status from 200 to 599"));
    }
}

fn rewrite(value: &HttpRewrite, at: &At<'_>) {
    let by_regex = value.uri_regex_rewrite.as_ref();
    if !value.uri.is_empty() && by_regex.is_some() {
        at.error("uri and uriRegexRewrite exclude one another; keep one of them");
    }
    if value.uri.is_empty() && by_regex.is_none() && value.authority.is_empty() {
        at.error("nothing is changed; uri, uriRegexRewrite or authority is needed");
    }
    at.some("uriRegexRewrite", by_regex, |value, at| {
        regex(&value.r#match, &at.key("match"));
        at.key("rewrite")
            .require(!value.rewrite.is_empty(), "must not be empty");
    });
}

/// The authority can be changed in one place only.
fn authority_once(route: &HttpRoute, at: &At<'_>) {
    let rewritten = route
        .rewrite
        .as_ref()
        .is_some_and(|rewrite| !rewrite.authority.is_empty());
    let request = route
        .headers
        .as_ref()
        .and_then(|headers| headers.request.as_ref());
    let written = request
        .into_iter()
        .flat_map(|request| request.set.keys().chain(request.add.keys()));
    let places = written.filter(|name| header::is_authority(name)).count() + usize::from(rewritten);
    if places > 1 {
        at.error("the request's authority is changed in several places; keep one of them");
    }
}

fn abort(value: &FaultAbort, at: &At<'_>) {
    at.some("percentage", value.percentage.as_ref(), percentage);
    at.some("httpStatus", value.http_status.as_ref(), |code, at| {
        status(i64::from(*code), at)
    });
    at.some("grpcStatus", value.grpc_status.as_ref(), |name, at| {
        if grpc_status::number(name).is_none() {
            at.error_help(
                format!("{name:?} is not a gRPC status"),
                format!("use one of {}", grpc_status::NAMES.join(", ")),
            );
        }
    });
    at.some("http2Error", value.http2_error.as_ref(), |_, at| {
        at.error_help(
            "Envoy cannot abort with an HTTP/2 error",
            "use httpStatus or grpcStatus",
        );
    });
    if value.http_status.is_none() && value.grpc_status.is_none() && value.http2_error.is_none() {
        at.warning("no status is given, so nothing is aborted; give httpStatus or grpcStatus");
    }
}

fn delay(value: &FaultDelay, at: &At<'_>) {
    at.some("percentage", value.percentage.as_ref(), percentage);
    super::common::percent("percent", value.percent, at);
    some_duration("fixedDelay", value.fixed_delay, at);
    at.some("exponentialDelay", value.exponential_delay.as_ref(), |_, at| {
        at.error_help(
            "Envoy cannot delay by an exponential distribution",
            "use fixedDelay",
        );
    });
}

fn mirrors(route: &HttpRoute, at: &At<'_>) {
    let share = |percent: &Percent, at: &At<'_>| {
        if !(0.0..=100.0).contains(&percent.value) {
            at.key("value")
                .error(format!("{} is not from 0 to 100", percent.value));
        }
    };
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        at.key("mirror")
            .error("mirror and mirrors exclude one another; keep one of them");
    }
    at.some("mirror", route.mirror.as_ref(), destination);
    at.each("mirrors", &route.mirrors, |mirror, at| {
        at.some("destination", mirror.destination.as_ref(), destination);
        at.some("percentage", mirror.percentage.as_ref(), share);
    });
    at.some("mirrorPercentage", route.mirror_percentage.as_ref(), share);
    at.some("mirrorPercent", route.mirror_percent.as_ref(), |percent, at| {
        at.warning("deprecated; use mirrorPercentage");
        if *percent > 100 {
            at.error(format!("{percent} is not from 0 to 100"));
        }
    });
}

fn cors(policy: &CorsPolicy, at: &At<'_>) {
    at.each("allowOrigins", &policy.allow_origins, |origin, at| {
        let empty = match origin {
            StringMatch::Any => true,
            StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Regex(text) => {
                text.is_empty()
            }
        };
        match empty {
            true => at.error("exact, prefix or regex is needed, and must not be empty"),
            false => string_match_regex(origin, at),
        }
    });
    at.each("allowMethods", &policy.allow_methods, |method, at| {
        if !METHODS.contains(&method.as_str()) {
            at.error(format!(
                "{method:?} is not an HTTP method; use {}",
                METHODS.join(", ")
            ));
        }
    });
    for (key, names) in [
        ("allowHeaders", &policy.allow_headers),
        ("exposeHeaders", &policy.expose_headers),
    ] {
        at.each(key, names, |name, at| header::cors_name(name, at));
    }
    at.some("maxAge", policy.max_age.as_ref(), |age: &Duration, at| {
        duration(*age, at);
        at.require(age.0.subsec_nanos() == 0, "only whole seconds can be sent");
    });
}

/// A retry policy of a route or of the mesh.
pub(super) fn retry(retry: &HttpRetry, at: &At<'_>) {
    super::common::not_negative("attempts", retry.attempts, at);
    let more = retry.per_try_timeout.is_some()
        || !retry.retry_on.is_empty()
        || retry.retry_remote_localities.is_some();
    if retry.attempts == 0 && more {
        at.error_help(
            "settings of retries are given, but attempts is 0, which turns them off",
            "set attempts",
        );
    }
    some_duration("perTryTimeout", retry.per_try_timeout, at);
    some_duration("backoff", retry.backoff, at);
    for condition in retry
        .retry_on
        .split(',')
        .map(str::trim)
        .filter(|_| !retry.retry_on.is_empty())
    {
        let is_status = condition
            .parse::<u16>()
            .is_ok_and(|status| (100..=599).contains(&status));
        if !is_status && !RETRY_ON.contains(&condition) {
            let message = format!("{condition:?} is not a condition for retries");
            at.key("retryOn").error_help(
                message,
                format!("use HTTP status codes or {}", RETRY_ON.join(", ")),
            );
        }
    }
}
