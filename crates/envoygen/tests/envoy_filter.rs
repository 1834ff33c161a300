//! EnvoyFilters: what each kind of patch does to the tables, and that Envoy takes the result.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use envoygen::{Generator, Output, Proxy, Scope, type_url};
use serde_json::Value;
use support::envoy::validate;
use support::{SHOP, generator, tables};

const FRONTEND: &str = "sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local";
const CATALOG: &str = "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local";
const EDGE: &str = "router~127.1.0.1~ingressgateway.istio-system~istio-system.svc.cluster.local";

/// An EnvoyFilter in a namespace, its spec as YAML at an indent of two.
fn filter(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}"
    )
}

/// The tables of a node under some EnvoyFilters, which Envoy takes.
fn patched(node: &str, filters: &[String]) -> Output {
    let output = unchecked(node, filters);
    validate(&output);
    output
}

fn unchecked(node: &str, filters: &[String]) -> Output {
    let mut texts = vec![SHOP];
    texts.extend(filters.iter().map(String::as_str));
    tables(&generator(&texts), node)
}

/// A resource as JSON.
fn json(output: &Output, type_url: &str, name: &str) -> Value {
    let found = output
        .get(type_url, name)
        .unwrap_or_else(|| panic!("{name} is missing"));
    envoygen::to_json(type_url, &found.bytes).unwrap()
}

fn listener(output: &Output, name: &str) -> Value {
    json(output, type_url::LISTENER, name)
}

/// The names of the HTTP filters of a listener's first chain.
fn http_filters(listener: &Value) -> Vec<&str> {
    let filters = listener["filter_chains"][0]["filters"].as_array().unwrap();
    let manager = filters
        .iter()
        .find(|f| f["name"] == "envoy.filters.network.http_connection_manager")
        .unwrap();
    let filters = manager["typed_config"]["http_filters"].as_array().unwrap();
    filters
        .iter()
        .map(|f| {
            f["name"]
                .as_str()
                .unwrap()
                .trim_start_matches("envoy.filters.http.")
        })
        .collect()
}

const LUA: &str = r#"
      value:
        name: envoy.filters.http.lua
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
          defaultSourceCode: {inlineString: "function envoy_on_request(handle) handle:headers():add('x-lua', 'yes') end"}
"#;

/// A Lua filter put somewhere.
fn lua(operation: &str, sub_filter: &str) -> String {
    let sub_filter = if sub_filter.is_empty() {
        String::new()
    } else {
        format!(", subFilter: {{name: {sub_filter}}}")
    };
    format!(
        "  configPatches:\n  - applyTo: HTTP_FILTER\n    match:\n      context: GATEWAY\n      listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager{sub_filter}}}}}}}\n    patch:\n      operation: {operation}{LUA}"
    )
}

/// Checks in which order the HTTP filters of the gateway are.
fn check_place(operation: &str, sub_filter: &str, expected: &[&str]) {
    let output = patched(
        EDGE,
        &[filter("istio-system", "lua", &lua(operation, sub_filter))],
    );
    assert_eq!(
        http_filters(&listener(&output, "127.1.0.1_8080")),
        expected,
        "{operation} {sub_filter}"
    );
}

#[test]
fn http_filters_are_put_where_the_patch_says() {
    let router = "envoy.filters.http.router";
    check_place(
        "INSERT_FIRST",
        "",
        &["lua", "grpc_web", "istio.alpn", "fault", "cors", "router"],
    );
    check_place(
        "INSERT_BEFORE",
        router,
        &["grpc_web", "istio.alpn", "fault", "cors", "lua", "router"],
    );
    check_place(
        "INSERT_AFTER",
        "envoy.filters.http.fault",
        &["grpc_web", "istio.alpn", "fault", "lua", "cors", "router"],
    );
    check_place(
        "REPLACE",
        "envoy.filters.http.cors",
        &["grpc_web", "istio.alpn", "fault", "lua", "router"],
    );
    check_place(
        "REMOVE",
        "envoy.filters.http.cors",
        &["grpc_web", "istio.alpn", "fault", "router"],
    );
    check_place(
        "ADD",
        "",
        &["grpc_web", "istio.alpn", "fault", "cors", "lua", "router"],
    );
    check_place(
        "INSERT_AFTER",
        "no.such.filter",
        &["grpc_web", "istio.alpn", "fault", "cors", "router"],
    );
}

