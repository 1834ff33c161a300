//! The agent's metrics page has the application's metrics too: Prometheus scrapes one page a pod, and needs no mutual TLS for
//! it. The pod's `prometheus.io` annotations then name the agent's page, and the agent is told what they named.

use std::collections::BTreeMap;

use serde::Serialize;

type Annotations = BTreeMap<String, String>;

/// The page that the agent serves.
const PAGE: &str = "/stats/prometheus";

/// What the agent scrapes, in Istio's form (`ISTIO_PROMETHEUS_ANNOTATIONS`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Scrape {
    scrape: String,
    path: String,
    port: String,
}

/// Which of the three an annotation is; Prometheus takes `prometheus.io/port` and `prometheus_io_port` alike.
fn part(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("prometheus")?;
    let rest = rest.strip_prefix(['.', '_', '-', '/'])?.strip_prefix("io")?;
    let part = rest.strip_prefix(['.', '_', '-', '/'])?;
    ["scrape", "path", "port"].contains(&part).then_some(part)
}

/// Has Prometheus ask the agent, and gives what the agent is to ask; `None` when the application has said nothing of a page.
/// Without effect where the pod opts out of being scraped.
pub(crate) fn merge(annotations: &mut Annotations, status_port: u16) -> Option<Scrape> {
    let mut scrape = Scrape::default();
    for (name, value) in &*annotations {
        match part(name) {
            Some("scrape") => value.clone_into(&mut scrape.scrape),
            Some("path") => value.clone_into(&mut scrape.path),
            Some("port") => value.clone_into(&mut scrape.port),
            _ => {}
        }
    }
    let status_port = status_port.to_string();
    let opts_out = ["0", "f", "F", "false", "FALSE", "False"].contains(&scrape.scrape.as_str());
    if opts_out || scrape.port == status_port {
        return None;
    }
    annotations.retain(|name, _| part(name).is_none());
    let ours = [("scrape", "true"), ("path", PAGE), ("port", &status_port)];
    annotations.extend(ours.map(|(part, value)| (format!("prometheus.io/{part}"), value.to_owned())));
    (scrape != Scrape::default()).then_some(scrape)
}

/// Takes away what [`merge`] has set, for a pod that is injected again.
pub(crate) fn clear(annotations: &mut Annotations, status_port: u16) {
    let port = status_port.to_string();
    if annotations
        .iter()
        .any(|(name, value)| part(name) == Some("port") && *value == port)
    {
        annotations.retain(|name, _| part(name).is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Annotations {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    const OURS: [(&str, &str); 3] = [
        ("prometheus.io/scrape", "true"),
        ("prometheus.io/path", PAGE),
        ("prometheus.io/port", "15020"),
    ];

    #[test]
    fn the_agent_is_scraped_and_scrapes() {
        let mut annotations = of(&[
            ("prometheus.io/port", "9090"),
            ("prometheus_io_path", "/m"),
            ("a", "b"),
        ]);
        let scrape = merge(&mut annotations, 15020).unwrap();
        assert_eq!((scrape.port.as_str(), scrape.path.as_str()), ("9090", "/m"));
        let mut expected = of(&OURS);
        expected.insert("a".to_owned(), "b".to_owned());
        assert_eq!(annotations, expected);
        assert_eq!(merge(&mut annotations, 15020), None, "what is ours stays");
        clear(&mut annotations, 15020);
        assert_eq!(annotations, of(&[("a", "b")]));
    }

    #[test]
    fn a_pod_that_is_not_scraped_stays_so() {
        let mut annotations = of(&[("prometheus.io/scrape", "false")]);
        assert_eq!(merge(&mut annotations, 15020), None);
        assert_eq!(annotations, of(&[("prometheus.io/scrape", "false")]));
    }
}
