//! Tests of the bootstrap as data: a golden file and what single values change in it.

use std::net::Ipv4Addr;

use expect_test::expect_file;

use super::*;

/// A sidecar of the sample mesh.
pub(crate) fn sample() -> Values {
    let address = IpAddr::V4(Ipv4Addr::new(127, 1, 0, 21));
    let pairs = [
        ("app", "catalog"),
        ("version", "v1"),
        ("security.istio.io/tlsMode", "istio"),
    ];
    Values {
        proxy_type: ProxyType::Sidecar,
        namespace: "shop".into(),
        name: "catalog-v1".into(),
        domain: "cluster.local".into(),
        trust_domain: "cluster.local".into(),
        cluster_id: "Kubernetes".into(),
        network: String::new(),
        address,
        listen: address,
        labels: pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        annotations: BTreeMap::new(),
        service_account: "catalog".into(),
        locality: Locality {
            region: "eu".into(),
            zone: "eu-1".into(),
            sub_zone: String::new(),
        },
        admin: SocketAddr::new(address, ADMIN_PORT),
        status: SocketAddr::new(address, STATUS_PORT),
        health_port: HEALTH_PORT,
        prometheus_port: PROMETHEUS_PORT,
        socket: "/run/argosy/agent.sock".into(),
        max_downstream_connections: MAX_DOWNSTREAM_CONNECTIONS,
        stats: StatsOptions::default(),
        json_logs: false,
        metadata: Map::new(),
        service_cluster: None,
        runtime: BTreeMap::new(),
        heap: None,
    }
}

/// The whole bootstrap, so that a change of it is seen in review. `UPDATE_EXPECT=1` writes it anew.
#[test]
fn sidecar_bootstrap() {
    let rendered = serde_json::to_string_pretty(&render(&sample())).unwrap() + "\n";
    expect_file!["../../tests/golden/sidecar.json"].assert_eq(&rendered);
}

#[test]
fn node_follows_the_workload() {
    let mut values = sample();
    values.proxy_type = ProxyType::Router;
    values.labels = BTreeMap::from([("service.istio.io/workload-name".to_owned(), "edge".to_owned())]);
    values.network = "net-1".into();
    let node = render(&values)["node"].clone();
    assert_eq!(
        node["id"],
        "router~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local"
    );
    assert_eq!(
        node["cluster"], "catalog-v1.shop",
        "without an app label the workload's name is used"
    );
    assert_eq!(node["metadata"]["WORKLOAD_NAME"], "edge");
    assert_eq!(node["metadata"]["NETWORK"], "net-1");
}

#[test]
fn a_pods_variables_count_before_what_follows_from_its_labels() {
    let mut values = sample();
    values.metadata = Map::from_iter([
        ("WORKLOAD_NAME".to_owned(), json!("catalog")),
        ("INTERCEPTION_MODE".to_owned(), json!("REDIRECT")),
    ]);
    values.listen = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    values.heap = Some(1000);
    assert_eq!(render(&values)["node"]["metadata"]["WORKLOAD_NAME"], "catalog");
    let named = |values: &mut Values, name: &str| {
        let label = "service.istio.io/workload-name".to_owned();
        values.labels.insert(label, name.to_owned());
    };
    let mut labelled = values.clone();
    named(&mut labelled, "books");
    assert_eq!(render(&labelled)["node"]["metadata"]["WORKLOAD_NAME"], "books");
    let rendered = render(&values);
    let metadata = &rendered["node"]["metadata"];
    assert_eq!(metadata["INTERCEPTION_MODE"], "REDIRECT");
    assert!(
        metadata["PEER"].as_str().unwrap().starts_with("catalog;shop;"),
        "{metadata}"
    );
    let listener = &rendered["static_resources"]["listeners"][0]["address"]["socket_address"];
    assert_eq!(listener["address"], "0.0.0.0");
    let heap = &rendered["overload_manager"]["resource_monitors"][1]["typed_config"]["max_heap_size_bytes"];
    assert_eq!(heap, 1000);
}

#[test]
fn annotations_add_statistics_and_tags() {
    let annotations = BTreeMap::from([
        (
            "sidecar.istio.io/statsInclusionPrefixes".to_owned(),
            "cluster.outbound, http.".to_owned(),
        ),
        (
            "sidecar.istio.io/statsInclusionRegexps".to_owned(),
            ".*retry.*".to_owned(),
        ),
        (
            "sidecar.istio.io/extraStatTags".to_owned(),
            "request_operation".to_owned(),
        ),
    ]);
    let mut values = sample();
    values.stats = StatsOptions::from_annotations(&annotations).unwrap();
    let config = render(&values)["stats_config"].clone();
    let patterns = config["stats_matcher"]["inclusion_list"]["patterns"].to_string();
    for expected in [
        r#"{"prefix":"cluster.outbound"}"#,
        r#"{"prefix":"http."}"#,
        r#"{"safe_regex":{"regex":".*retry.*"}}"#,
    ] {
        assert!(patterns.contains(expected), "{expected} in {patterns}");
    }
    assert!(
        config["stats_tags"]
            .to_string()
            .contains(r#""tag_name":"request_operation""#)
    );
}

#[test]
fn annotations_that_cannot_be_followed_are_named() {
    let check = |name: &str, value: &str, expected: &str| {
        let annotations = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(
            StatsOptions::from_annotations(&annotations)
                .unwrap_err()
                .to_string(),
            expected
        );
    };
    check(
        "sidecar.istio.io/extraStatTags",
        "ok,a(b",
        r#"annotation sidecar.istio.io/extraStatTags: "a(b" is no tag name; use letters, digits and _"#,
    );
    check(
        "sidecar.istio.io/statsInclusionSuffixes",
        &"x,".repeat(65),
        "annotation sidecar.istio.io/statsInclusionSuffixes: more than 64 entries; shorten the list",
    );
}

/// The real Envoy reads the bootstrap with all that can be in it.
#[test]
fn envoy_accepts_the_bootstrap() {
    let envoy = match testkit::envoy::binary() {
        Ok(envoy) => envoy,
        Err(error) if std::env::var_os("CI").is_some_and(|ci| ci == "true") => panic!("{error:#}"),
        Err(error) => return eprintln!("NOT RUN: this test needs Envoy. {error:#}"),
    };
    let mut full = sample();
    full.json_logs = true;
    full.network = "net-1".into();
    full.stats = StatsOptions {
        prefixes: vec!["cluster.outbound".into()],
        suffixes: vec!["upstream_rq_total".into()],
        regexps: vec![r"http\..*\.rq_(2|5)xx".into()],
        extra_tags: vec!["request_operation".into()],
    };
    full.listen = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    full.service_cluster = Some("edge.shop".into());
    full.heap = Some(512 << 20);
    full.runtime = [("a.b", "1"), ("a.c", "x")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let folder = tempfile::tempdir().unwrap();
    for (name, values) in [("sidecar", sample()), ("full", full)] {
        let file = folder.path().join(format!("{name}.json"));
        std::fs::write(&file, render(&values).to_string()).unwrap();
        let mut command = std::process::Command::new(&envoy);
        command
            .args(["--mode", "validate", "--log-level", "warning", "--config-path"])
            .arg(&file);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert_eq!(said, "", "{name}: no warnings, such as of deprecated fields");
    }
}
