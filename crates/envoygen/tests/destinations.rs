//! What DestinationRules and kinds of services make of clusters, and what a real Envoy says to it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy},
};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::load_balancing_policies::client_side_weighted_round_robin::v3::ClientSideWeightedRoundRobin;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoygen::{Interception, Output, Proxy, Scope, type_url};
use prost::Message;
use support::envoy::validate;
use support::{addresses, cluster, generator, get, host_routes, listener, names, tables};

const NODE: &str = "sidecar~127.1.0.9~client.shop~shop.svc.cluster.local";

const MESH: &str = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: client, namespace: shop}
spec: {address: 127.1.0.9}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, namespace: shop}
spec:
  hosts: [a.example.com]
  addresses: [192.0.2.80]
  resolution: STATIC
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}]
  endpoints: [{address: 10.0.0.1, labels: {security.istio.io/tlsMode: istio}}]
---
"#;

fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: a, namespace: shop}}\nspec: {{host: a.example.com, {spec}}}\n---\n"
    )
}

fn with(spec: &str) -> Output {
    let output = tables(&generator(&[MESH, &rule(spec)]), NODE);
    validate(&output);
    output
}

fn redirected(texts: &[&str], node: &str, dns_capture: bool) -> Output {
    let generator = generator(texts);
    let mut proxy = Proxy::parse(node, None).unwrap();
    proxy.interception = Some(Interception::Redirect);
    proxy.dns_capture = dns_capture;
    let output = generator.generate(&Scope::of(&proxy, &generator));
    validate(&output);
    output
}

fn http(output: &Output) -> Cluster {
    cluster(output, "outbound|80||a.example.com")
}

fn options(cluster: &Cluster) -> HttpProtocolOptions {
    let all = &cluster.typed_extension_protocol_options;
    let any = &all["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    HttpProtocolOptions::decode(any.value.as_slice()).unwrap()
}

#[test]
fn load_balancers() {
    for (setting, policy) in [
        ("{simple: ROUND_ROBIN}", LbPolicy::RoundRobin),
        ("{simple: LEAST_REQUEST}", LbPolicy::LeastRequest),
        ("{simple: LEAST_CONN}", LbPolicy::LeastRequest),
        ("{simple: RANDOM}", LbPolicy::Random),
        ("{simple: UNSPECIFIED}", LbPolicy::LeastRequest),
        ("{simple: PASSTHROUGH}", LbPolicy::ClusterProvided),
        ("{consistentHash: {httpHeaderName: x-user}}", LbPolicy::RingHash),
        (
            "{consistentHash: {useSourceIp: true, maglev: {tableSize: 5003}}}",
            LbPolicy::Maglev,
        ),
    ] {
        let output = with(&format!("trafficPolicy: {{loadBalancer: {setting}}}"));
        assert_eq!(http(&output).lb_policy, policy as i32, "{setting}");
    }
    assert_eq!(
        http(&tables(&generator(&[MESH]), NODE)).lb_policy,
        LbPolicy::LeastRequest as i32,
        "the default"
    );
}

#[test]
fn endpoints_may_report_their_own_load() {
    let made = http(&with(
        "trafficPolicy: {loadBalancer: {backendUtilization: {weightUpdatePeriod: 2s, errorUtilizationPenaltyPercent: 50, metricNamesForComputingUtilization: [cpu_utilization]}, warmup: {duration: 10s}}}",
    ));
    let policy = made.load_balancing_policy.unwrap().policies.remove(0);
    let any = policy.typed_extension_config.unwrap().typed_config.unwrap();
    let config = ClientSideWeightedRoundRobin::decode(any.value.as_slice()).unwrap();
    assert_eq!(config.weight_update_period.unwrap().seconds, 2);
    assert_eq!(config.error_utilization_penalty.unwrap().value, 0.5);
    assert_eq!(
        config
            .slow_start_config
            .unwrap()
            .slow_start_window
            .unwrap()
            .seconds,
        10
    );
}

#[test]
fn warm_up_has_istios_defaults() {
    let output = with("trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 30s}}}");
    let Some(LbConfig::RoundRobinLbConfig(config)) = http(&output).lb_config else {
        panic!("no slow start")
    };
    let start = config.slow_start_config.unwrap();
    assert_eq!(start.slow_start_window.unwrap().seconds, 30);
    assert_eq!(start.aggression.unwrap().default_value, 1.0);
    assert_eq!(start.min_weight_percent.unwrap().value, 10.0);
}

#[test]
fn hashes_follow_the_policy_of_the_port_and_the_subset() {
    let spec = "trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: whole}}, portLevelSettings: [{port: {number: 80}, loadBalancer: {consistentHash: {httpCookie: {name: port, ttl: 0s}}}}]}, subsets: [{name: v1, labels: {v: a}, trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: subset}}}}, {name: v2, labels: {v: b}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}]";
    let route = |to: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: shop}}\nspec: {{hosts: [a.example.com], http: [{{route: [{{destination: {{host: a.example.com, {to}}}}}]}}]}}\n---\n"
        )
    };
    for (to, expected) in [
        ("port: {number: 80}", "port"),
        ("subset: v1, port: {number: 80}", "subset"),
        ("subset: v2, port: {number: 80}", ""),
    ] {
        let output = tables(&generator(&[MESH, &rule(spec), &route(to)]), NODE);
        validate(&output);
        let routes = host_routes(&output, "80", "a.example.com:80");
        let Some(Action::Route(action)) = &routes[0].action else {
            panic!("no route")
        };
        let shown = format!("{:?}", action.hash_policy);
        match expected {
            "" => assert!(action.hash_policy.is_empty(), "{to}: {shown}"),
            name => assert!(shown.contains(&format!("{name:?}")), "{to}: {shown}"),
        }
    }
}

