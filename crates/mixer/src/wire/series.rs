//! Counters that proxies export, as edges of the graph of services: what a counter rose by since it was last told.
//!
//! Two forms are understood: Istio's `istio_requests_total`, and Envoy's own counters of clusters
//! (`cluster.outbound|PORT|SUBSET|HOST.upstream_rq_2xx`). The proxy's own end is who its certificate says.

use std::collections::HashMap;

use parking_lot::Mutex;
use policy::WorkloadView;

use crate::attributes::parties;
use crate::graph::{Graph, Happened, Key, Node};
use crate::mesh::Mesh;

/// Most counters whose last value is remembered; further ones are not told to the graph.
const MAX_SERIES: usize = 100_000;
/// Longest name and labels of a counter, in bytes.
const MAX_NAME: usize = 4_096;

/// A counter's value.
#[derive(Debug)]
pub(crate) struct Reported<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: Vec<(&'a str, &'a str)>,
    pub(crate) value: u64,
    /// Whether the value is what came since the last one.
    pub(crate) delta: bool,
}

impl Reported<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).filter(|value| !value.is_empty())
    }

    /// Who tells what, as one text.
    fn identity(&self, caller: &str, node: Option<&str>) -> Option<String> {
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        let mut identity = format!("{caller}\n{}\n{}", node.unwrap_or_default(), self.name);
        for (name, value) in labels {
            identity.push_str(&format!("\n{name}={}:{value}", value.len()));
        }
        Some(identity).filter(|identity| identity.len() <= MAX_NAME)
    }
}

/// How long a counter of which nothing more is heard takes up room, in nanoseconds. Its proxy's Pod may be gone.
const KEPT: i64 = 600_000_000_000;
/// Shortest time between two searches for room.
const SEARCH: i64 = 10_000_000_000;

/// The last values of counters.
#[derive(Debug, Default)]
pub(crate) struct Series(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// With the time when they were told.
    last: HashMap<String, (u64, i64)>,
    searched: Option<i64>,
}

impl Known {
    fn make_room(&mut self, now: i64) {
        if self.searched.is_none_or(|at| now.saturating_sub(at) >= SEARCH) {
            self.searched = Some(now);
            self.last.retain(|_, (_, told)| now.saturating_sub(*told) < KEPT);
        }
    }
}

impl Series {
    /// Takes a counter of the proxy `(caller, node)`.
    pub(crate) fn take(
        &self,
        reported: &Reported<'_>,
        mesh: &Mesh,
        (caller, node): (&str, Option<&str>),
        graph: &Graph,
        now: i64,
    ) {
        let Some((edge, failed)) = edge(reported, own(mesh, caller, node)) else {
            return;
        };
        let count = match reported.delta {
            true => reported.value,
            false => match reported.identity(caller, node) {
                Some(identity) => self.rise(identity, reported.value, now),
                None => 0,
            },
        };
        if count > 0 {
            let happened = Happened {
                requests: count,
                errors: if failed { count } else { 0 },
                ..Happened::default()
            };
            graph.add(edge, happened, now);
        }
    }

    /// What a counter rose by; all of it when it is new or has begun anew.
    fn rise(&self, identity: String, value: u64, now: i64) -> u64 {
        let mut known = self.0.lock();
        if let Some((before, told)) = known.last.get_mut(&identity) {
            let rise = if value >= *before { value - *before } else { value };
            (*before, *told) = (value, now);
            return rise;
        }
        if known.last.len() >= MAX_SERIES {
            known.make_room(now);
        }
        if known.last.len() >= MAX_SERIES {
            return 0;
        }
        known.last.insert(identity, (value, now));
        value
    }
}

fn own<'a>(mesh: &'a Mesh, caller: &str, node: Option<&str>) -> Option<&'a WorkloadView> {
    parties::caller(mesh, caller, node, &[])
}

fn node_of(own: Option<&WorkloadView>) -> Node {
    named(
        own.map(WorkloadView::workload_name),
        own.map(|own| own.namespace.as_str()),
    )
}

fn named(workload: Option<&str>, namespace: Option<&str>) -> Node {
    let text = |text: Option<&str>| text.unwrap_or("unknown").chars().take(253).collect();
    Node {
        namespace: text(namespace),
        workload: text(workload),
    }
}

/// The edge that a counter is about, and whether it counts errors.
fn edge(reported: &Reported<'_>, own: Option<&WorkloadView>) -> Option<(Key, bool)> {
    match reported.name {
        "istio_requests_total" => Some(istio(reported, own)),
        name => cluster(name, own),
    }
}

