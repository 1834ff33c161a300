//! The graph of services: who calls whom, how often, with how many errors, how long it takes. Made from reports, in windows of
//! a minute that are forgotten after five; bounded in edges. It knows nothing of transports.

use std::collections::HashMap;

use parking_lot::Mutex;
use policy::{Protocol, ReporterKind, Request};
use serde::Serialize;

/// Most edges; further ones are counted as left out.
const MAX_EDGES: usize = 20_000;
/// Longest name that a node keeps, in bytes.
const MAX_NAME: usize = 253;
/// Length of a window, in nanoseconds.
const WINDOW: i64 = 60_000_000_000;
/// Windows that are kept, the one that is being filled among them.
const WINDOWS: usize = 5;
/// Upper bounds of the classes of latency, in milliseconds.
const BOUNDS: [f64; 14] = [
    0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0,
];

/// A workload, or what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct Node {
    pub(crate) namespace: String,
    pub(crate) workload: String,
}

/// Which way reports of an edge come.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) source: Node,
    pub(crate) destination: Node,
    pub(crate) service: String,
    pub(crate) protocol: &'static str,
    /// Whether the source's proxy says it.
    pub(crate) by_source: bool,
}

/// One window of an edge.
#[derive(Debug, Clone, Default, PartialEq)]
struct Window {
    number: i64,
    requests: u64,
    errors: u64,
    bytes_received: u64,
    bytes_sent: u64,
    /// Requests by class of latency, the last without bound.
    latency: [u64; BOUNDS.len() + 1],
}

/// The graph. Time comes in as nanoseconds of one clock.
#[derive(Debug, Default)]
pub(crate) struct Graph(Mutex<Edges>);

#[derive(Debug, Default)]
struct Edges {
    windows: HashMap<Key, Vec<Window>>,
    left_out: u64,
}

/// What happened on an edge.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Happened {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// Nanoseconds that a request took.
    pub(crate) duration: Option<i64>,
}

/// The graph as its page shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// Seconds that the figures are of.
    pub(crate) seconds: f64,
    pub(crate) edges: Vec<Edge>,
    /// Reports of edges beyond the bound.
    #[serde(rename = "leftOut")]
    pub(crate) left_out: u64,
}

/// An edge as its page shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Edge {
    pub(crate) source: Node,
    pub(crate) destination: Node,
    pub(crate) service: String,
    pub(crate) protocol: &'static str,
    /// Which proxy's reports these are: both ends may report one request.
    pub(crate) reporter: &'static str,
    pub(crate) requests: u64,
    pub(crate) requests_per_second: f64,
    /// HTTP statuses from 500 up, and gRPC statuses that are the server's fault; of TCP, connections that Envoy broke off.
    pub(crate) errors: u64,
    pub(crate) error_rate: f64,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    /// Milliseconds within which half, nine tenths and 99 in 100 of the requests were answered, to the precision of the
    /// classes; null without any, and for those beyond 10 s.
    pub(crate) latency: Latency,
}

/// Quantiles of latency in milliseconds.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p99: Option<f64>,
}

