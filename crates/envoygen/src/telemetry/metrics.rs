//! Istio's standard metrics by Envoy's own stats access logger: names and labels are those of Istio ("Istio Standard Metrics").
//!
//! What is known of the other side comes from where a client cannot forge it: an endpoint's metadata, the peer's certificate,
//! and for HTTP over mutual TLS a header that the peer's proxy sets ([`PEER_HEADER`]), read into dynamic metadata and removed
//! before the application: a peer may misname its workload, but not its namespace and principal, which its certificate says. A label without a value is left empty here; the agent's page shows it as `unknown`.

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, LogTypeFilter, access_log::ConfigType, access_log_filter::FilterSpecifier,
};
use envoy_types::pb::envoy::config::common::mutation_rules::v3::{
    HeaderMutation as Mutation, header_mutation::Action,
};
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction,
};
use envoy_types::pb::envoy::data::accesslog::v3::AccessLogType;
use envoy_types::pb::envoy::extensions::access_loggers::stats::v3::{
    Config,
    config::{Counter, Histogram, Stat, Tag, histogram::Unit},
};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{HeaderMutation, Mutations};
use envoy_types::pb::envoy::extensions::filters::http::header_to_metadata::v3::{
    Config as HeaderToMetadata,
    config::{KeyValuePair, Rule},
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use envoy_types::pb::envoy::r#type::v3::Scope;

use super::resolve::{Change, Metrics};
use crate::filter;
use crate::wire::{plain_any, regex, u32_value, u64_value};

/// Name of the logger that counts.
pub(crate) const STATS_LOGGER: &str = "envoy.access_loggers.stats";
/// The header in which a proxy says which workload it is for: `WORKLOAD;NAMESPACE;APP;VERSION;CANONICAL NAME;CANONICAL
/// REVISION;CLUSTER`.
pub(crate) const PEER_HEADER: &str = "x-argosy-peer";
/// Where the header's parts are kept, and an endpoint's own.
pub(crate) const PEER_METADATA: &str = "argosy.peer";
/// The parts, in the header's order, and the labels made of each.
pub(crate) const PEER_PARTS: [(&str, &str); 7] = [
    ("workload", "workload"),
    ("namespace", "workload_namespace"),
    ("app", "app"),
    ("version", "version"),
    ("name", "canonical_service"),
    ("revision", "canonical_revision"),
    ("cluster", "cluster"),
];

/// Counters that one listener's logger makes of what arrives, and half the histograms; Envoy drops further ones. Clients that make
/// labels up fill no more memory than this: 1,000 workloads that call have a tenth of it.
const MAX_TAKEN: u32 = 10_000;
/// The same of what is sent, where one listener may lead to all services of a mesh.
const MAX_SENT: u32 = 50_000;
/// A part of the header: a label's value, or a workload's or a cluster's name. Others are left out.
const PART: &str = "[A-Za-z0-9._:/-]*";
/// What is read of the header, in bytes: seven parts of usual length. Counted here and not in the patterns, which would be larger
/// than the 100 instructions that Envoy takes where its bootstrap allows no more.
const MAX_LENGTH: usize = 1024;

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reporter {
    /// The side that sends.
    Source,
    /// The side that answers.
    Destination,
}

/// What is known of the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The chosen endpoint says.
    Endpoint,
    /// A client over mutual TLS.
    Mutual,
    /// A client in plaintext, of which nothing is known.
    Plain,
}