#[test]
fn connection_pools_and_outliers() {
    let spec = "trafficPolicy: {connectionPool: {tcp: {maxConnections: 7, maxConnectionDuration: 60s, idleTimeout: 5s}}, outlierDetection: {consecutive5xxErrors: 2, minHealthPercent: 30, outlierDetectionHttpErrorCodes: [429, 503]}, retryBudget: {percent: 10, budgetInterval: 2s}}";
    let output = with(spec);
    let made = http(&output);
    let common = options(&made).common_http_protocol_options.unwrap();
    assert_eq!(common.max_connection_duration.unwrap().seconds, 60);
    assert_eq!(common.idle_timeout.unwrap().seconds, 5);
    let matcher = format!("{:?}", options(&made).outlier_detection.unwrap());
    assert!(
        matcher.contains("\"429\"") && matcher.contains("\"503\""),
        "{matcher}"
    );
    let bounds = &made.circuit_breakers.unwrap().thresholds[0];
    assert_eq!(bounds.max_connections.unwrap().value, 7);
    let budget = bounds.retry_budget.unwrap();
    assert_eq!(budget.budget_interval.unwrap().seconds, 2);
    assert_eq!(budget.min_retry_concurrency.unwrap().value, 3);
    assert_eq!(
        made.common_lb_config
            .unwrap()
            .healthy_panic_threshold
            .unwrap()
            .value,
        30.0
    );
    let tcp = cluster(&output, "outbound|90||a.example.com");
    let common = options(&tcp).common_http_protocol_options.unwrap();
    assert_eq!(common.idle_timeout.unwrap().seconds, 5, "bytes have bounds too");
}

#[test]
fn the_proxy_protocol_goes_before_whatever_is_spoken() {
    let wrapped = |socket: &envoy_types::pb::envoy::config::core::v3::TransportSocket| {
        use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
        let Some(ConfigType::TypedConfig(any)) = &socket.config_type else {
            panic!("no config")
        };
        let outer = ProxyProtocolUpstreamTransport::decode(any.value.as_slice()).unwrap();
        (
            outer.config.unwrap().version,
            outer.transport_socket.unwrap().name,
        )
    };
    let plain = with("trafficPolicy: {tls: {mode: DISABLE}, proxyProtocol: {version: V2}}");
    let made = http(&plain);
    assert_eq!(
        wrapped(&made.transport_socket.unwrap()),
        (1, "envoy.transport_sockets.raw_buffer".to_owned())
    );
    let auto = http(&with("trafficPolicy: {proxyProtocol: {version: V1}}"));
    let chosen = auto.transport_socket_matches.iter().map(|m| &m.transport_socket);
    let all = chosen.chain([&auto.transport_socket]).flatten();
    let inner: Vec<_> = all.map(wrapped).collect();
    assert_eq!(
        inner,
        [
            (0, "envoy.transport_sockets.tls".to_owned()),
            (0, "envoy.transport_sockets.raw_buffer".to_owned())
        ]
    );
}

#[test]
fn credentials_come_by_their_secrets_names() {
    for (mode, pair) in [("SIMPLE", false), ("MUTUAL", true)] {
        let made = http(&with(&format!(
            "trafficPolicy: {{tls: {{mode: {mode}, credentialName: web, sni: b.example.com}}}}"
        )));
        let shown = format!("{:?}", made.transport_socket.unwrap());
        // The name stands in the encoded message, whose bytes are shown.
        let bytes = |name: &str| format!("{:?}", name.as_bytes()).replace(['[', ']'], "");
        assert!(shown.contains(&bytes("kubernetes://web-cacert")), "{mode}");
        let names = shown.matches(&bytes("kubernetes://web")).count();
        assert_eq!(names, 1 + usize::from(pair), "{mode}");
    }
}

