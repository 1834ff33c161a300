//! Pilot's metrics, under Istio's names where Istio has one.

use std::collections::BTreeSet;

use config::ObjectKey;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use runtime::Metrics;
use xds::TypeUrl;

use crate::status::short;

/// Upper bounds in seconds, as Istio has them for convergence.
const SECONDS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];

/// Upper bounds in bytes, as Istio has them for configurations.
const BYTES: [f64; 6] = [
    1.0,
    10_000.0,
    1_000_000.0,
    4_000_000.0,
    10_000_000.0,
    40_000_000.0,
];
/// The types whose rejections have a metric each, by Istio's names.
const REJECTED: [&str; 4] = ["cds", "eds", "lds", "rds"];

/// A type of resources, by its short name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TypeLabel {
    /// `cds`, `eds`, `lds`, `rds`.
    pub r#type: String,
}

/// A rejected object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RejectLabel {
    /// `cds`, `eds`, `lds`, `rds`.
    pub r#type: String,
    /// The object's kind.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl RejectLabel {
    /// The label of an object that is behind a rejected resource.
    #[must_use]
    pub fn new(r#type: &str, object: &ObjectKey) -> Self {
        Self {
            r#type: r#type.to_owned(),
            kind: object.kind.as_str(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        }
    }
}

/// Pilot's metrics.
#[derive(Debug, Clone)]
pub struct PilotMetrics {
    /// Connected proxies.
    pub connected: Gauge,
    /// Responses by type.
    pub pushes: Family<TypeLabel, Counter>,
    /// NACKs by type.
    pub nacks: Family<TypeLabel, Counter>,
    /// Resources that proxies reject now, by the object that they came from: how many proxies reject it.
    pub rejects: Family<RejectLabel, Gauge>,
    /// Streams that were refused.
    pub refused: Counter,
    /// Seconds from a change to a proxy that has accepted all of it.
    pub convergence: Histogram,
    /// Number of the newest snapshot.
    pub snapshot: Gauge,
    /// Objects that could not be used together with others.
    pub rejected_objects: Gauge,
    /// Services of the newest snapshot.
    pub services: Gauge,
    /// VirtualServices of the newest snapshot.
    pub virtual_services: Gauge,
    /// Seconds from a change to a response with it, by type.
    pub push_time: Family<TypeLabel, Histogram>,
    /// Bytes of responses, by type.
    pub config_size: Family<TypeLabel, Histogram>,
    rejecting: [Gauge; REJECTED.len()],
}

impl PilotMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connected: metrics.gauge("pilot_xds", "Proxies connected by xDS"),
            pushes: metrics.family("pilot_xds_pushes", "xDS responses by type"),
            nacks: metrics.family(
                "pilot_total_xds_rejects",
                "xDS responses that proxies rejected (NACK), by type",
            ),
            rejects: metrics.family(
                "pilot_xds_rejects",
                "Proxies that reject a resource now, by the object that the resource came from",
            ),
            refused: metrics.counter(
                "pilot_xds_refused",
                "xDS streams refused because of the node or its certificate",
            ),
            convergence: metrics.histogram(
                "pilot_proxy_convergence_time",
                "Seconds from a change to its acceptance by a proxy",
                &SECONDS,
            ),
            snapshot: metrics.gauge(
                "pilot_snapshot",
                "Number of the newest snapshot, counted from start",
            ),
            rejected_objects: metrics.gauge(
                "pilot_rejected_objects",
                "Objects that contradict others and are left out",
            ),
            services: metrics.gauge("pilot_services", "Services of the newest snapshot"),
            virtual_services: metrics.gauge("pilot_virt_services", "VirtualServices of the newest snapshot"),
            push_time: histograms(
                metrics,
                "pilot_xds_push_time",
                "Seconds from a change to a response with it, by type",
                || Histogram::new(SECONDS),
            ),
            config_size: histograms(
                metrics,
                "pilot_xds_config_size_bytes",
                "Bytes of xDS responses, by type",
                || Histogram::new(BYTES),
            ),
            rejecting: REJECTED.map(|short| {
                let name = format!("pilot_xds_{short}_reject");
                metrics.gauge(&name, "Proxies that reject something of this type now")
            }),
        }
    }

    /// Counts a proxy in or out among those that reject something, by the types of it.
    pub fn rejecting(&self, types: &BTreeSet<TypeUrl>, count: impl Fn(&Gauge) -> i64) {
        for (known, gauge) in REJECTED.iter().zip(&self.rejecting) {
            if types.iter().any(|type_url| short(type_url) == *known) {
                count(gauge);
            }
        }
    }
}

fn histograms(
    metrics: &Metrics,
    name: &str,
    help: &str,
    new: fn() -> Histogram,
) -> Family<TypeLabel, Histogram> {
    metrics.register(name, help, Family::new_with_constructor(new))
}
