//! The names of resources, as Istio gives them.

/// Connections to addresses that no service has.
pub(crate) const PASSTHROUGH_CLUSTER: &str = "PassthroughCluster";
/// A cluster without endpoints.
pub(crate) const BLACK_HOLE_CLUSTER: &str = "BlackHoleCluster";
/// Inbound connections on ports that no service has.
pub(crate) const INBOUND_PASSTHROUGH_CLUSTER: &str = "InboundPassthroughCluster";
/// The listener that outgoing connections are redirected to.
pub(crate) const VIRTUAL_OUTBOUND: &str = "virtualOutbound";
/// The listener that incoming connections are redirected to.
pub(crate) const VIRTUAL_INBOUND: &str = "virtualInbound";
/// The agent's SDS, a static cluster of the bootstrap.
pub(crate) const SDS_CLUSTER: &str = "sds-grpc";
/// The workload's certificate and key.
pub(crate) const DEFAULT_SECRET: &str = "default";
/// The chain for incoming HTTP on ports that no service has.
pub(crate) const CATCH_ALL_HTTP: &str = "virtualInbound-catchall-http";
/// The roots of trust.
pub(crate) const ROOT_SECRET: &str = "ROOTCA";

/// `outbound|PORT|SUBSET|HOST`.
pub(crate) fn outbound_cluster(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// `inbound|PORT||`.
pub(crate) fn inbound_cluster(port: u16) -> String {
    format!("inbound|{port}||")
}

/// `BIND_PORT`.
pub(crate) fn listener(bind: &str, port: u16) -> String {
    format!("{bind}_{port}")
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(crate) fn domain(host: &str, port: u16) -> String {
    format!("{}:{port}", bracketed(host))
}

/// An IPv6 address in brackets, anything else as it is.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// Other names by which clients in `proxy_domain` (`NS.svc.DOMAIN`) call a service: the absolute name, and for Kubernetes
/// services the shorter forms that DNS search paths allow.
pub(crate) fn alternatives(host: &str, proxy_domain: &str) -> Vec<String> {
    let mut out = Vec::new();
    if host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('*') {
        out.push(format!("{host}."));
    }
    let Some((own, domain)) = proxy_domain.split_once(".svc.") else {
        return out;
    };
    let Some(rest) = host.strip_suffix(domain).and_then(|h| h.strip_suffix(".svc.")) else {
        return out;
    };
    let Some((name, namespace)) = rest.split_once('.') else {
        return out;
    };
    if namespace == own {
        out.push(name.to_owned());
    }
    out.push(format!("{rest}.svc"));
    out.push(rest.to_owned());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_follow_dns_search_paths() {
        let host = "catalog.shop.svc.cluster.local";
        let own = alternatives(host, "shop.svc.cluster.local");
        assert_eq!(
            own,
            [
                "catalog.shop.svc.cluster.local.",
                "catalog",
                "catalog.shop.svc",
                "catalog.shop"
            ]
        );
        let other = alternatives(host, "edge.svc.cluster.local");
        assert_eq!(
            other,
            [
                "catalog.shop.svc.cluster.local.",
                "catalog.shop.svc",
                "catalog.shop"
            ]
        );
        assert_eq!(
            alternatives("example.com", "shop.svc.cluster.local"),
            ["example.com."]
        );
        assert!(alternatives("10.0.0.1", "shop.svc.cluster.local").is_empty());
    }
}
