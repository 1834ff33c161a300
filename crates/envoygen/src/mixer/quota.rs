//! Quotas: rate limit filters, one for each failure mode, and the descriptors that routes give them.

use envoy_types::pb::envoy::config::core::v3::{
    ApiVersion, DataSource, SubstitutionFormatString, TypedExtensionConfig, data_source,
    substitution_format_string::Format,
};
use envoy_types::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use envoy_types::pb::envoy::config::route::v3::{RateLimit as RouteRateLimit, rate_limit};
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3::{
    FilterStateValue,
    filter_state_value::{Key, Value},
};
use envoy_types::pb::envoy::extensions::filters::http::ratelimit::v3::RateLimit;
use envoy_types::pb::envoy::extensions::filters::http::set_filter_state::v3::Config as SetFilterState;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::rate_limit_descriptors::expr::v3::{
    Descriptor, descriptor::ExprSpecifier,
};
use envoy_types::pb::envoy::r#type::v3::{HttpStatus, StatusCode};
use policy::{
    DescriptorEntry, FAIL_CLOSED, FAIL_OPEN, QuotaDescriptor, RATE_LIMIT_DOMAIN, SOURCE_ADDRESS_STATE,
};

use super::{deadline, service};
use crate::filter;
use crate::wire::{duration, plain_any, u32_value};

/// Stages tell the filters' descriptors apart.
const CLOSED: u32 = 0;
const OPEN: u32 = 1;

/// The filters that some quotas need; with `allow` all let requests pass where Mixer cannot be asked.
pub(crate) fn filters(cluster: &str, quotas: &[QuotaDescriptor], allow: bool) -> Vec<HttpFilter> {
    let mut entries = quotas.iter().flat_map(|quota| &quota.entries);
    let source = entries
        .any(|entry| entry.key == "source.address")
        .then(source_address);
    source.into_iter().chain(limits(cluster, quotas, allow)).collect()
}

/// Keeps the connection's own address, which a client cannot forge.
fn source_address() -> HttpFilter {
    kept_address(
        "source-address",
        SOURCE_ADDRESS_STATE,
        "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    )
}

/// Keeps what a format gives of an address in the filter state.
pub(super) fn kept_address(role: &str, key: &str, format: &str) -> HttpFilter {
    let format = SubstitutionFormatString {
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(format.to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    };
    let config = SetFilterState {
        on_request_headers: vec![FilterStateValue {
            key: Some(Key::ObjectKey(key.to_owned())),
            factory_key: "envoy.string".to_owned(),
            value: Some(Value::FormatString(format)),
            ..Default::default()
        }],
        ..Default::default()
    };
    let name = format!("envoy.filters.http.set_filter_state.mixer-{role}");
    filter::http(&name, plain_any(&config))
}

/// A filter for each failure mode.
fn limits(cluster: &str, quotas: &[QuotaDescriptor], allow: bool) -> Vec<HttpFilter> {
    let modes = [(CLOSED, FAIL_CLOSED, false), (OPEN, FAIL_OPEN, true)];
    let needed = modes
        .into_iter()
        .filter(|(_, _, open)| quotas.iter().any(|quota| quota.fail_open == *open));
    needed
        .map(|(stage, mode, open)| filter(cluster, stage, mode, open || allow))
        .collect()
}

fn filter(cluster: &str, stage: u32, mode: &str, open: bool) -> HttpFilter {
    let config = RateLimit {
        domain: RATE_LIMIT_DOMAIN.to_owned(),
        stage,
        timeout: duration(deadline(open)),
        failure_mode_deny: !open,
        rate_limited_as_resource_exhausted: true,
        // As the checks do, and unlike Envoy's own 500: the request may be tried again.
        status_on_error: Some(HttpStatus {
            code: StatusCode::ServiceUnavailable as i32,
        }),
        rate_limit_service: Some(RateLimitServiceConfig {
            grpc_service: Some(service(cluster, &[], open)),
            transport_api_version: ApiVersion::V3 as i32,
        }),
        stat_prefix: format!("mixer_{mode}"),
        ..Default::default()
    };
    filter::http(
        &format!("{}.mixer-{mode}", filter::RATE_LIMIT),
        plain_any(&config),
    )
}

/// What a route tells the filters.
pub(crate) fn rate_limits(quotas: &[QuotaDescriptor]) -> Vec<RouteRateLimit> {
    let limit = |quota: &QuotaDescriptor| RouteRateLimit {
        stage: u32_value(if quota.fail_open { OPEN } else { CLOSED }),
        actions: quota.entries.iter().map(action).collect(),
        ..Default::default()
    };
    quotas.iter().map(limit).collect()
}

fn action(entry: &DescriptorEntry) -> rate_limit::Action {
    evaluated(&entry.key, entry.cel.clone())
}

/// An entry whose value CEL gives.
pub(super) fn evaluated(key: &str, cel: String) -> rate_limit::Action {
    let config = Descriptor {
        descriptor_key: key.to_owned(),
        skip_if_error: false,
        expr_specifier: Some(ExprSpecifier::Text(cel)),
    };
    rate_limit::Action {
        action_specifier: Some(rate_limit::action::ActionSpecifier::Extension(
            TypedExtensionConfig {
                name: "envoy.rate_limit_descriptors.expr".to_owned(),
                typed_config: Some(plain_any(&config)),
            },
        )),
    }
}
