//! Where Istio's semantics are easily missed: what each object means beside others, case by case.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

mod support;

use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster::ClusterDiscoveryType};
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::extensions::clusters::dns::v3::DnsCluster;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoygen::{Interception, Output, Proxy, Scope, type_url};
use prost::Message;
use support::envoy::validate;
use support::{cluster, generator, host_routes, listener, manager, names, routes, tables};

const NODE: &str = "sidecar~127.1.0.9~client.shop~shop.svc.cluster.local";
const SERVER: &str = "sidecar~127.1.0.8~reviews.shop~shop.svc.cluster.local";
const EDGE: &str = "router~127.1.0.7~edge.istio-system~istio-system.svc.cluster.local";

/// A client, and services of three kinds: HTTP on 9080, an undeclared port, and a database.
const MESH: &str = r#"
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: client, namespace: shop}, spec: {address: 127.1.0.9, labels: {app: client}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: edge, namespace: istio-system}, spec: {address: 127.1.0.7, labels: {istio: edge}}}
---
{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: reviews, namespace: shop}, spec: {address: 127.1.0.8, labels: {app: reviews}}}
---
{apiVersion: v1, kind: Service, metadata: {name: reviews, namespace: shop}, spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}, {name: api, port: 9090}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: cart, namespace: shop}, spec: {selector: {app: cart}, ports: [{name: http, port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: mysql, namespace: shop}, spec: {selector: {app: mysql}, ports: [{name: tcp, port: 3306}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: secret, namespace: vault}, spec: {selector: {app: secret}, ports: [{name: http, port: 9080}]}}
---
"#;

fn object(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    let group = match kind {
        "MeshConfig" => "mesh.istio.io/v1alpha1",
        _ => "networking.istio.io/v1",
    };
    format!(
        "{{apiVersion: {group}, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}\n---\n"
    )
}

/// What a node gets without interception, which Envoy takes.
fn unredirected(node: &str, objects: &[String]) -> Output {
    let text = [MESH.to_owned(), objects.concat()].concat();
    let output = tables(&generator(&[&text]), node);
    validate(&output);
    output
}

fn redirected(node: &str, objects: &[String]) -> Output {
    of_proxy(objects, node, |proxy| {
        proxy.interception = Some(Interception::Redirect)
    })
}

fn of_proxy(objects: &[String], node: &str, edit: impl Fn(&mut Proxy)) -> Output {
    let text = [MESH.to_owned(), objects.concat()].concat();
    let generator = generator(&[&text]);
    let mut proxy = Proxy::parse(node, None).unwrap();
    edit(&mut proxy);
    let output = generator.generate(&Scope::of(&proxy, &generator));
    validate(&output);
    output
}

fn sidecar(spec: &str) -> String {
    object("Sidecar", "shop", "default", spec)
}

/// How a cluster speaks.
fn spoken(cluster: &Cluster) -> &'static str {
    let all = &cluster.typed_extension_protocol_options;
    let Some(any) = all.get("envoy.extensions.upstreams.http.v3.HttpProtocolOptions") else {
        return "HTTP/1.1";
    };
    let options = HttpProtocolOptions::decode(any.value.as_slice()).unwrap();
    match options.upstream_protocol_options.unwrap() {
        UpstreamProtocolOptions::UseDownstreamProtocolConfig(_) => "downstream",
        UpstreamProtocolOptions::ExplicitHttpConfig(config) => match config.protocol_config.unwrap() {
            ProtocolConfig::Http2ProtocolOptions(_) => "HTTP/2",
            _ => "HTTP/1.1",
        },
        UpstreamProtocolOptions::AutoConfig(_) => "auto",
    }
}

fn rule(host: &str, policy: &str) -> String {
    let spec = format!("{{host: {host}, trafficPolicy: {policy}}}");
    object("DestinationRule", "shop", "rule", &spec)
}

#[test]
fn undeclared_ports_are_spoken_to_by_who_speaks() {
    let upgrade = || rule("reviews", "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}");
    let keep = || rule("reviews", "{connectionPool: {http: {useClientProtocol: true}}}");
    let (undeclared, http) = (
        "outbound|9090||reviews.shop.svc.cluster.local",
        "outbound|9080||reviews.shop.svc.cluster.local",
    );
    for (node, objects, name, expected) in [
        (NODE, vec![], undeclared, "downstream"),
        (EDGE, vec![], undeclared, "HTTP/1.1"),
        (NODE, vec![upgrade()], undeclared, "HTTP/2"),
        (EDGE, vec![upgrade()], undeclared, "HTTP/2"),
        (EDGE, vec![keep()], undeclared, "downstream"),
        (NODE, vec![keep()], http, "downstream"),
        (NODE, vec![upgrade()], http, "HTTP/2"),
        (NODE, vec![], http, "HTTP/1.1"),
    ] {
        let made = cluster(&unredirected(node, &objects), name);
        assert_eq!(spoken(&made), expected, "{node} {objects:?} {name}");
    }
    let server = redirected(SERVER, &[upgrade()]);
    let of = |port: u16| spoken(&cluster(&server, &format!("inbound|{port}||"))).to_owned();
    assert_eq!(
        (of(9080), of(9090)),
        ("HTTP/1.1".into(), "downstream".into()),
        "no application is upgraded"
    );
}

fn bounds(cluster: &Cluster) -> (u32, u32) {
    let thresholds = &cluster.circuit_breakers.as_ref().unwrap().thresholds[0];
    (
        thresholds.max_connections.unwrap().value,
        thresholds.max_requests.unwrap().value,
    )
}

const POOL: &str = "{tcp: {maxConnections: 7}, http: {http2MaxRequests: 9}}";

#[test]
fn servers_have_the_bounds_of_their_clients() {
    let clients = || rule("reviews", &format!("{{connectionPool: {POOL}}}"));
    let mesh = || {
        let spec = format!("{{defaultTrafficPolicy: {{connectionPool: {POOL}}}}}");
        object("MeshConfig", "istio-system", "istio", &spec)
    };
    let own = || sidecar("{inboundConnectionPool: {tcp: {maxConnections: 3}, http: {http2MaxRequests: 4}}}");
    let unbounded = (u32::MAX, u32::MAX);
    for (objects, expected) in [
        (vec![], unbounded),
        (vec![clients()], (7, 9)),
        (vec![mesh()], (7, 9)),
        (vec![clients(), own()], (3, 4)),
    ] {
        let server = redirected(SERVER, &objects);
        assert_eq!(
            bounds(&cluster(&server, "inbound|9080||")),
            expected,
            "{objects:?}"
        );
    }
    let server = redirected(SERVER, &[clients()]);
    let found = server.get(type_url::CLUSTER, "inbound|9080||").unwrap();
    let origins: Vec<String> = found.origins.iter().map(ToString::to_string).collect();
    assert_eq!(origins, ["DestinationRule shop/rule"]);
    let client = redirected(NODE, &[mesh()]);
    let outbound = cluster(&client, "outbound|9080||reviews.shop.svc.cluster.local");
    assert_eq!(bounds(&outbound), (7, 9), "and clients have the mesh's");
}

#[test]
fn what_a_rules_keepalive_leaves_open_is_the_meshs() {
    let mesh = "{tcpKeepalive: {probes: 3, interval: 10s}}";
    let mesh = object("MeshConfig", "istio-system", "istio", mesh);
    let own = rule("reviews", "{connectionPool: {tcp: {tcpKeepalive: {time: 60s}}}}");
    let output = unredirected(NODE, &[mesh, own]);
    let made = cluster(&output, "outbound|9080||reviews.shop.svc.cluster.local");
    let keepalive = made.upstream_connection_options.unwrap().tcp_keepalive.unwrap();
    let values = [
        keepalive.keepalive_probes,
        keepalive.keepalive_interval,
        keepalive.keepalive_time,
    ];
    assert_eq!(values.map(|value| value.unwrap().value), [3, 10, 60]);
}

#[test]
fn a_sidecars_own_port_is_for_the_services_that_have_it() {
    let own = sidecar(
        "{egress: [{port: {number: 3306, protocol: TCP, name: tcp}, bind: 127.1.0.9, captureMode: NONE, hosts: [\"./*\"]}]}",
    );
    let output = unredirected(NODE, &[own]);
    let found = listener(&output, "127.1.0.9_3306");
    let proxies = tcp_proxies(&found);
    assert_eq!(proxies.len(), 1);
    let shown = format!("{:?}", proxies[0].cluster_specifier);
    assert!(
        shown.contains("outbound|3306||mysql.shop.svc.cluster.local"),
        "{shown}"
    );
}

fn tcp_proxies(listener: &envoy_types::pb::envoy::config::listener::v3::Listener) -> Vec<TcpProxy> {
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let filters = chains.flat_map(|chain| &chain.filters);
    let found = filters.filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with(".TcpProxy") => {
            Some(TcpProxy::decode(any.value.as_slice()).unwrap())
        }
        _ => None,
    });
    found.collect()
}