#[test]
fn provenance_names_the_filter() {
    let output = patched(EDGE, &[filter("istio-system", "lua", &lua("INSERT_FIRST", ""))]);
    let found = output.get(type_url::LISTENER, "127.1.0.1_8080").unwrap();
    assert!(
        found
            .origins
            .iter()
            .any(|key| key.to_string() == "EnvoyFilter istio-system/lua")
    );
}

#[test]
fn merges_reach_into_typed_configuration() {
    let spec = r#"  configPatches:
  - applyTo: NETWORK_FILTER
    match: {context: GATEWAY, listener: {portNumber: 8080, filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: MERGE
      value:
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stream_idle_timeout: 5s
          use_remote_address: false
  - applyTo: LISTENER
    match: {context: GATEWAY, listener: {name: 127.1.0.1_8080}}
    patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 4096}}
  - applyTo: LISTENER_FILTER
    match: {context: GATEWAY}
    patch:
      operation: INSERT_FIRST
      value:
        name: envoy.filters.listener.proxy_protocol
        typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}
  - applyTo: FILTER_CHAIN
    match: {context: GATEWAY}
    patch: {operation: MERGE, value: {transport_socket_connect_timeout: 3s}}
"#;
    let output = patched(EDGE, &[filter("istio-system", "merge", spec)]);
    let listener = listener(&output, "127.1.0.1_8080");
    let manager = &listener["filter_chains"][0]["filters"][0]["typed_config"];
    assert_eq!(
        (&manager["stream_idle_timeout"], &manager["use_remote_address"]),
        (&"5s".into(), &false.into())
    );
    assert_eq!(
        manager["stat_prefix"], "outbound_127.1.0.1_8080",
        "what is not named stays"
    );
    assert_eq!(listener["per_connection_buffer_limit_bytes"], 4096);
    assert_eq!(
        listener["listener_filters"][0]["name"],
        "envoy.filters.listener.proxy_protocol"
    );
    assert_eq!(
        listener["filter_chains"][0]["transport_socket_connect_timeout"],
        "3s"
    );
}

#[test]
fn lists_are_joined_or_replaced() {
    let merged = |operation: &str| {
        let spec = format!(
            r#"  configPatches:
  - applyTo: NETWORK_FILTER
    match: {{context: GATEWAY, listener: {{portNumber: 8080, filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager}}}}}}}}
    patch:
      operation: {operation}
      value:
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stream_idle_timeout: 5s
          upgrade_configs: [{{upgrade_type: connect}}]
"#
        );
        let output = patched(EDGE, &[filter("istio-system", "lists", &spec)]);
        let manager =
            listener(&output, "127.1.0.1_8080")["filter_chains"][0]["filters"][0]["typed_config"].clone();
        assert_eq!(manager["stream_idle_timeout"], "5s");
        assert!(
            manager["http_filters"]
                .as_array()
                .is_some_and(|filters| !filters.is_empty()),
            "a list that the patch does not name stays"
        );
        let upgrades = manager["upgrade_configs"].as_array().unwrap().iter();
        let types: Vec<String> = upgrades.map(|one| one["upgrade_type"].to_string()).collect();
        types.join(" ")
    };
    assert_eq!(merged("MERGE"), r#""websocket" "connect""#);
    assert_eq!(merged("MERGE_AND_REPLACE_LIST"), r#""connect""#);
}

#[test]
fn routes_and_virtual_hosts() {
    let spec = r#"  configPatches:
  - applyTo: ROUTE_CONFIGURATION
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {portNumber: 7080}}
    patch: {operation: MERGE, value: {request_headers_to_remove: [x-gone]}}
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {name: "7080", vhost: {name: "catalog.shop.svc.cluster.local:7080"}}}
    patch: {operation: MERGE, value: {request_headers_to_remove: [x-host]}}
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {domainName: stock.shop.svc.cluster.local}}}
    patch: {operation: REMOVE}
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {portNumber: 7080}}
    patch: {operation: ADD, value: {name: added, domains: [added.example], routes: [{match: {prefix: /}, direct_response: {status: 204}}]}}
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: "catalog.shop.svc.cluster.local:7080", route: {action: ROUTE}}}}
    patch: {operation: MERGE, value: {route: {timeout: 7s}}}
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_OUTBOUND, routeConfiguration: {vhost: {name: "catalog.shop.svc.cluster.local:7080"}}}
    patch: {operation: INSERT_FIRST, value: {name: first, match: {path: /first}, direct_response: {status: 418}}}
