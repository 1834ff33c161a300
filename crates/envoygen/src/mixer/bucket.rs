//! Quotas that the proxy counts by itself: a local rate limit filter for each, whose requests a descriptor tells apart.
//!
//! The filter's own answer is fixed. It names the quota in a header, by which the connection manager's local reply configuration
//! gives Mixer's body, and which is taken away on the way to the client.

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation::Action};
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, RuntimeFractionalPercent, SubstitutionFormatString,
    data_source, substitution_format_string::Format,
};
use envoy_types::pb::envoy::config::route::v3::{
    RateLimit as RouteRateLimit,
    rate_limit::{
        self,
        action::{ActionSpecifier, GenericKey, MetaData, meta_data::Source},
    },
};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::{
    LocalRateLimitDescriptor, rate_limit_descriptor::Entry,
};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{
    HeaderMutation as HttpHeaderMutation, Mutations,
};
use envoy_types::pb::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, ResponseMapper,
};
use envoy_types::pb::envoy::r#type::metadata::v3::{
    MetadataKey,
    metadata_key::{PathSegment, path_segment::Segment},
};
use envoy_types::pb::envoy::r#type::v3::{
    FractionalPercent, HttpStatus, TokenBucket, fractional_percent::DenominatorType,
};
use policy::{Bucket, Dimension, Matcher};

use super::marks::Marks;
use super::native::{RBAC_METADATA, SHADOW_POLICY};
use super::{expression, quota};
use crate::filter;
use crate::telemetry::logs::cel;
use crate::wire::{bool_value, duration, plain_any, u32_value};

/// Names the quota in a refusal, inside of the proxy.
const NAMED: &str = "x-argosy-quota";

/// Filter state with the connection's own address, without its port.
const SOURCE_IP_STATE: &str = "argosy.source.ip";

/// The descriptor's first entry, that of requests that are counted.
const COUNTED: &str = "quota";

/// Most values of its dimensions that one quota has buckets for; then the one that was asked longest ago begins anew.
const MAX_BUCKETS: u32 = 10_000;

/// The filters of some quotas.
pub(crate) fn filters(buckets: &[Bucket]) -> Vec<HttpFilter> {
    if buckets.is_empty() {
        return Vec::new();
    }
    let marks = Marks::new("quota", buckets.iter().flat_map(Bucket::conditions));
    let mut dimensions = buckets.iter().flat_map(|bucket| &bucket.dimensions);
    let by_source = dimensions.any(|(_, dimension)| *dimension == Dimension::SourceIp);
    let source = by_source.then(|| {
        let format = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%";
        quota::kept_address("source-ip", SOURCE_IP_STATE, format)
    });
    [unnamed()]
        .into_iter()
        .chain(source)
        .chain(marks.filters())
        .chain(buckets.iter().enumerate().map(|(i, b)| limit(i, b, &marks)))
        .collect()
}

/// Takes the quota's name out of answers.
fn unnamed() -> HttpFilter {
    let remove = HeaderMutation {
        action: Some(Action::Remove(NAMED.to_owned())),
    };
    let config = HttpHeaderMutation {
        mutations: Some(Mutations {
            response_mutations: vec![remove],
            ..Default::default()
        }),
        ..Default::default()
    };
    let name = format!("{}.mixer-quota", filter::HEADER_MUTATION);
    filter::http(&name, plain_any(&config))
}

fn limit(index: usize, bucket: &Bucket, marks: &Marks<'_>) -> HttpFilter {
    let always = || {
        let hundred = FractionalPercent {
            numerator: 100,
            denominator: DenominatorType::Hundred as i32,
        };
        Some(RuntimeFractionalPercent {
            default_value: Some(hundred),
            ..Default::default()
        })
    };
    let config = LocalRateLimit {
        stat_prefix: "mixer_quota".to_owned(),
        status: Some(HttpStatus {
            code: i32::from(bucket.http_status),
        }),
        filter_enabled: always(),
        filter_enforced: always(),
        response_headers_to_add: vec![named(&bucket.quota)],
        descriptors: vec![descriptor(bucket)],
        rate_limits: vec![actions(bucket, marks)],
        // There is none: requests of other descriptors are not counted.
        always_consume_default_token_bucket: bool_value(false),
        rate_limited_as_resource_exhausted: true,
        max_dynamic_descriptors: u32_value(MAX_BUCKETS),
        ..Default::default()
    };
    let name = format!("{}.mixer-{index}", filter::LOCAL_RATE_LIMIT);
    filter::http(&name, plain_any(&config))
}

fn named(quota: &str) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: NAMED.to_owned(),
            value: quota.replace('%', "%%"),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The requests that have a bucket: an entry without value stands for any, and each has its own.
fn descriptor(bucket: &Bucket) -> LocalRateLimitDescriptor {
    let entry = |key: &str, value: &str| Entry {
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let dimensions = bucket.dimensions.iter().map(|(name, _)| entry(name, ""));
    LocalRateLimitDescriptor {
        entries: std::iter::once(entry(COUNTED, super::native::ASKED))
            .chain(dimensions)
            .collect(),
        token_bucket: Some(TokenBucket {
            max_tokens: bucket.requests,
            tokens_per_fill: u32_value(bucket.requests),
            fill_interval: duration(std::time::Duration::from_nanos(bucket.window.unsigned_abs())),
        }),
        ..Default::default()
    }
}

/// What makes a request's descriptor; one that is not counted has none, since its first entry has no value.
fn actions(bucket: &Bucket, marks: &Marks<'_>) -> RouteRateLimit {
    let counted = match &bucket.when {
        Matcher::Always => ActionSpecifier::GenericKey(GenericKey {
            descriptor_key: COUNTED.to_owned(),
            descriptor_value: super::native::ASKED.to_owned(),
            ..Default::default()
        }),
        when => ActionSpecifier::Metadata(MetaData {
            descriptor_key: COUNTED.to_owned(),
            metadata_key: Some(MetadataKey {
                key: RBAC_METADATA.to_owned(),
                path: vec![PathSegment {
                    segment: Some(Segment::Key(format!("{}{SHADOW_POLICY}", marks.prefix(when)))),
                }],
            }),
            source: Source::Dynamic as i32,
            ..Default::default()
        }),
    };
    let counted = rate_limit::Action {
        action_specifier: Some(counted),
    };
    let dimensions = bucket.dimensions.iter().map(|(name, dimension)| {
        let cel = match dimension {
            Dimension::Value(values) => expression::value(&values.0, |when| marks.prefix(when)),
            Dimension::SourceIp => format!("filter_state['{SOURCE_IP_STATE}']"),
        };
        quota::evaluated(name, cel)
    });
    RouteRateLimit {
        actions: [counted].into_iter().chain(dimensions).collect(),
        ..Default::default()
    }
}

/// The answer where a quota is used up, Mixer's.
pub(crate) fn reply(buckets: &[Bucket]) -> Option<ResponseMapper> {
    let own = format!("response.code_details == 'local_rate_limited' && '{NAMED}' in response.headers");
    let body = format!("RESOURCE_EXHAUSTED:Quota is exhausted for: %RESP({NAMED})%");
    let format = SubstitutionFormatString {
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(body)),
            ..Default::default()
        })),
        ..Default::default()
    };
    (!buckets.is_empty()).then(|| ResponseMapper {
        filter: Some(cel(&own)),
        body_format_override: Some(format),
        ..Default::default()
    })
}