fn named(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

fn node(party: &policy::Party<'_>) -> Node {
    let unknown = || "unknown".to_owned();
    match party.workload {
        Some(workload) => Node {
            namespace: named(&workload.namespace),
            workload: named(workload.workload_name()),
        },
        None => Node {
            namespace: unknown(),
            workload: unknown(),
        },
    }
}

/// Whether a response is the server's fault (or Envoy's, of TCP).
fn failed(request: &Request<'_>) -> bool {
    let response = &request.response;
    let grpc = response.grpc_status.and_then(|status| status.parse::<u32>().ok());
    match request.protocol {
        Protocol::Tcp => response
            .flags
            .is_some_and(|flags| !flags.is_empty() && flags != "-"),
        // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        _ if grpc.is_some_and(|status| matches!(status, 2 | 4 | 12 | 13 | 14 | 15)) => true,
        // No response at all: the client went away, or Envoy gave up.
        _ => response.code.is_some_and(|code| code >= 500 || code == 0),
    }
}

impl Graph {
    /// Takes a report.
    pub(crate) fn observe(&self, request: &Request<'_>, now: i64) {
        let key = Key {
            source: node(&request.source),
            destination: node(&request.destination),
            service: named(request.service.map_or("unknown", |service| &service.host)),
            protocol: request.protocol.name(),
            by_source: request.reporter == ReporterKind::Outbound,
        };
        let tcp = request.protocol == Protocol::Tcp;
        let ended = !tcp || request.connection.event.is_none_or(|event| event == "close");
        let count = |bytes: Option<i64>| {
            bytes
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or_default()
        };
        let happened = Happened {
            requests: ended.into(),
            errors: (ended && failed(request)).into(),
            bytes_received: count(if tcp {
                request.connection.received
            } else {
                request.size
            }),
            bytes_sent: count(if tcp {
                request.connection.sent
            } else {
                request.response.size
            }),
            duration: request.response.duration.filter(|_| !tcp),
        };
        self.add(key, happened, now);
    }

    /// Adds to an edge.
    pub(crate) fn add(&self, key: Key, happened: Happened, now: i64) {
        let number = now.div_euclid(WINDOW);
        let mut edges = self.0.lock();
        if !edges.windows.contains_key(&key) {
            if edges.windows.len() >= MAX_EDGES {
                edges.forget(number);
            }
            if edges.windows.len() >= MAX_EDGES {
                edges.left_out = edges.left_out.saturating_add(1);
                return;
            }
        }
        edges.windows.entry(key).or_default().add(number, happened);
    }

    /// The last minutes, by edge.
    pub(crate) fn show(&self, now: i64) -> Shown {
        let number = now.div_euclid(WINDOW);
        let mut edges = self.0.lock();
        edges.forget(number);
        let span = i64::try_from(WINDOWS).unwrap_or(1) - 1;
        #[expect(clippy::cast_precision_loss, reason = "seconds of some minutes")]
        let seconds = ((now.rem_euclid(WINDOW) + span * WINDOW) as f64 / 1e9).max(1.0);
        let mut shown: Vec<(&Key, Edge)> = edges
            .windows
            .iter()
            .map(|(key, windows)| (key, edge(key, windows, seconds)))
            .collect();
        shown.sort_by_key(|(key, _)| *key);
        Shown {
            seconds,
            edges: shown.into_iter().map(|(_, edge)| edge).collect(),
            left_out: edges.left_out,
        }
    }
}

impl Edges {
    fn forget(&mut self, number: i64) {
        let oldest = number - i64::try_from(WINDOWS).unwrap_or(1) + 1;
        self.windows.retain(|_, windows| {
            windows.retain(|window| window.number >= oldest);
            !windows.is_empty()
        });
    }
}

trait Fill {
    fn add(&mut self, number: i64, happened: Happened);
}

impl Fill for Vec<Window> {
    fn add(&mut self, number: i64, happened: Happened) {
        if self.last().is_none_or(|last| last.number != number) {
            if self.len() >= WINDOWS {
                self.remove(0);
            }
            self.push(Window {
                number,
                ..Window::default()
            });
        }
        let Some(window) = self.last_mut() else { return };
        window.requests = window.requests.saturating_add(happened.requests);
        window.errors = window.errors.saturating_add(happened.errors);
        window.bytes_received = window.bytes_received.saturating_add(happened.bytes_received);
        window.bytes_sent = window.bytes_sent.saturating_add(happened.bytes_sent);
        if let Some(duration) = happened.duration {
            #[expect(clippy::cast_precision_loss, reason = "a duration in milliseconds")]
            let ms = duration as f64 / 1e6;
            let class = BOUNDS
                .iter()
                .position(|bound| ms <= *bound)
                .unwrap_or(BOUNDS.len());
            if let Some(count) = window.latency.get_mut(class) {
                *count = count.saturating_add(1);
            }
        }
    }
}

fn edge(key: &Key, windows: &[Window], seconds: f64) -> Edge {
    let sum = |of: fn(&Window) -> u64| windows.iter().map(of).fold(0, u64::saturating_add);
    let (requests, errors) = (sum(|w| w.requests), sum(|w| w.errors));
    #[expect(clippy::cast_precision_loss, reason = "rates are doubles")]
    let rate = |count: u64, of: f64| if of > 0.0 { count as f64 / of } else { 0.0 };
    #[expect(clippy::cast_precision_loss, reason = "rates are doubles")]
    let error_rate = rate(errors, requests as f64);
    Edge {
        source: key.source.clone(),
        destination: key.destination.clone(),
        service: key.service.clone(),
        protocol: key.protocol,
        reporter: if key.by_source { "source" } else { "destination" },
        requests,
        requests_per_second: rate(requests, seconds),
        errors,
        error_rate,
        bytes_received: sum(|w| w.bytes_received),
        bytes_sent: sum(|w| w.bytes_sent),
        latency: latency(windows),
    }
}

fn latency(windows: &[Window]) -> Latency {
    let mut classes = [0u64; BOUNDS.len() + 1];
    for window in windows {
        for (class, count) in classes.iter_mut().zip(window.latency) {
            *class = class.saturating_add(count);
        }
    }
    let total: u64 = classes.iter().sum();
    let quantile = |percent: u64| {
        let rank = total.saturating_mul(percent).div_ceil(100);
        let mut seen = 0u64;
        let class = classes.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        })?;
        BOUNDS.get(class).copied().filter(|_| total > 0)
    };
    Latency {
        p50: quantile(50),
        p90: quantile(90),
        p99: quantile(99),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(workload: &str) -> Key {
        let node = |workload: &str| Node {
            namespace: "shop".into(),
            workload: workload.into(),
        };
        Key {
            source: node("frontend"),
            destination: node(workload),
            service: "catalog.shop.svc.cluster.local".into(),
            protocol: "http",
            by_source: false,
        }
    }

    fn request(errors: u64, ms: i64) -> Happened {
        Happened {
            requests: 1,
            errors,
            duration: Some(ms * 1_000_000),
            ..Happened::default()
        }
    }

    #[test]
    fn an_edge_has_rate_errors_and_latency() {
        let graph = Graph::default();
        for n in 0..100 {
            graph.add(
                key("catalog"),
                request(u64::from(n < 10), if n < 95 { 4 } else { 200 }),
                n,
            );
        }
        let shown = graph.show(WINDOW / 2);
        let [edge] = shown.edges.as_slice() else {
            panic!("{shown:?}")
        };
        assert_eq!((edge.requests, edge.errors, edge.error_rate), (100, 10, 0.1));
        assert!((edge.requests_per_second * shown.seconds - 100.0).abs() < 1e-6);
        let expected = Latency {
            p50: Some(5.0),
            p90: Some(5.0),
            p99: Some(250.0),
        };
        assert_eq!(edge.latency, expected);
    }

    #[test]
    fn what_is_older_than_the_windows_is_forgotten() {
        let graph = Graph::default();
        graph.add(key("catalog"), request(0, 1), 0);
        graph.add(key("catalog"), request(0, 1), 3 * WINDOW);
        assert_eq!(graph.show(4 * WINDOW).edges[0].requests, 2);
        assert_eq!(graph.show(5 * WINDOW).edges[0].requests, 1);
        assert!(graph.show(9 * WINDOW).edges.is_empty());
    }

    #[test]
    fn edges_are_bounded_and_the_rest_is_counted() {
        let graph = Graph::default();
        for n in 0..MAX_EDGES + 5 {
            graph.add(key(&n.to_string()), request(0, 1), 0);
        }
        let shown = graph.show(1);
        assert_eq!((shown.edges.len(), shown.left_out), (MAX_EDGES, 5));
        // Old edges make room.
        graph.add(key("new"), request(0, 1), 10 * WINDOW);
        assert_eq!(graph.show(10 * WINDOW).edges.len(), 1);
    }
}
