//! Envoy's metrics under Istio's names. Pure.

/// Envoy puts `envoy_` before every name, so that its `istio_requests_total` becomes `envoy_istio_requests_total`.
/// Dashboards ask for the name without it, and for `unknown` where a label of such a metric has no value. What a proxy counts for
/// Mixer's rules it calls `envoy_istiomixer_NAME`, and has the labels that the rule gives it.
pub fn istio_names(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (head, name) = split_name(line);
        out.push_str(head);
        match name.strip_prefix("envoy_") {
            Some(rest) if rest.starts_with("istio_") => out.push_str(&known_labels(rest)),
            Some(rest) => out.push_str(rest.strip_prefix("istiomixer_").unwrap_or(name)),
            None => out.push_str(name),
        }
    }
    out
}

/// Only gRPC's status is empty in Istio's metrics too, for requests that are none of gRPC's.
fn known_labels(line: &str) -> String {
    let filled = line.replace("=\"\"", "=\"unknown\"");
    filled.replace("grpc_response_status=\"unknown\"", "grpc_response_status=\"\"")
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

    #[test]
    fn metrics_of_rules_have_their_own_names_and_labels() {
        let envoy = "# TYPE envoy_istiomixer_shop_visits_total counter\n\
                     envoy_istiomixer_shop_visits_total{user=\"\"} 3\nenvoy_istiod_x{} 1\n";
        let expected =
            "# TYPE shop_visits_total counter\nshop_visits_total{user=\"\"} 3\nenvoy_istiod_x{} 1\n";
        assert_eq!(istio_names(envoy), expected);
    }

    #[test]
    fn labels_without_a_value_are_unknown() {
        let envoy = "envoy_istio_requests_total{source_app=\"\",x=\"=\",grpc_response_status=\"\"} 3\nenvoy_x{a=\"\"} 1\n";
        let expected = "istio_requests_total{source_app=\"unknown\",x=\"=\",grpc_response_status=\"\"} 3\nenvoy_x{a=\"\"} 1\n";
        assert_eq!(istio_names(envoy), expected);
    }
}