fn istio(reported: &Reported<'_>, own: Option<&WorkloadView>) -> (Key, bool) {
    let by_source = reported.label("reporter") == Some("source");
    let far = |end: &str| {
        named(
            reported.label(&format!("{end}_workload")),
            reported.label(&format!("{end}_workload_namespace")),
        )
    };
    let (source, destination) = match by_source {
        true => (node_of(own), far("destination")),
        false => (far("source"), node_of(own)),
    };
    let grpc = reported.label("request_protocol") == Some("grpc");
    let code = reported.label("response_code").unwrap_or_default();
    let status = reported.label("grpc_response_status").unwrap_or_default();
    let failed =
        code.starts_with('5') || code == "0" || matches!(status, "2" | "4" | "12" | "13" | "14" | "15");
    let key = Key {
        source,
        destination,
        service: reported
            .label("destination_service")
            .unwrap_or("unknown")
            .chars()
            .take(253)
            .collect(),
        protocol: if grpc { "grpc" } else { "http" },
        by_source,
    };
    (key, failed)
}

/// `cluster.outbound|PORT|SUBSET|HOST.upstream_rq_5xx`.
fn cluster(name: &str, own: Option<&WorkloadView>) -> Option<(Key, bool)> {
    let rest = name.strip_prefix("cluster.outbound|")?;
    let (cluster, counter) = rest.rsplit_once('.')?;
    let class = counter.strip_prefix("upstream_rq_")?.strip_suffix("xx")?;
    if !matches!(class, "1" | "2" | "3" | "4" | "5") {
        return None;
    }
    let host = cluster.split('|').nth(2).filter(|host| !host.is_empty())?;
    // Envoy counts each request a second time by where it came from.
    if [".external", ".internal", ".canary"]
        .iter()
        .any(|of| host.ends_with(of))
    {
        return None;
    }
    let key = Key {
        source: node_of(own),
        destination: named(None, None),
        service: host.chars().take(253).collect(),
        protocol: "http",
        by_source: true,
    };
    Some((key, class == "5"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(series: &Series, graph: &Graph, name: &str, labels: &[(&str, &str)], value: u64) {
        let reported = Reported {
            name,
            labels: labels.to_vec(),
            value,
            delta: false,
        };
        series.take(&reported, &Mesh::default(), ("a", None), graph, 0);
    }

    #[test]
    fn totals_become_edges_by_what_they_rose() {
        let (series, graph) = (Series::default(), Graph::default());
        let labels = [
            ("reporter", "destination"),
            ("source_workload", "frontend"),
            ("destination_service", "catalog.shop"),
            ("response_code", "503"),
        ];
        take(&series, &graph, "istio_requests_total", &labels, 10);
        take(&series, &graph, "istio_requests_total", &labels, 25);
        // The proxy was started anew.
        take(&series, &graph, "istio_requests_total", &labels, 5);
        let shown = graph.show(1);
        assert_eq!(shown.edges.len(), 1);
        let edge = &shown.edges[0];
        assert_eq!((edge.requests, edge.errors), (30, 30));
        assert_eq!(edge.source.workload, "frontend");
        // Its own end is who its certificate says, here nobody that is known.
        assert_eq!(edge.destination.workload, "unknown");
    }

    #[test]
    fn counters_of_proxies_that_are_gone_make_room() {
        let series = Series::default();
        let rise = |name: &str, now: i64| series.rise(name.to_owned(), 1, now);
        for number in 0..MAX_SERIES {
            assert_eq!(rise(&number.to_string(), 0), 1);
        }
        assert_eq!(rise("new", KEPT - 1), 0, "there is no room");
        assert_eq!(rise("0", KEPT - 1), 0, "it has not risen");
        assert_eq!(rise("new", KEPT - 1 + SEARCH), 1);
        assert_eq!(series.0.lock().last.len(), 2, "what was told goes on");
    }

    #[test]
    fn envoys_own_counters_of_clusters_are_edges_too() {
        let (series, graph) = (Series::default(), Graph::default());
        take(
            &series,
            &graph,
            "cluster.outbound|80||b.shop.svc.cluster.local.upstream_rq_2xx",
            &[],
            4,
        );
        take(
            &series,
            &graph,
            "cluster.outbound|80||b.shop.svc.cluster.local.upstream_rq_5xx",
            &[],
            1,
        );
        take(
            &series,
            &graph,
            "cluster.outbound|80||b.shop.svc.cluster.local.upstream_rq_200",
            &[],
            4,
        );
        let external = "cluster.outbound|80||b.shop.svc.cluster.local.external.upstream_rq_2xx";
        take(&series, &graph, external, &[], 4);
        take(&series, &graph, "cluster.xds-grpc.upstream_rq_2xx", &[], 9);
        let shown = graph.show(1);
        assert_eq!(shown.edges.len(), 1);
        let edge = &shown.edges[0];
        assert_eq!((edge.requests, edge.errors), (5, 1));
        assert_eq!(edge.service, "b.shop.svc.cluster.local");
    }
}
