//! Mixer's configuration resolved: rules, handlers and instances checked and compiled into something that decides
//! ([`Rules::check`], [`Rules::quota`]), measures ([`Rules::report`]) and says what a workload's Envoy must ask
//! ([`Rules::requirements`]).
//!
//! Pure: time comes in as an argument, and state (quota windows) is a value that the caller keeps. It knows nothing
//! of gRPC, of Envoy's messages or of how metrics are exposed.

mod api_spec;
mod backend;
mod binding;
mod build;
mod cel;
mod check;
mod compile;
mod condition;
mod datum;
mod descriptor;
mod gateway;
mod handler;
mod header;
mod http;
mod instance;
mod join;
mod partial;
mod placement;
mod quota;
mod quota_spec;
mod record;
mod reference;
mod report;
mod request;
mod requirements;
mod rules;
mod sampling;
mod services;
mod window;
mod workload;

pub use backend::{Backend, BackendHandler, Remote, Taken};
pub use check::{Answer, Ask, Asked, HeaderChange, Verdict};
pub use compile::{
    Amount, BodyPart, Bucket, Change, Count, Dimension, Fact, Field, HeaderText, Line, Matcher, Mutation,
    Part, Place, Reason, Refusal, Test, Text, Values,
};
pub use config::adapters::{
    Algorithm, Buckets, Code, Dogstatsd, DogstatsdMetric, Fluentd, Level, Limit, List, ListSource,
    MetricDefinition, MetricKind, NamePart, Opa, OpenTelemetry, OtlpMetric, Rbac, RedisPlace, RedisServer,
    Rotation, Security, Statsd, StatsdKind, StatsdMetric, Stdio, Stream, Tls, Validity, Zipkin,
};
pub use datum::Datum;
pub use descriptor::{DescriptorFacts, DescriptorProblem};
pub use gateway::{GatewayView, SENT, Sent, Target, all_headers};
pub use http::{HeaderMap, query_of};
pub use instance::InstanceValue;
pub use placement::Placement;
pub use quota::{Due, QuotaDenial, Store};
pub use record::{FieldValue, Fields};
pub use report::{Delivery, Reports, Sample};
pub use request::{Api, Connection, Extra, Party, Protocol, ReporterKind, Request, Response};
pub use requirements::{
    Check, DescriptorEntry, Direction, Headers, Ports, QuotaDescriptor, Report, Requirements, Traffic,
    removal,
};
pub use rules::Rules;
pub use window::{Charge, Units, Windows};
pub use workload::{ServiceView, WorkloadView};

/// Annotation of a rule that says what happens when Mixer cannot be asked: `"true"` lets requests pass, `"false"`
/// refuses them. Without it MeshConfig's `policyCheckFailOpen` holds (Istio has no setting for one rule).
pub const FAIL_OPEN_ANNOTATION: &str = "policy.argosy.io/fail-open";

/// Annotation of a `memquota` handler that says who counts its quotas: [`PER_MESH`], Mixer for all proxies together, or
/// [`PER_PROXY`]. Each proxy then grants the amount by itself, so that all of them grant more (Istio has no setting for it).
pub const QUOTA_SCOPE_ANNOTATION: &str = "policy.argosy.io/quota-scope";
/// Value of [`QUOTA_SCOPE_ANNOTATION`]: each proxy by itself where it can, without a call.
pub const PER_PROXY: &str = "proxy";
/// Value of [`QUOTA_SCOPE_ANNOTATION`], as without it: all proxies together.
pub const PER_MESH: &str = "mesh";

/// Annotation of a rule whose value [`REPORTS_TO_MIXER`] has proxies report the requests that it is for to Mixer, also where they
/// could count and log them by themselves, and where the rule has no action for reports: the graph of services is made of such
/// reports (Istio has no setting for it, since all reports went to Mixer).
pub const REPORTS_ANNOTATION: &str = "policy.argosy.io/reports";
/// The value of [`REPORTS_ANNOTATION`].
pub const REPORTS_TO_MIXER: &str = "mixer";

/// gRPC metadata of an ext_authz call (set by Envoy's filter, `initial_metadata`) that says which rules it asks for:
/// [`FAIL_OPEN`] or [`FAIL_CLOSED`]. Without it all rules are asked.
pub const FAILURE_MODE_METADATA: &str = "x-argosy-failure-mode";
/// Value of [`FAILURE_MODE_METADATA`] for the rules that fail open.
pub const FAIL_OPEN: &str = "open";
/// Value of [`FAILURE_MODE_METADATA`] for the rules that fail closed.
pub const FAIL_CLOSED: &str = "closed";

/// gRPC metadata of an ext_authz call that names the rules that are asked (`NAME.NAMESPACE`, joined by commas), where the
/// proxy decides others by itself. Without it all rules of the failure mode are asked.
pub const RULES_METADATA: &str = "x-argosy-rules";

/// gRPC metadata of an access log stream that names the rules that are told (`NAME.NAMESPACE`, joined by commas), where the proxy
/// counts and logs for others by itself. Without it all rules are told.
pub const REPORTED_METADATA: &str = "x-argosy-reported-rules";

/// `log_name` of the access logs of requests that arrive at a workload.
pub const LOG_INBOUND: &str = "argosy.inbound";
/// `log_name` of the access logs of requests that a workload sends.
pub const LOG_OUTBOUND: &str = "argosy.outbound";
/// Custom tag of those logs with the identity in the upstream's certificate, a URI; Envoy's entries have the downstream's alone.
pub const UPSTREAM_PEER_TAG: &str = "destination.principal";
/// Name of the filter state in which a proxy keeps the address and port of the connection itself for descriptors: CEL's own
/// `source.address` is what the client writes into X-Forwarded-For.
pub const SOURCE_ADDRESS_STATE: &str = "argosy.source.address";
/// Domain of the rate limit descriptors.
pub const RATE_LIMIT_DOMAIN: &str = "argosy";