/// The logger that counts requests; `None` if all metrics of requests are off.
pub(super) fn http(metrics: &Metrics, reporter: Reporter, peer: Peer) -> Option<AccessLog> {
    let stat = |name| stat(metrics, name, reporter, peer, true);
    let histogram = |name, unit: Unit, value: &str| {
        Some(Histogram {
            stat: Some(stat(name)?),
            unit: unit as i32,
            value_format: value.to_owned(),
        })
    };
    let counters: Vec<Counter> = stat("requests_total").map(one).into_iter().collect();
    let histograms: Vec<Histogram> = [
        histogram("request_duration_milliseconds", Unit::Milliseconds, "%DURATION%"),
        histogram("request_bytes", Unit::Bytes, "%CEL(request.total_size)%"),
        histogram("response_bytes", Unit::Bytes, "%CEL(response.total_size)%"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!counters.is_empty() || !histograms.is_empty()).then(|| log(reporter, counters, histograms, None))
}

/// The loggers that count connections: when they stand, and when they end. Bytes are counted at the end.
pub(super) fn tcp(metrics: &Metrics, reporter: Reporter, peer: Peer) -> Vec<AccessLog> {
    let stat = |name| stat(metrics, name, reporter, peer, false);
    let value = |name, format: &str| {
        Some(Counter {
            stat: Some(stat(name)?),
            value_format: format.to_owned(),
            ..Default::default()
        })
    };
    let opened: Vec<Counter> = stat("tcp_connections_opened_total")
        .map(one)
        .into_iter()
        .collect();
    let ended: Vec<Counter> = [
        stat("tcp_connections_closed_total").map(one),
        value("tcp_sent_bytes_total", "%BYTES_SENT%"),
        value("tcp_received_bytes_total", "%BYTES_RECEIVED%"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let moments = [
        (opened, AccessLogType::TcpUpstreamConnected),
        (ended, AccessLogType::TcpConnectionEnd),
    ];
    let logs = moments.into_iter().filter(|(counters, _)| !counters.is_empty());
    logs.map(|(counters, moment)| log(reporter, counters, Vec::new(), Some(moment)))
        .collect()
}

fn one(stat: Stat) -> Counter {
    Counter {
        stat: Some(stat),
        value_fixed: u64_value(1),
        ..Default::default()
    }
}

fn log(
    reporter: Reporter,
    counters: Vec<Counter>,
    histograms: Vec<Histogram>,
    moment: Option<AccessLogType>,
) -> AccessLog {
    let most = match reporter {
        Reporter::Source => MAX_SENT,
        Reporter::Destination => MAX_TAKEN,
    };
    let config = Config {
        stats_scope: Some(Scope {
            prefix: "istio".to_owned(),
            max_counters: u32_value(most),
            max_histograms: u32_value(2 * most),
            // No sharing_name: with one, Envoy 1.40 crashes when it ends.
            ..Default::default()
        }),
        counters,
        histograms,
        ..Default::default()
    };
    let filter = moment.map(|moment| AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::LogTypeFilter(LogTypeFilter {
            types: vec![moment as i32],
            ..Default::default()
        })),
    });
    AccessLog {
        name: STATS_LOGGER.to_owned(),
        filter,
        config_type: Some(ConfigType::TypedConfig(plain_any(&config))),
    }
}

/// A metric with its labels; `None` if it is off.
fn stat(metrics: &Metrics, name: &'static str, reporter: Reporter, peer: Peer, http: bool) -> Option<Stat> {
    let none = Change::default();
    let change = metrics.changes.get(name).unwrap_or(&none);
    if change.disabled {
        return None;
    }
    let mut tags = tags(reporter, peer, http);
    tags.retain(|(tag, _)| !change.tags.contains_key(tag));
    let added = change
        .tags
        .iter()
        .filter_map(|(tag, cel)| Some((tag.clone(), format!("%CEL({})%", cel.as_ref()?))));
    tags.extend(added);
    let tags = tags.into_iter().map(|(name, value_format)| Tag {
        name,
        value_format,
        ..Default::default()
    });
    Some(Stat {
        name: name.to_owned(),
        tags: tags.collect(),
    })
}

/// Istio's labels. Own ones come from the node's metadata, which the agent fills in.
fn tags(reporter: Reporter, peer: Peer, http: bool) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    let mut tag = |name: &str, value: &str| out.push((name.to_owned(), value.to_owned()));
    let (own, other, reports) = match reporter {
        Reporter::Source => ("source", "destination", "source"),
        Reporter::Destination => ("destination", "source", "destination"),
    };
    tag("reporter", reports);
    let node = [
        "WORKLOAD_NAME",
        "NAMESPACE",
        "LABELS.app",
        "LABELS.version",
        "CANONICAL_NAME",
        "CANONICAL_REVISION",
        "CLUSTER_ID",
    ];
    for ((key, label), node) in PEER_PARTS.iter().zip(node) {
        tag(
            &format!("{own}_{label}"),
            &format!("%CEL(xds.node.metadata.{node})%"),
        );
        let value = match (peer, http) {
            (Peer::Endpoint, _) => format!("%UPSTREAM_METADATA({PEER_METADATA}:{key})%"),
            (Peer::Mutual, true) => format!("%DYNAMIC_METADATA({PEER_METADATA}:{key})%"),
            _ => "unknown".to_owned(),
        };
        tag(&format!("{other}_{label}"), &value);
    }
    let (source, destination) = match peer {
        Peer::Endpoint => ("%UPSTREAM_LOCAL_URI_SAN%", "%UPSTREAM_PEER_URI_SAN%"),
        Peer::Mutual => ("%DOWNSTREAM_PEER_URI_SAN%", "%DOWNSTREAM_LOCAL_URI_SAN%"),
        Peer::Plain => ("unknown", "unknown"),
    };
    tag("source_principal", source);
    tag("destination_principal", destination);
    for (label, key) in [("", "host"), ("_name", "name"), ("_namespace", "namespace")] {
        let value = format!("%CEL(xds.cluster_metadata.filter_metadata.istio.services[0].{key})%");
        tag(&format!("destination_service{label}"), &value);
    }
    tag("response_flags", "%RESPONSE_FLAGS%");
    let security = match peer {
        Peer::Endpoint => "unknown",
        Peer::Mutual => "mutual_tls",
        Peer::Plain => "none",
    };
    tag("connection_security_policy", security);
    if http {
        tag("request_protocol", GRPC_OR_HTTP);
        tag("response_code", "%RESPONSE_CODE%");
        tag("grpc_response_status", "%GRPC_STATUS_NUMBER%");
    } else {
        tag("request_protocol", "tcp");
    }
    out
}