#[test]
fn connections_have_their_rules_bounds() {
    let own = rule(
        "mysql",
        "{connectionPool: {tcp: {idleTimeout: 5s, maxConnectionDuration: 60s}}, loadBalancer: {consistentHash: {useSourceIp: true}}}",
    );
    let egress = sidecar(
        "{egress: [{port: {number: 3306, protocol: TCP, name: tcp}, bind: 127.1.0.9, captureMode: NONE, hosts: [\"./*\"]}]}",
    );
    let output = unredirected(NODE, &[own.clone(), egress]);
    let gateway = object(
        "Gateway",
        "shop",
        "db",
        "{selector: {istio: edge}, servers: [{port: {number: 13306, protocol: TCP, name: tcp}, bind: 127.1.0.7, hosts: [\"*\"]}]}",
    );
    let route = object(
        "VirtualService",
        "shop",
        "db",
        "{hosts: [\"*\"], gateways: [db], tcp: [{route: [{destination: {host: mysql}}]}]}",
    );
    let edge = unredirected(
        EDGE,
        &[own, gateway, route].map(|text| {
            text.replace(
                "namespace: shop}, spec: {host: mysql,",
                "namespace: shop}, spec: {host: mysql.shop.svc.cluster.local,",
            )
        }),
    );
    for (output, name) in [(&output, "127.1.0.9_3306"), (&edge, "127.1.0.7_13306")] {
        let proxy = tcp_proxies(&listener(output, name)).remove(0);
        assert_eq!(proxy.idle_timeout.unwrap().seconds, 5, "{name}");
        assert_eq!(
            proxy.max_downstream_connection_duration.unwrap().seconds,
            60,
            "{name}"
        );
        assert!(format!("{:?}", proxy.hash_policy).contains("SourceIp"), "{name}");
    }
}

