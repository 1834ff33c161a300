//! Tracing of connection managers: Zipkin, OpenTelemetry, Datadog and SkyWalking by Envoy's own tracers.

use config::mesh::{
    ExtensionProvider, OpenTelemetryProvider, ServiceAttributeEnrichment, ZipkinProvider, ZipkinTraceContext,
};
use config::telemetry::{CustomTag as Asked, NamedTag, TagValue};
use envoy_types::pb::envoy::config::core::v3::TypedExtensionConfig;
use envoy_types::pb::envoy::config::trace::v3::{
    DatadogConfig, OpenTelemetryConfig, SkyWalkingConfig, ZipkinConfig, tracing,
    zipkin_config::{CollectorEndpointVersion, TraceContextOption},
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::RequestIdExtension;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::{
    DynatraceResourceDetectorConfig, EnvironmentResourceDetectorConfig,
};
use envoy_types::pb::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use super::HcmTracing;
use super::provider::{Providers, header_value};
use super::resolve::Tracing;
use crate::wire::{bool_value, duration, plain_any, u32_value};

/// Percent of requests that are traced where nobody says (Istio).
const SAMPLING: f64 = 1.0;

/// How a connection manager traces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Traced {
    pub(crate) tracing: HcmTracing,
    /// Whether a request's id says if it is traced.
    pub(crate) by_request_id: bool,
}

/// Request ids that say if a request is traced, or do not.
pub(crate) fn request_ids(by_request_id: bool) -> RequestIdExtension {
    let config = UuidRequestIdConfig {
        use_request_id_for_trace_sampling: bool_value(by_request_id),
        ..Default::default()
    };
    RequestIdExtension {
        typed_config: Some(plain_any(&config)),
    }
}

/// What is asked for as Envoy's; `None` where nothing is traced.
pub(super) fn build(
    providers: &Providers<'_>,
    asked: &Tracing<'_>,
    traced_as: &str,
    router: bool,
) -> Result<Option<Traced>, String> {
    let Some(name) = asked.provider.filter(|_| !asked.disabled) else {
        return Ok(None);
    };
    let provider = providers.get(name)?;
    let (tracer, config, longest, spawns) = tracer(providers, &provider, traced_as)?;
    let mesh = providers.snapshot.mesh();
    let defaults = mesh
        .default_config
        .as_ref()
        .and_then(|config| config.tracing.as_ref());
    let mesh_sampling = defaults
        .map(|tracing| tracing.sampling)
        .filter(|percent| *percent > 0.0);
    let sampling = asked.sampling.or(mesh_sampling).unwrap_or(SAMPLING);
    let longest = if longest > 0 {
        longest
    } else {
        defaults.map_or(0, |tracing| tracing.max_path_tag_length)
    };
    let mut tags: Vec<CustomTag> = asked
        .tags
        .iter()
        .filter_map(|(name, tag)| custom(name, tag))
        .collect();
    if asked.tags.is_empty() {
        let of_mesh = defaults.iter().flat_map(|tracing| &tracing.custom_tags);
        tags.extend(of_mesh.filter_map(|(name, tag)| custom(name, &of_proxy_config(tag))));
    }
    let off = defaults.and_then(|tracing| tracing.enable_istio_tags) == Some(false);
    if asked.istio_tags && !off {
        tags.extend(istio_tags());
    }
    tags.sort_by(|a, b| a.tag.cmp(&b.tag));
    tags.dedup_by(|b, a| a.tag == b.tag);
    let percent = |value| Some(Percent { value });
    let tracing = HcmTracing {
        client_sampling: percent(100.0),
        random_sampling: percent(sampling.clamp(0.0, 100.0)),
        overall_sampling: percent(100.0),
        max_path_tag_length: if longest > 0 { u32_value(longest) } else { None },
        custom_tags: tags,
        provider: Some(tracing::Http {
            name: tracer.to_owned(),
            config_type: Some(tracing::http::ConfigType::TypedConfig(config)),
        }),
        spawn_upstream_span: bool_value(router || spawns),
        no_context_propagation: asked.no_propagation,
        ..Default::default()
    };
    Ok(Some(Traced {
        tracing,
        by_request_id: asked.by_request_id,
    }))
}

/// Envoy's tracer of a provider: name, configuration, longest tag, whether it wants spans of its own for what goes on.
fn tracer(
    providers: &Providers<'_>,
    provider: &ExtensionProvider,
    traced_as: &str,
) -> Result<(&'static str, Any, u32, bool), String> {
    let upstream = |service: &str, port| providers.upstream(&provider.name, service, port);
    if let Some(zipkin) = &provider.zipkin {
        let config = zipkin_config(&upstream(&zipkin.service, zipkin.port)?, zipkin);
        return Ok((
            "envoy.tracers.zipkin",
            plain_any(&config),
            zipkin.max_tag_length,
            false,
        ));
    }
    if let Some(otel) = &provider.opentelemetry {
        if otel.dynatrace_sampler.is_some() {
            return Err(format!(
                "extension provider {:?}: dynatraceSampler has no effect; leave it out",
                provider.name
            ));
        }
        let config = otel_config(&upstream(&otel.service, otel.port)?, otel, traced_as);
        return Ok((
            "envoy.tracers.opentelemetry",
            plain_any(&config),
            otel.max_tag_length,
            false,
        ));
    }
    if let Some(datadog) = &provider.datadog {
        let to = upstream(&datadog.service, datadog.port)?;
        let config = DatadogConfig {
            collector_cluster: to.cluster,
            collector_hostname: to.host,
            service_name: traced_as.to_owned(),
            ..Default::default()
        };
        return Ok((
            "envoy.tracers.datadog",
            plain_any(&config),
            datadog.max_tag_length,
            false,
        ));
    }
    if let Some(skywalking) = &provider.skywalking {
        let config = SkyWalkingConfig {
            grpc_service: Some(upstream(&skywalking.service, skywalking.port)?.grpc()),
            ..Default::default()
        };
        return Ok(("envoy.tracers.skywalking", plain_any(&config), 0, true));
    }
    Err(format!(
        "extension provider {:?} is none that stock Envoy can trace to; use zipkin, opentelemetry, datadog or skywalking",
        provider.name
    ))
}