#[test]
fn tunnels_carry_connections_in_http() {
    let spec = "trafficPolicy: {tunnel: {protocol: POST, targetHost: inner.example.com, targetPort: 443}}";
    let output = redirected(&[MESH, &rule(spec)], NODE, false);
    let found = listener(&output, "192.0.2.80_90");
    let chains = found.filter_chains.iter().chain(&found.default_filter_chain);
    let proxies: Vec<TcpProxy> = chains
        .flat_map(|chain| &chain.filters)
        .filter_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with(".TcpProxy") => {
                Some(TcpProxy::decode(any.value.as_slice()).unwrap())
            }
            _ => None,
        })
        .collect();
    let tunnel = proxies[0].tunneling_config.clone().unwrap();
    assert_eq!(
        (tunnel.hostname.as_str(), tunnel.use_post),
        ("inner.example.com:443", true)
    );
}

/// A headless Service with two Pods, one the client's.
const HEADLESS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: h, namespace: shop}
spec: {clusterIP: None, selector: {app: h}, ports: [{name: http, port: 80}, {name: tcp, port: 90}]}
---
apiVersion: v1
kind: Pod
metadata: {name: h-1, namespace: shop, labels: {app: h}}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: h.shop.svc.cluster.local}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: to-alias, namespace: shop}
spec: {hosts: [b.example.com], http: [{route: [{destination: {host: alias, port: {number: 80}}}]}]}
---
"#;

fn kind(cluster: &Cluster) -> DiscoveryType {
    match cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).unwrap(),
        _ => panic!("not a kind"),
    }
}

#[test]
fn headless_services_keep_the_destination_where_there_is_one() {
    let name = "outbound|90||h.shop.svc.cluster.local";
    let kept = redirected(&[MESH, HEADLESS], NODE, false);
    assert_eq!(kind(&cluster(&kept, name)), DiscoveryType::OriginalDst);
    let none = tables(&generator(&[MESH, HEADLESS]), NODE);
    validate(&none);
    assert_eq!(
        kind(&cluster(&none, name)),
        DiscoveryType::Eds,
        "nothing is redirected"
    );
    let set: ClusterLoadAssignment = get(&none, type_url::ENDPOINTS, name);
    assert_eq!(addresses(&set), ["10.0.0.1:90"]);
}

#[test]
fn an_alias_leads_to_its_service() {
    let output = redirected(&[MESH, HEADLESS], NODE, false);
    assert!(
        !names(&output).iter().any(|n| n.contains("|alias.shop")),
        "an alias has no clusters"
    );
    for host in [
        "alias.shop.svc.cluster.local",
        "alias",
        "h.shop.svc.cluster.local",
        "b.example.com",
    ] {
        let routes = host_routes(&output, "80", host);
        let shown = format!("{:?}", routes[0].action);
        assert!(
            shown.contains("outbound|80||h.shop.svc.cluster.local"),
            "{host}: {shown}"
        );
    }
}

#[test]
fn addresses_given_to_entries_count_where_the_agent_answers_dns() {
    let text = MESH.replace("addresses: [192.0.2.80]", "addresses: []");
    let given = |dns_capture| {
        let output = redirected(&[&text], NODE, dns_capture);
        names(&output)
            .into_iter()
            .filter(|n| n.starts_with("Listener 240.240."))
            .count()
    };
    assert_eq!((given(false), given(true)), (0, 1));
}

#[test]
fn both_addresses_of_a_pod_are_tried() {
    let text = r#"
apiVersion: v1
kind: Service
metadata: {name: d, namespace: shop}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, 'fd00:96::1'], ipFamilies: [IPv4, IPv6], selector: {app: d}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: d-1, namespace: shop, labels: {app: d}}
status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
"#;
    let output = redirected(&[MESH, text], NODE, false);
    let set: ClusterLoadAssignment = get(
        &output,
        type_url::ENDPOINTS,
        "outbound|80||d.shop.svc.cluster.local",
    );
    let Some(HostIdentifier::Endpoint(endpoint)) = &set.endpoints[0].lb_endpoints[0].host_identifier else {
        panic!("no endpoint")
    };
    assert!(
        format!("{:?}", endpoint.additional_addresses).contains("fd00::1"),
        "{endpoint:?}"
    );
}