#[test]
fn hosts_of_virtual_services_are_where_their_services_are() {
    let of = |hosts: &str| {
        let spec = format!(
            "{{hosts: [{hosts}], http: [{{route: [{{destination: {{host: reviews, port: {{number: 9080}}}}}}]}}]}}"
        );
        redirected(NODE, &[object("VirtualService", "shop", "v", &spec)])
    };
    let domains = |output: &Output, port: &str| -> Vec<String> {
        let hosts = routes(output, port).virtual_hosts;
        hosts.into_iter().flat_map(|host| host.domains).collect()
    };
    let has = |output: &Output, port: &str, domain: &str| domains(output, port).iter().any(|d| d == domain);
    let both = of("reviews, reviews.example.com");
    assert!(has(&both, "9080", "reviews.example.com"), "beside its service");
    let shown = format!(
        "{:?}",
        host_routes(&both, "9080", "reviews.example.com")[0].action
    );
    assert!(shown.contains("outbound|9080||reviews.shop"), "{shown}");
    assert!(
        has(&both, "80", "reviews.shop.svc.cluster.local"),
        "and on the port that is meant where none is named"
    );
    let alone = of("reviews.example.com");
    assert!(has(&alone, "80", "reviews.example.com") && !has(&alone, "9080", "reviews.example.com"));
    assert!(has(
        &of("\"*.shop.svc.cluster.local\""),
        "9080",
        "reviews.shop.svc.cluster.local"
    ));
}