"#;
    let output = patched(FRONTEND, &[filter("shop", "routes", spec)]);
    let routes = json(&output, type_url::ROUTES, "7080");
    let removed = |routes: &Value| routes["request_headers_to_remove"].to_string().contains("x-gone");
    assert!(removed(&routes));
    let hosts = routes["virtual_hosts"].as_array().unwrap();
    let host = |name: &str| hosts.iter().find(|host| host["name"] == name);
    assert!(host("stock.shop.svc.cluster.local:7080").is_none());
    assert!(host("added").is_some());
    let catalog = host("catalog.shop.svc.cluster.local:7080").unwrap();
    assert_eq!(catalog["request_headers_to_remove"][0], "x-host");
    assert_eq!(catalog["routes"][0]["name"], "first");
    assert_eq!(catalog["routes"][1]["route"]["timeout"], "7s");
    assert!(!removed(&json(&output, type_url::ROUTES, "7090")));
}

#[test]
fn inbound_routes_stand_in_the_listener() {
    let spec = r#"  workloadSelector: {labels: {app: catalog}}
  configPatches:
  - applyTo: HTTP_ROUTE
    match: {context: SIDECAR_INBOUND, routeConfiguration: {portNumber: 8080, vhost: {name: "inbound|http|8080", route: {name: default}}}}
    patch: {operation: MERGE, value: {route: {timeout: 9s}}}
"#;
    let filters = [filter("shop", "inbound", spec)];
    let timeout = |node: &str, name: &str| {
        let listener = listener(&patched(node, &filters), name);
        let manager = listener["filter_chains"][0]["filters"][0]["typed_config"].clone();
        manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"]["timeout"].clone()
    };
    assert_eq!(timeout(CATALOG, "127.1.0.21_8080"), "9s");
    assert_eq!(
        timeout(FRONTEND, "127.1.0.10_8080"),
        "0s",
        "the selector leaves other workloads out"
    );
}

#[test]
fn clusters_are_changed_added_and_removed() {
    let spec = r#"  configPatches:
  - applyTo: CLUSTER
    match: {context: SIDECAR_OUTBOUND, cluster: {service: catalog.shop.svc.cluster.local, subset: v1}}
    patch: {operation: MERGE, value: {connect_timeout: 3s, transport_socket: {name: envoy.transport_sockets.tls, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, max_session_keys: 0}}}}
  - applyTo: CLUSTER
    match: {context: SIDECAR_INBOUND, cluster: {portNumber: 8080}}
    patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 7}}
  - applyTo: CLUSTER
    match: {cluster: {name: "outbound|7080||stock.shop.svc.cluster.local"}}
    patch: {operation: REMOVE}
  - applyTo: CLUSTER
    match: {context: ANY}
    patch: {operation: ADD, value: {name: added, type: STATIC, connect_timeout: 1s}}
