//! The tables over the dump of a real Envoy: the sidecar of `catalog-v1` in the mesh of `argosy init`, without what would make it
//! long (descriptors, other services' clusters).

use clap::Parser;
use x509_parser::time::ASN1Time;

use super::*;

const SIDECAR: &str = include_str!("../../tests/dumps/sidecar.json");

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn dump() -> Dump {
    let page = serde_json::from_str(SIDECAR).expect("JSON");
    Dump::read(&page).expect("a dump")
}

/// The cells of a line.
fn cells(text: &str) -> Vec<Vec<String>> {
    let cell = |line: &str| {
        line.split("   ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    text.lines().map(cell).collect()
}

fn rows(head: &[&str], entries: &[Entry], of: impl Fn(&Entry) -> Vec<Vec<String>>) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = entries.iter().flat_map(of).collect();
    cells(&columns(head, &rows)).split_off(1)
}

#[track_caller]
fn check(rows: &[Vec<String>], expected: &[&str]) {
    let rows: Vec<String> = rows.iter().map(|row| row.join(" | ")).collect();
    assert_eq!(rows, expected);
}

/// The filter of a command line.
fn filter<F: Clone>(line: &str, of: impl Fn(What) -> Option<F>) -> F {
    let line = format!("pc {line} --file -");
    let cli = Cli::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{error}"));
    of(cli.args.what).expect("the subcommand")
}

#[test]
fn clusters_are_shown_by_the_parts_of_their_names() {
    let all = rows(&clusters::HEAD, &dump().clusters, |e| vec![clusters::row(e)]);
    check(
        &all,
        &[
            "prometheus_stats | - | - | - | STATIC | STATIC",
            "PassthroughCluster | - | - | - | ORIGINAL_DST | ACTIVE",
            "- | 8080 | - | inbound | STATIC | ACTIVE",
            "api.partner.example | 443 | - | outbound | STRICT_DNS | ACTIVE",
            "catalog.shop.svc.cluster.local | 8080 | v1 | outbound | EDS | ACTIVE",
            "catalog.shop.svc.cluster.local | 8080 | - | outbound | EDS | ACTIVE",
        ],
    );
    for (line, count) in [
        ("cluster", 6),
        ("cluster --fqdn catalog.shop", 2),
        ("c --fqdn catalog.shop --subset v1", 1),
        ("clusters --port 8080", 3),
        ("cluster --port 8080 --direction inbound", 1),
        ("cluster --fqdn nowhere", 0),
    ] {
        let filter = filter(line, |what| match what {
            What::Cluster(one) => Some(one.filter),
            _ => None,
        });
        let wanted = dump().clusters.iter().filter(|entry| filter.wants(entry)).count();
        assert_eq!(wanted, count, "{line}");
    }
}

#[test]
fn listeners_say_which_connections_go_where() {
    check(
        &rows(&listeners::HEAD, &dump().listeners, listeners::rows),
        &[
            "127.0.0.1,::1 | 8080 | Trans: raw_buffer; App: http/1.1,h2c | Route: 8080 | ACTIVE",
            "127.0.0.1,::1 | 8080 | ALL others | Cluster: PassthroughCluster | ACTIVE",
            "127.0.0.1 | 15006 | Port: 8080; Trans: tls; SNI: a.example,b.example; Addr: 10.0.0.0/8,10.1.1.1 | \
             Clusters: inbound|8080|| 1, PassthroughCluster 2 | ACTIVE",
            "127.0.0.1 | 8080 | - | Didn't find a registered implementation for 'nope' with type URL: '' | ERROR",
        ],
    );
    for (line, names) in [
        ("listener --port 15006", vec!["virtualInbound"]),
        ("l --type HTTP", vec!["0.0.0.0_18080"]),
        ("l --type tcp", vec!["0.0.0.0_18080", "virtualInbound", "broken"]),
        ("listeners --address ::1", vec!["0.0.0.0_18080"]),
        ("listeners --type UDP", vec![]),
    ] {
        let filter = filter(line, |what| match what {
            What::Listener(one) => Some(one.filter),
            _ => None,
        });
        let dump = dump();
        let wanted: Vec<&str> = dump
            .listeners
            .iter()
            .filter(|entry| filter.wants(entry))
            .map(|e| &*e.name)
            .collect();
        assert_eq!(wanted, names, "{line}");
    }
}

#[test]
fn routes_say_which_requests_go_where() {
    let catalog = "8080 | catalog.shop.svc.cluster.local:8080 | catalog + 2 more";
    let expected = [
        format!("{catalog} | /*, header x-fault | 418"),
        format!("{catalog} | /old | redirect /new"),
        format!("{catalog} | regex /v[0-9]+/.* | outbound|8080||catalog.shop.svc.cluster.local"),
        format!(
            "{catalog} | /* | outbound|8080|v1|catalog.shop.svc.cluster.local 80, \
             outbound|8080||catalog.shop.svc.cluster.local 20"
        ),
        "8080 | allow_any | * | /* | PassthroughCluster".to_owned(),
        "8080 | nothing | empty.example | - | 404".to_owned(),
    ];
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    check(&rows(&routes::HEAD, &dump().routes, routes::rows), &expected);
    let filter = filter("route --name 9090", |what| match what {
        What::Route(one) => Some(one.filter),
        _ => None,
    });
    assert!(!dump().routes.iter().any(|entry| filter.wants(entry)));
}

#[test]
fn endpoints_have_envoys_judgement() {
    let page = serde_json::json!({"cluster_statuses": [{
        "name": "outbound|8080||catalog.shop.svc.cluster.local",
        "host_statuses": [
            {"address": {"socket_address": {"address": "10.244.0.7", "port_value": 8080}}, "health_status": {"failed_outlier_check": true}},
            {"address": {"socket_address": {"address": "fd00::8", "port_value": 8080}}, "health_status": {}},
        ],
    }]});
    let ejected = endpoints::ejected(&page);
    let of = |line: &str, ejected: Option<&endpoints::Ejected>| {
        let filter = filter(line, |what| match what {
            What::Endpoint(one) => Some(one.filter),
            _ => None,
        });
        rows(&endpoints::HEAD, &dump().endpoints, |e| {
            endpoints::rows(e, &filter, ejected)
        })
    };
    let catalog = "outbound|8080||catalog.shop.svc.cluster.local";
    let (first, second) = (
        format!("10.244.0.7:8080 | HEALTHY | FAILED | 1 | {catalog}"),
        format!("[fd00::8]:8080 | UNHEALTHY | OK | 3 | {catalog}"),
    );
    let line = format!("endpoint --cluster {catalog}");
    check(&of(&line, Some(&ejected)), &[&first, &second]);
    check(&of("ep --status unhealthy", None), &[&second.replace("OK", "-")]);
    check(
        &of(
            "endpoint --address 10.244.0.7 --fqdn catalog --port 8080",
            Some(&ejected),
        )[1..],
        &[&first],
    );
    check(
        &of("endpoint --fqdn prometheus", None),
        &["unix:///var/run/agent.sock | HEALTHY | - | 1 | prometheus_stats"],
    );
}

#[test]
fn certificates_are_judged_by_the_time() {
    let at = |seconds: i64| {
        let now = ASN1Time::from_timestamp(seconds).expect("a time");
        rows(&secrets::HEAD, &dump().secrets, |e| secrets::rows(e, now))
    };
    let times = "5d1fc0 | 2036-11-20T03:13:06Z | 2026-11-23T03:13:06Z";
    check(
        &at(1_800_000_000),
        &[
            &format!("default | Cert Chain | ACTIVE | true | {times}"),
            &format!("ROOTCA | CA | ACTIVE | true | {times}"),
        ],
    );
    assert!(at(1_000_000_000)[0].contains(&"false".to_owned()));
    let none = Entry {
        name: "default".to_owned(),
        state: dump::State::Warming,
        version: String::new(),
        config: Value::Null,
    };
    let none = secrets::rows(&none, ASN1Time::from_timestamp(0).expect("a time"));
    assert_eq!(none, [["default", "", "WARMING"]]);
}

#[test]
fn a_bootstrap_says_who_the_proxy_is() {
    let rows = bootstrap::rows(&dump().bootstrap);
    let value = |field: &str| rows.iter().find(|row| row[0] == field).map(|row| &*row[1]);
    assert_eq!(
        value("node id"),
        Some("sidecar~10.244.0.7~catalog-v1.shop~shop.svc.cluster.local")
    );
    assert_eq!(value("Envoy"), Some("1.40.0"));
    assert_eq!(value("admin"), Some("127.0.0.1:15000"));
    assert_eq!(value("static clusters"), Some("prometheus_stats"));
    assert_eq!(value("SERVICE_ACCOUNT"), Some("catalog"));
    assert_eq!(value("LABELS"), Some(r#"{"app":"catalog"}"#));
}

#[test]
fn a_proxy_is_named_one_way() {
    for (line, good) in [
        ("pc all web-1.shop", true),
        ("pc all --file dump.json", true),
        ("pc all --admin-address localhost:15000", true),
        ("pc all", false),
        ("pc all web-1 --file dump.json", false),
        ("pc all --file dump.json --admin-address localhost:15000", false),
        ("pc all job/web", false),
    ] {
        assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), good, "{line}");
    }
}
