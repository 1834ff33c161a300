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
    let filled = filled.replace("grpc_response_status=\"unknown\"", "grpc_response_status=\"\"");
    match namespace(&filled) {
        Some(namespace) => filled.replacen(NAMESPACE_UNKNOWN, &format!("{NAMESPACE}\"{namespace}\""), 1),
        None => filled,
    }
}

/// The label of the client's namespace.
const NAMESPACE: &str = "source_workload_namespace=";
/// The same where the proxy has no text for it: of connections over mutual TLS, whose certificate tells it.
const NAMESPACE_UNKNOWN: &str = "source_workload_namespace=\"unknown\"";

/// The namespace in the client's identity (`spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`), which was authenticated.
fn namespace(line: &str) -> Option<&str> {
    let (_, identity) = line.split_once("source_principal=\"spiffe://")?;
    let (identity, _) = identity.split_once('"')?;
    let mut parts = identity.split('/').skip(1);
    let (ns, namespace) = (parts.next()?, parts.next()?);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (ns == "ns" && namespace.chars().all(plain)).then_some(namespace)
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
    fn the_clients_namespace_is_its_certificates() {
        let check = |namespace: &str, principal: &str, expected: &str| {
            let line = |namespace: &str| {
                format!(
                    "istio_tcp_sent_bytes_total{{source_workload_namespace=\"{namespace}\",source_principal=\"{principal}\",destination_workload_namespace=\"unknown\"}} 3\n"
                )
            };
            let told = istio_names(&format!("envoy_{}", line(namespace)));
            assert_eq!(told, line(expected), "{principal}");
        };
        check("", "spiffe://cluster.local/ns/shop/sa/web", "shop");
        check("unknown", "spiffe://cluster.local/ns/shop/sa/web", "shop");
        check("front", "spiffe://cluster.local/ns/shop/sa/web", "front");
        check("unknown", "unknown", "unknown");
        check("unknown", "spiffe://cluster.local/agents/x", "unknown");
    }

    #[test]
    fn labels_without_a_value_are_unknown() {
        let envoy = "envoy_istio_requests_total{source_app=\"\",x=\"=\",grpc_response_status=\"\"} 3\nenvoy_x{a=\"\"} 1\n";
        let expected = "istio_requests_total{source_app=\"unknown\",x=\"=\",grpc_response_status=\"\"} 3\nenvoy_x{a=\"\"} 1\n";
        assert_eq!(istio_names(envoy), expected);
    }
}