#[test]
fn the_nearest_virtual_service_comes_first() {
    let of = |name: &str, namespace: &str, export: &str, created: u32| {
        format!(
            "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: \"200{created}-01-01T00:00:00Z\"}}, spec: {{hosts: [a.example.com], exportTo: [{export}], http: [{{name: {name}, route: [{{destination: {{host: cart.shop.svc.cluster.local}}}}]}}]}}}}\n---\n"
        )
    };
    let first = |objects: &[String]| {
        let output = redirected(NODE, objects);
        host_routes(&output, "80", "a.example.com")[0].name.clone()
    };
    let public = || of("public", "shop", "\"*\"", 1);
    let named = || of("named", "vault", "shop", 2);
    let private = || of("private", "shop", "\".\"", 3);
    assert_eq!(first(&[public(), named(), private()]), "private");
    assert_eq!(first(&[public(), named()]), "named");
    assert_eq!(first(&[public()]), "public");
}

#[test]
fn hosts_behind_a_tilde_are_left_out() {
    let route = object(
        "VirtualService",
        "vault",
        "v",
        "{hosts: [secret], http: [{name: s, route: [{destination: {host: secret}}]}]}",
    );
    let of = |hosts: &str| {
        let own = sidecar(&format!("{{egress: [{{hosts: [{hosts}]}}]}}"));
        let output = redirected(NODE, &[own, route.clone()]);
        let secret = names(&output).iter().any(|name| name.contains("secret.vault"));
        let others = names(&output).iter().any(|name| name.contains("|reviews.shop"));
        (secret, others)
    };
    assert_eq!(of(r#""*/*""#), (true, true));
    assert_eq!(
        of(r#""*/*", "~vault/secret.vault.svc.cluster.local""#),
        (false, true)
    );
    assert_eq!(of(r#""*/*", "~/*.vault.svc.cluster.local""#), (false, true));
    assert_eq!(
        of(r#""*/*", "~shop/secret.vault.svc.cluster.local""#),
        (true, true),
        "of another namespace"
    );
    assert_eq!(of(r#""*/*", "~./*""#), (true, false));
    assert_eq!(of(r#""~/*""#), (false, false));
}

#[test]
fn a_forward_proxys_port_reaches_all_services() {
    let listeners = [
        (
            "{number: 3128, protocol: HTTP_PROXY, name: http-proxy}",
            "127.1.0.9",
            "127.1.0.9_3128",
            "3128",
        ),
        (
            "{number: 0, protocol: HTTP, name: http}",
            "unix:///tmp/argosy-egress.sock",
            "unix:///tmp/argosy-egress.sock_0",
            "unix:///tmp/argosy-egress.sock",
        ),
    ];
    let route = object(
        "VirtualService",
        "shop",
        "v",
        "{hosts: [old.example.com], http: [{name: v, route: [{destination: {host: cart}}]}]}",
    );
    for (port, bind, name, table) in listeners {
        let own = sidecar(&format!(
            "{{egress: [{{port: {port}, bind: \"{bind}\", captureMode: NONE, hosts: [\"./*\"]}}]}}"
        ));
        let output = unredirected(NODE, &[own, route.clone()]);
        assert!(manager(&listener(&output, name).filter_chains[0].filters[0]).is_some());
        let all = routes(&output, table);
        assert!(
            !all.ignore_port_in_host_matching,
            "the port says which service is meant"
        );
        for (domain, expected) in [
            ("reviews:9080", "outbound|9080||reviews"),
            ("reviews.shop.svc.cluster.local:9090", "outbound|9090||reviews"),
            ("cart", "outbound|80||cart"),
            ("cart:80", "outbound|80||cart"),
            ("old.example.com", "outbound|80||cart"),
        ] {
            let shown = format!("{:?}", host_routes(&output, table, domain)[0].action);
            assert!(shown.contains(expected), "{domain}: {shown}");
        }
        let domains: Vec<&String> = all.virtual_hosts.iter().flat_map(|host| &host.domains).collect();
        assert!(!domains.contains(&&"reviews".to_owned()), "{domains:?}");
    }
}

fn struct_of(fields: &[(&str, Value)]) -> Value {
    let fields = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    Value {
        kind: Some(Kind::StructValue(Struct {
            fields: fields.collect(),
        })),
    }
}

const GATEWAY: &str = "{selector: {istio: edge}, servers: [{port: {number: 8080, protocol: HTTP, name: http}, bind: BIND, hosts: [\"*\"]}]}";

#[test]
fn a_gateways_own_topology_is_before_the_meshs() {
    let gateway = object(
        "Gateway",
        "istio-system",
        "gw",
        &GATEWAY.replace("BIND", "127.1.0.7"),
    );
    let text = [MESH.to_owned(), gateway].concat();
    let generator = generator(&[&text]);
    let hops = |metadata: Option<&Struct>| {
        let proxy = Proxy::parse(EDGE, metadata).unwrap();
        let output = generator.generate(&Scope::of(&proxy, &generator));
        validate(&output);
        let found = listener(&output, "127.1.0.7_8080");
        let trusted = manager(&found.filter_chains[0].filters[0])
            .unwrap()
            .xff_num_trusted_hops;
        let first = found.listener_filters.first().map(|filter| filter.name.clone());
        (trusted, first.unwrap_or_default())
    };
    assert_eq!(hops(None), (0, String::new()));
    let number = Value {
        kind: Some(Kind::NumberValue(2.0)),
    };
    let topology = struct_of(&[("numTrustedProxies", number), ("proxyProtocol", struct_of(&[]))]);
    let config = struct_of(&[("gatewayTopology", topology)]);
    let metadata = Struct {
        fields: [("PROXY_CONFIG".to_owned(), config)].into(),
    };
    assert_eq!(
        hops(Some(&metadata)),
        (2, "envoy.filters.listener.proxy_protocol".to_owned())
    );
}

#[test]
fn http_1_0_is_taken_where_the_proxy_says_so() {
    let gateway = object(
        "Gateway",
        "istio-system",
        "gw",
        &GATEWAY.replace("BIND", "127.1.0.7"),
    );
    let takes = |http10| {
        let output = of_proxy(std::slice::from_ref(&gateway), EDGE, |proxy| {
            proxy.http10 = http10
        });
        let found = listener(&output, "127.1.0.7_8080");
        let manager = manager(&found.filter_chains[0].filters[0]).unwrap();
        manager
            .http_protocol_options
            .is_some_and(|options| options.accept_http_10)
    };
    assert_eq!((takes(false), takes(true)), (false, true));
    let said = Value {
        kind: Some(Kind::StringValue("1".into())),
    };
    let metadata = Struct {
        fields: [("HTTP10".to_owned(), said)].into(),
    };
    assert!(Proxy::parse(EDGE, Some(&metadata)).unwrap().http10);
}

#[test]
fn a_gateway_may_listen_on_a_unix_socket() {
    let spec = GATEWAY
        .replace("BIND", "\"unix:///tmp/argosy-edge.sock\"")
        .replace("number: 8080", "number: 0");
    let route = object(
        "VirtualService",
        "shop",
        "v",
        "{hosts: [\"*\"], gateways: [istio-system/gw], http: [{route: [{destination: {host: cart, port: {number: 80}}}]}]}",
    );
    let output = unredirected(EDGE, &[object("Gateway", "istio-system", "gw", &spec), route]);
    assert!(output.findings.is_empty(), "{:?}", output.findings);
    let found = listener(&output, "unix:///tmp/argosy-edge.sock_0");
    assert!(format!("{:?}", found.address).contains("/tmp/argosy-edge.sock"));
    let shown = format!(
        "{:?}",
        routes(&output, "http.0.unix:///tmp/argosy-edge.sock").virtual_hosts[0].routes[0].action
    );
    assert!(shown.contains("outbound|80||cart"), "{shown}");
}

#[test]
fn filters_are_merged_behind_those_that_are_inserted() {
    let patch = |operation: &str, value: &str| {
        format!(
            "  - applyTo: HTTP_FILTER\n    match: {{context: GATEWAY, listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager, subFilter: {{name: {}}}}}}}}}}}\n    patch: {{operation: {operation}, value: {value}}}\n",
            if operation == "MERGE" {
                "lua"
            } else {
                "envoy.filters.http.router"
            }
        )
    };
    let lua = |code: &str| {
        format!(
            "{{name: lua, typed_config: {{\"@type\": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, {code}}}}}"
        )
    };
    let merge = patch("MERGE", &lua("stat_prefix: merged"));
    let insert = patch(
        "INSERT_BEFORE",
        &lua("default_source_code: {inline_string: \"function envoy_on_request(h) end\"}"),
    );
    let filter = format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: f, namespace: istio-system}}\nspec:\n  configPatches:\n{merge}{insert}---\n"
    );
    let gateway = object(
        "Gateway",
        "istio-system",
        "gw",
        &GATEWAY.replace("BIND", "127.1.0.7"),
    );
    let output = unredirected(EDGE, &[filter, gateway]);
    let found = output.get(type_url::LISTENER, "127.1.0.7_8080").unwrap();
    let shown = envoygen::to_json(type_url::LISTENER, &found.bytes)
        .unwrap()
        .to_string();
    assert!(shown.contains("\"stat_prefix\":\"merged\""), "{shown}");
}

#[test]
fn two_pilots_make_the_same_bytes() {
    let deny = |name: &str| {
        format!(
            "{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: {name}, namespace: shop}}, spec: {{match: 'request.headers[\"x-{name}\"] == \"1\"', actions: [{{handler: deny, instances: [nothing]}}]}}}}\n---\n"
        )
    };
    let mixer = "{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: deny, namespace: shop}, spec: {compiledAdapter: denier, params: {status: {code: 7, message: away}}}}\n---\n{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: nothing, namespace: shop}, spec: {compiledTemplate: checknothing}}\n---\n".to_owned();
    let objects: Vec<String> = std::iter::once(mixer)
        .chain(["a", "b", "c", "d", "e"].map(deny))
        .collect();
    let text = [MESH.to_owned(), objects.concat()].concat();
    let make = || {
        let generator = generator(&[&text]);
        let mut proxy = Proxy::parse(SERVER, None).unwrap();
        proxy.interception = Some(Interception::Redirect);
        generator.generate(&Scope::of(&proxy, &generator)).resources
    };
    let first = make();
    let shown = first
        .iter()
        .map(|resource| String::from_utf8_lossy(&resource.bytes));
    assert!(
        shown.into_iter().any(|bytes| bytes.contains("mixer-000004")),
        "five refusals"
    );
    for _ in 0..8 {
        for (one, other) in first.iter().zip(make()) {
            assert_eq!((&one.name, &one.bytes), (&other.name, &other.bytes));
        }
    }
}

#[test]
fn a_mode_for_unknown_hosts_that_is_not_served_is_named() {
    let told = |mode: &str| {
        let spec = format!("{{outboundTrafficPolicy: {{mode: {mode}}}}}");
        let text = object("MeshConfig", "istio-system", "istio", &spec);
        let findings = generator(&[MESH, &text]).findings().to_vec();
        findings
            .iter()
            .any(|finding| finding.path == "outboundTrafficPolicy.mode")
    };
    assert!(told("ALLOW_ANY_DYNAMIC_DNS") && !told("ALLOW_ANY"));
}

#[test]
fn connections_of_http_2_have_their_settings() {
    let own = rule(
        "reviews",
        "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 11, http2KeepAlive: {interval: 7s, timeout: 2s}}}}",
    );
    let made = cluster(
        &unredirected(NODE, &[own]),
        "outbound|9080||reviews.shop.svc.cluster.local",
    );
    let any =
        &made.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
    let shown = format!("{:?}", HttpProtocolOptions::decode(any.value.as_slice()).unwrap());
    assert!(
        shown.contains("max_concurrent_streams: Some(UInt32Value { value: 11 })"),
        "{shown}"
    );
    assert!(
        shown.contains("seconds: 7") && shown.contains("seconds: 2"),
        "{shown}"
    );
}

#[test]
fn routes_by_namespace_with_statistics_and_retries_elsewhere() {
    let spec = "{hosts: [cart], http: [{match: [{sourceNamespace: vault}], route: [{destination: {host: reviews, port: {number: 9080}}}]}, {match: [{uri: {prefix: /a}, statPrefix: counted}], retries: {attempts: 2, retryIgnorePreviousHosts: false}, route: [{destination: {host: cart}}]}, {retries: {attempts: 2, retryIgnorePreviousHosts: true}, route: [{destination: {host: cart}}]}]}";
    let output = redirected(NODE, &[object("VirtualService", "shop", "v", spec)]);
    let found = host_routes(&output, "80", "cart.shop.svc.cluster.local");
    assert_eq!(found.len(), 2, "one is for clients of another namespace");
    assert_eq!(found[0].stat_prefix, "counted");
    let elsewhere: Vec<bool> = found
        .iter()
        .map(|route| format!("{:?}", route.action).contains("previous_hosts"))
        .collect();
    assert_eq!(elsewhere, [false, true]);
}

#[test]
fn the_meshs_defaults_for_detection_and_visibility() {
    let mesh = "{protocolDetectionTimeout: 3s, defaultServiceExportTo: [\".\"]}";
    let output = redirected(NODE, &[object("MeshConfig", "istio-system", "istio", mesh)]);
    let all: Vec<String> = names(&output);
    assert!(
        all.iter().any(|name| name.contains("|reviews.shop"))
            && !all.iter().any(|name| name.contains("secret.vault")),
        "services are their namespace's alone"
    );
    let found = listener(&output, "virtualInbound");
    assert_eq!(found.listener_filters_timeout.unwrap().seconds, 3);
}

#[test]
fn unknown_hosts_go_through_the_egress_proxy() {
    let own = sidecar(
        "{outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: cart.shop.svc.cluster.local, port: {number: 80}}}, egress: [{hosts: [\"*/*\"]}]}",
    );
    let output = redirected(NODE, &[own]);
    let others = host_routes(&output, "80", "allow_any");
    let shown = format!("{:?}", others[0].action);
    assert!(shown.contains("outbound|80||cart.shop"), "{shown}");
    let connections = tcp_proxies(&listener(&output, "virtualOutbound"));
    let shown = format!("{connections:?}");
    assert!(shown.contains("outbound|80||cart.shop"), "{shown}");
}

#[test]
fn dns_round_robin_takes_one_address_at_a_time() {
    let entry = |resolution: &str| {
        let spec = format!(
            "{{hosts: [db.example.com], resolution: {resolution}, ports: [{{number: 5432, name: tcp, protocol: TCP}}], endpoints: [{{address: one.example.com}}]}}"
        );
        let output = redirected(NODE, &[object("ServiceEntry", "shop", "db", &spec)]);
        let made = cluster(&output, "outbound|5432||db.example.com");
        let Some(ClusterDiscoveryType::ClusterType(custom)) = made.cluster_discovery_type else {
            panic!("not found by DNS")
        };
        let any = custom.typed_config.unwrap();
        DnsCluster::decode(any.value.as_slice())
            .unwrap()
            .all_addresses_in_single_endpoint
    };
    assert_eq!((entry("DNS"), entry("DNS_ROUND_ROBIN")), (false, true));
}