/// gRPC's requests say so by their content type.
const GRPC_OR_HTTP: &str = "%CEL('content-type' in request.headers && \
                            request.headers['content-type'].startsWith('application/grpc') ? 'grpc' : 'http')%";

/// Reads what the peer's proxy says of its workload, and takes the header away. Any holder of a certificate of the mesh may say
/// what it likes of itself, but the namespace is its certificate's.
pub(crate) fn peer_filters() -> [HttpFilter; 2] {
    let last = PEER_PARTS.len() - 1;
    let rule = |(index, (key, _)): (usize, &(&str, &str))| Rule {
        header: PEER_HEADER.to_owned(),
        on_header_present: Some(KeyValuePair {
            metadata_namespace: PEER_METADATA.to_owned(),
            key: (*key).to_owned(),
            regex_value_rewrite: Some(RegexMatchAndSubstitute {
                pattern: Some(regex(&pattern(index, key))),
                substitution: r"\1".to_owned(),
            }),
            ..Default::default()
        }),
        remove: index == last,
        ..Default::default()
    };
    let config = HeaderToMetadata {
        request_rules: PEER_PARTS.iter().enumerate().map(rule).collect(),
        ..Default::default()
    };
    [
        certified(),
        filter::http(filter::HEADER_TO_METADATA, plain_any(&config)),
    ]
}

/// Puts the peer's identity in front of the header, as a further part.
fn certified() -> HttpFilter {
    let value = format!("%DOWNSTREAM_PEER_URI_SAN%;%REQ({PEER_HEADER}):{MAX_LENGTH}%");
    let header = HeaderValueOption {
        header: Some(HeaderValue {
            key: PEER_HEADER.to_owned(),
            value,
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExists as i32,
        ..Default::default()
    };
    let config = HeaderMutation {
        mutations: Some(Mutations {
            request_mutations: vec![Mutation {
                action: Some(Action::Append(header)),
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    filter::http(filter::PEER, plain_any(&config))
}

/// Finds a part behind the identity, or nothing; it always matches, since what does not match is taken as it is.
fn pattern(index: usize, key: &str) -> String {
    match key {
        "namespace" => "^(?:spiffe://[!-.0-:<-~]+/ns/([a-z0-9-]+)/sa/.*|.*)$".to_owned(),
        _ => format!("^(?:(?:[ -:<-~]*;){{{}}}({PART})(?:;.*)?|.*)$", index + 1),
    }
}

/// The header for services of the mesh; others do not learn who calls them.
pub(crate) fn peer_header() -> HeaderValueOption {
    let value = "%CEL(has(xds.cluster_metadata.filter_metadata.istio.services) && \
                 !has(xds.cluster_metadata.filter_metadata.istio.external) ? xds.node.metadata.PEER : '')%";
    HeaderValueOption {
        header: Some(HeaderValue {
            key: PEER_HEADER.to_owned(),
            value: value.to_owned(),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
        ..Default::default()
    }
}