"#;
    let output = patched(FRONTEND, &[filter("shop", "clusters", spec)]);
    let catalog = json(
        &output,
        type_url::CLUSTER,
        "outbound|7080|v1|catalog.shop.svc.cluster.local",
    );
    assert_eq!(catalog["connect_timeout"], "3s");
    let socket = &catalog["transport_socket_matches"][0]["transport_socket"]["typed_config"];
    assert_eq!(socket["max_session_keys"], 0);
    assert!(
        socket["sni"].as_str().is_some_and(|sni| !sni.is_empty()),
        "the rest of the socket stays"
    );
    assert_eq!(
        catalog.get("transport_socket"),
        None,
        "Envoy takes one kind of socket alone"
    );
    assert_eq!(
        json(&output, type_url::CLUSTER, "inbound|8080||")["per_connection_buffer_limit_bytes"],
        7
    );
    assert!(
        output
            .get(type_url::CLUSTER, "outbound|7080||stock.shop.svc.cluster.local")
            .is_none()
    );
    assert_eq!(
        output
            .of_type(type_url::CLUSTER)
            .filter(|c| c.name == "added")
            .count(),
        1
    );
}

#[test]
fn listeners_filters_and_extensions_are_added() {
    let spec = r#"  configPatches:
  - applyTo: LISTENER
    match: {context: GATEWAY}
    patch:
      operation: ADD
      value:
        name: added
        address: {socket_address: {address: 127.1.0.1, port_value: 9999}}
        filter_chains: [{filters: [{name: envoy.filters.network.echo, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}]
  - applyTo: FILTER_CHAIN
    match: {context: GATEWAY, listener: {portNumber: 8080}}
    patch: {operation: ADD, value: {name: more, filter_chain_match: {source_type: SAME_IP_OR_LOOPBACK}, filters: [{name: envoy.filters.network.echo, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}}]}}
  - applyTo: NETWORK_FILTER
    match: {context: GATEWAY, listener: {portNumber: 8080, filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch: {operation: INSERT_BEFORE, value: {name: envoy.filters.network.connection_limit, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit, stat_prefix: x, max_connections: 10}}}
"#;
    let output = patched(EDGE, &[filter("istio-system", "listeners", spec)]);
    assert!(output.get(type_url::LISTENER, "added").is_some());
    let listener = listener(&output, "127.1.0.1_8080");
    assert_eq!(listener["filter_chains"].as_array().unwrap().len(), 2);
    assert_eq!(
        listener["filter_chains"][0]["filters"][0]["name"],
        "envoy.filters.network.connection_limit"
    );

    let spec = r#"  configPatches:
  - applyTo: EXTENSION_CONFIG
    match: {context: GATEWAY}
    patch: {operation: ADD, value: {name: my-lua, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}}
"#;
    let output = unchecked(EDGE, &[filter("istio-system", "ecds", spec)]);
    let names: Vec<_> = output
        .of_type(type_url::EXTENSION)
        .map(|r| r.name.as_str())
        .collect();
    assert_eq!(names, ["my-lua"]);
}

/// Checks what is reported of one patch (flow style YAML), and that everything else is as if it were not there.
fn check_refused(patch: &str, path: &str, message: &str) {
    let spec = format!(
        "  configPatches:\n  - {patch}\n  - {{applyTo: CLUSTER, patch: {{operation: MERGE, value: {{connect_timeout: 3s}}}}}}\n"
    );
    let generator = generator(&[SHOP, &filter("shop", "bad", &spec)]);
    let output = tables(&generator, FRONTEND);
    let said: Vec<_> = generator
        .findings()
        .iter()
        .chain(&output.findings)
        .map(ToString::to_string)
        .collect();
    let own = said
        .iter()
        .find(|said| said.contains("EnvoyFilter shop/bad") && said.contains(path));
    assert!(
        own.is_some_and(|said| said.contains(message)),
        "{path} {message}: {said:#?}"
    );
    let black_hole = json(&output, type_url::CLUSTER, "BlackHoleCluster");
    assert_eq!(black_hole["connect_timeout"], "3s", "the other patch works");
    validate(&output);
}

#[test]
fn a_bad_patch_is_reported_and_the_others_work() {
    check_refused(
        "{applyTo: CLUSTER, patch: {operation: MERGE, value: {connect_timeout: [1]}}}",
        "spec.configPatches[0].patch.value",
        "not a envoy.config.cluster.v3.Cluster",
    );
    check_refused(
        "{applyTo: HTTP_FILTER, patch: {operation: INSERT_FIRST, value: {name: x, typed_config: {\"@type\": type.googleapis.com/no.such.Filter}}}}",
        "spec.configPatches[0].patch.value",
        "no.such.Filter",
    );
    check_refused(
        "{applyTo: CLUSTER, patch: {operation: MERGE, value: {nonsense: 1}}}",
        "spec.configPatches[0].patch.value",
        "nonsense",
    );
    check_refused(
        "{applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {}}}",
        "spec.configPatches[0].applyTo",
        "bootstrap",
    );
    check_refused(
        "{applyTo: CLUSTER, patch: {operation: ADD, value: {name: BlackHoleCluster}}}",
        "spec.configPatches[0]",
        "there already",
    );
    check_refused(
        "{applyTo: FILTER_CHAIN, match: {context: SIDECAR_OUTBOUND}, patch: {operation: REMOVE}}",
        "spec.configPatches[0]",
        "without a filter chain",
    );
    check_refused(
        "{applyTo: ROUTE_CONFIGURATION, patch: {operation: REMOVE}}",
        "spec.configPatches[0].patch.operation",
        "no effect",
    );
}

#[test]
fn priority_and_namespace_give_the_order() {
    let timeout = |value: u32, priority: i32| {
        format!(
            "  priority: {priority}\n  configPatches:\n  - {{applyTo: CLUSTER, match: {{cluster: {{name: BlackHoleCluster}}}}, patch: {{operation: MERGE, value: {{connect_timeout: {value}s}}}}}}\n"
        )
    };
    let last = |filters: &[String]| {
        let output = patched(FRONTEND, filters);
        json(&output, type_url::CLUSTER, "BlackHoleCluster")["connect_timeout"].clone()
    };
    assert_eq!(
        last(&[
            filter("shop", "a", &timeout(1, 0)),
            filter("istio-system", "z", &timeout(2, 0))
        ]),
        "1s"
    );
    assert_eq!(
        last(&[
            filter("shop", "a", &timeout(1, 0)),
            filter("istio-system", "z", &timeout(2, 5))
        ]),
        "2s"
    );
    assert_eq!(
        last(&[
            filter("shop", "a", &timeout(1, 0)),
            filter("shop", "b", &timeout(2, -1))
        ]),
        "1s"
    );
    assert_eq!(
        last(&[filter("other", "a", &timeout(1, 0))]),
        "10s",
        "another namespace's is not for this proxy"
    );
}

#[test]
fn conditions_on_the_proxy() {
    let spec = "  configPatches:\n  - {applyTo: CLUSTER, match: {proxy: {proxyVersion: '^1\\.27.*', metadata: {TEAM: a}}, cluster: {name: BlackHoleCluster}}, patch: {operation: MERGE, value: {connect_timeout: 3s}}}\n";
    let generator: Generator = generator(&[SHOP, &filter("shop", "proxy", spec)]);
    let timeout = |metadata: &[(&str, &str)]| {
        let mut proxy = Proxy::parse(FRONTEND, None).unwrap();
        proxy.metadata = metadata
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let output = generator.generate(&Scope::of(&proxy, &generator));
        json(&output, type_url::CLUSTER, "BlackHoleCluster")["connect_timeout"].clone()
    };
    assert_eq!(timeout(&[("ISTIO_VERSION", "1.27.0"), ("TEAM", "a")]), "3s");
    assert_eq!(timeout(&[("ISTIO_VERSION", "1.26.0"), ("TEAM", "a")]), "10s");
    assert_eq!(timeout(&[("ISTIO_VERSION", "1.27.0")]), "10s");
    assert_eq!(timeout(&[("TEAM", "a")]), "10s");
}

#[test]
fn the_same_patches_give_the_same_bytes() {
    let filters = [filter("istio-system", "lua", &lua("INSERT_FIRST", ""))];
    assert_eq!(unchecked(EDGE, &filters), unchecked(EDGE, &filters));
}
