//! What a route says to HTTP filters: faults and CORS.

use std::collections::HashMap;

use config::networking::{
    CorsPolicy, FaultAbort, FaultDelay, HttpFaultInjection, HttpRoute, UnmatchedPreflights,
};
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{self as common_fault, fault_delay};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy as EnvoyCors;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{
    FaultAbort as EnvoyAbort, HttpFault, fault_abort,
};
use envoy_types::pb::google::protobuf::Any;

use crate::filter;
use crate::wire::{
    bool_value, duration, exact, fixed_percent, percent, plain_any, regex_match, string_match,
};

/// Settings by filter name.
pub(super) fn per_route(http: &HttpRoute) -> HashMap<String, Any> {
    let mut out = HashMap::new();
    if let Some(fault) = http.fault.as_ref().and_then(fault) {
        out.insert(filter::FAULT.to_owned(), plain_any(&fault));
    }
    if let Some(policy) = &http.cors_policy {
        out.insert(filter::CORS.to_owned(), plain_any(&cors(policy)));
    }
    out
}

fn fault(fault: &HttpFaultInjection) -> Option<HttpFault> {
    let delay = fault.delay.as_ref().and_then(delay);
    let abort = fault.abort.as_ref().and_then(abort);
    (delay.is_some() || abort.is_some()).then(|| HttpFault {
        delay,
        abort,
        ..Default::default()
    })
}

fn delay(delay: &FaultDelay) -> Option<common_fault::FaultDelay> {
    let share = delay
        .percentage
        .as_ref()
        .map_or(f64::from(delay.percent), |p| p.value);
    Some(common_fault::FaultDelay {
        percentage: Some(percent(share)),
        fault_delay_secifier: Some(fault_delay::FaultDelaySecifier::FixedDelay(duration(
            delay.fixed_delay?.0,
        )?)),
    })
}

fn abort(abort: &FaultAbort) -> Option<EnvoyAbort> {
    let error = match (abort.http_status, &abort.grpc_status) {
        (Some(status), _) => fault_abort::ErrorType::HttpStatus(u32::try_from(status).ok()?),
        (None, Some(status)) => fault_abort::ErrorType::GrpcStatus(config::grpc_status::number(status)?),
        (None, None) => return None,
    };
    let percentage = abort.percentage.as_ref().map(|p| percent(p.value));
    Some(EnvoyAbort {
        error_type: Some(error),
        percentage,
        ..Default::default()
    })
}

fn cors(policy: &CorsPolicy) -> EnvoyCors {
    let origins = if policy.allow_origins.is_empty() {
        policy.allow_origin.iter().map(|origin| exact(origin)).collect()
    } else {
        policy
            .allow_origins
            .iter()
            .map(|origin| string_match(origin).unwrap_or_else(|| regex_match(".*")))
            .collect()
    };
    EnvoyCors {
        allow_origin_string_match: origins,
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy
            .max_age
            .map(|age| age.0.as_secs().to_string())
            .unwrap_or_default(),
        allow_credentials: policy.allow_credentials.and_then(bool_value),
        filter_enabled: Some(fixed_percent(100.0)),
        forward_not_matching_preflights: bool_value(
            policy.unmatched_preflights != UnmatchedPreflights::Ignore,
        ),
        ..Default::default()
    }
}
