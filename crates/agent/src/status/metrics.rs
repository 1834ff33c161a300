//! Envoy's metrics under Istio's names. Pure.

/// Envoy puts `envoy_` before every name, so that its `istio_requests_total` becomes `envoy_istio_requests_total`.
/// Dashboards ask for the name without it.
pub fn istio_names(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (head, name) = split_name(line);
        out.push_str(head);
        let istio = name
            .strip_prefix("envoy_")
            .filter(|rest| rest.starts_with("istio_"));
        out.push_str(istio.unwrap_or(name));
    }
    out
}

/// Splits a line before the metric's name.
fn split_name(line: &str) -> (&str, &str) {
    let comment = ["# TYPE ", "# HELP "]
        .into_iter()
        .find(|head| line.starts_with(head));
    line.split_at(comment.map_or(0, str::len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_istio_metrics_change() {
        let envoy = "# TYPE envoy_istio_requests_total counter\n\
                     envoy_istio_requests_total{reporter=\"source\",x=\"envoy_istio_\"} 3\n\
                     # HELP envoy_istio_requests_total envoy_istio_ text\n\
                     # TYPE envoy_cluster_upstream_cx_total counter\n\
                     envoy_cluster_upstream_cx_total{cluster_name=\"envoy_istio_\"} 1\n";
        let expected = "# TYPE istio_requests_total counter\n\
                        istio_requests_total{reporter=\"source\",x=\"envoy_istio_\"} 3\n\
                        # HELP istio_requests_total envoy_istio_ text\n\
                        # TYPE envoy_cluster_upstream_cx_total counter\n\
                        envoy_cluster_upstream_cx_total{cluster_name=\"envoy_istio_\"} 1\n";
        assert_eq!(istio_names(envoy), expected);
        assert_eq!(istio_names(""), "");
    }
}