fn zipkin_config(to: &super::provider::Upstream, provider: &ZipkinProvider) -> ZipkinConfig {
    let path = if provider.path.is_empty() {
        "/api/v2/spans"
    } else {
        &provider.path
    };
    let context = match provider.trace_context_option {
        ZipkinTraceContext::UseB3 => TraceContextOption::UseB3,
        ZipkinTraceContext::UseB3WithW3c => TraceContextOption::UseB3WithW3cPropagation,
    };
    ZipkinConfig {
        collector_endpoint_version: CollectorEndpointVersion::HttpJson as i32,
        trace_id_128bit: !provider.enable_64bit_trace_id,
        shared_span_context: bool_value(false),
        collector_service: Some(to.http(path, provider.timeout, &provider.headers)),
        trace_context_option: context as i32,
        ..Default::default()
    }
}

fn otel_config(
    to: &super::provider::Upstream,
    provider: &OpenTelemetryProvider,
    traced_as: &str,
) -> OpenTelemetryConfig {
    let mut out = OpenTelemetryConfig {
        service_name: traced_as.to_owned(),
        ..Default::default()
    };
    if let Some(http) = &provider.http {
        out.http_service = Some(to.http(&http.path, http.timeout, &http.headers));
    } else {
        let mut grpc = to.grpc();
        if let Some(settings) = &provider.grpc {
            grpc.timeout = settings.timeout.and_then(|timeout| duration(timeout.0));
            grpc.initial_metadata = settings.initial_metadata.iter().map(header_value).collect();
        }
        out.grpc_service = Some(grpc);
    }
    let detectors = provider.resource_detectors.as_ref();
    let semantic =
        provider.service_attribute_enrichment == ServiceAttributeEnrichment::OtelSemanticConventions;
    if semantic || detectors.is_some_and(|d| d.environment.is_some()) {
        out.resource_detectors
            .push(detector("environment", &EnvironmentResourceDetectorConfig {}));
    }
    if detectors.is_some_and(|d| d.dynatrace.is_some()) {
        out.resource_detectors
            .push(detector("dynatrace", &DynatraceResourceDetectorConfig {}));
    }
    out
}

fn detector<M: Message + Name>(name: &str, config: &M) -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: format!("envoy.tracers.opentelemetry.resource_detectors.{name}"),
        typed_config: Some(plain_any(config)),
    }
}

/// A tag of the user's.
fn custom(name: &str, asked: &Asked) -> Option<CustomTag> {
    use custom_tag::{Environment, Header, Literal, Type};
    let value = if let Some(literal) = &asked.literal {
        Type::Literal(Literal {
            value: literal.value.clone(),
        })
    } else if let Some(variable) = &asked.environment {
        Type::Environment(Environment {
            name: variable.name.clone(),
            default_value: variable.default_value.clone(),
        })
    } else if let Some(header) = &asked.header {
        Type::RequestHeader(Header {
            name: header.name.clone(),
            default_value: header.default_value.clone(),
        })
    } else {
        Type::Value(asked.formatter.as_ref()?.value.clone())
    };
    Some(CustomTag {
        tag: name.to_owned(),
        r#type: Some(value),
    })
}

/// A tag of MeshConfig's `defaultConfig` in the Telemetry API's form.
fn of_proxy_config(tag: &config::mesh::CustomTag) -> Asked {
    let named = |tag: &config::mesh::NamedTag| NamedTag {
        name: tag.name.clone(),
        default_value: tag.default_value.clone(),
    };
    Asked {
        literal: tag.literal.as_ref().map(|literal| TagValue {
            value: literal.value.clone(),
        }),
        environment: tag.environment.as_ref().map(named),
        header: tag.header.as_ref().map(named),
        formatter: None,
    }
}

/// What Istio says of each span's workload.
fn istio_tags() -> impl Iterator<Item = CustomTag> {
    let tags = [
        ("istio.canonical_service", "CANONICAL_NAME"),
        ("istio.canonical_revision", "CANONICAL_REVISION"),
        ("istio.mesh_id", "MESH_ID"),
        ("istio.namespace", "NAMESPACE"),
        ("istio.cluster_id", "CLUSTER_ID"),
    ];
    tags.into_iter().map(|(tag, key)| CustomTag {
        tag: tag.to_owned(),
        r#type: Some(custom_tag::Type::Value(format!("%CEL(xds.node.metadata.{key})%"))),
    })
}
