//! Objects that Envoy or Istio would refuse, and what is said of each; and what both take.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

const ROUTE: &str =
    "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: b}\nspec: ";
const ENTRY: &str =
    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, namespace: b}\nspec: ";

/// The errors of an object, each as `PATH: MESSAGE; HELP`.
fn errors(object: &str) -> Vec<String> {
    let parsed = config::parse("a.yaml", object.as_bytes(), "default");
    let errors = parsed.findings.iter().filter(|finding| finding.is_error());
    errors
        .map(|finding| {
            format!(
                "{}: {}; {}",
                finding.path,
                finding.message,
                finding.help.clone().unwrap_or_default()
            )
        })
        .collect()
}

/// `expected` is in the only error; none where all is fine.
#[expect(clippy::needless_pass_by_value, reason = "calls read better")]
fn check(object: String, expected: Option<&str>) {
    let found = errors(&object);
    match expected {
        None => assert!(found.is_empty(), "{object}: {found:?}"),
        Some(words) => assert!(
            matches!(found.as_slice(), [one] if one.contains(words)),
            "{object}: {words:?} is not the one error of {found:?}"
        ),
    }
}

#[test]
fn regular_expressions() {
    let route = |regex: &str| {
        format!(
            "{ROUTE}{{hosts: [a], http: [{{match: [{{uri: {{regex: '{regex}'}}}}], route: [{{destination: {{host: a}}}}]}}]}}\n"
        )
    };
    let path = "spec.http[0].match[0].uri.regex: ";
    for bad in ["^/api/[^/]++/items$", "(?x)a b", "[[:foo:]]", r"\u0041"] {
        check(route(bad), Some(path));
    }
    check(
        route(r"\pL{1000}\pL{1000}\pL{1000}\pL{1000}\pL{1000}"),
        Some("lower the counts"),
    );
    for good in [
        r"^/users/\w{1,32}$",
        r"\p{Greek}",
        r"[\d-z]",
        "(?P<n>a)(?P<n>b)",
        r"\07",
        r"\pL{40}",
    ] {
        check(route(good), None);
    }
}

#[test]
fn bodies_that_are_no_base64() {
    let body = |bytes: &str| {
        format!(
            "{ROUTE}{{hosts: [a], http: [{{directResponse: {{status: 200, body: {{bytes: '{bytes}'}}}}}}]}}\n"
        )
    };
    check(
        body("not base64!"),
        Some("spec.http[0].directResponse.body.bytes: is not base64"),
    );
    for good in ["aGk=", "aGk", "_-8="] {
        check(body(good), None);
    }
}

#[test]
fn sockets_are_not_looked_up() {
    let entry = |resolution: &str| {
        format!(
            "{ENTRY}{{hosts: [a.b], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: {resolution}, endpoints: [{{address: 'unix:///a'}}]}}\n"
        )
    };
    check(entry("DNS"), Some("spec.endpoints[0].address: resolution DNS"));
    check(entry("STATIC"), None);
}

#[test]
fn words_offer_what_is_taken() {
    let with = |fields: &str| {
        format!("{ROUTE}{{hosts: [a], {fields}, http: [{{route: [{{destination: {{host: a}}}}]}}]}}\n")
    };
    check(with("exportTo: ['*', '.']"), Some("* (all) stands alone"));
    check(
        with("gateways: ['']"),
        Some("the name of a gateway must not be empty"),
    );
    let found = errors(
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: a}\nspec: {configPatches: [{applyTo: ZZZ, patch: {operation: MERGE, value: {}}}]}\n",
    );
    assert!(
        found.iter().any(|error| error.contains("ROUTE_CONFIGURATION")),
        "{found:?}"
    );
    assert!(!found.iter().any(|error| error.contains("INVALID")), "{found:?}");
}

#[test]
fn hosts_are_compared_however_many_there_are() {
    let hosts: Vec<String> = (0..3000).map(|number| format!("h{number}.example.com")).collect();
    let route = |hosts: &str, sni: &str| {
        format!(
            "{ROUTE}{{hosts: [{hosts}], tls: [{{match: [{{sniHosts: ['{sni}']}}], route: [{{destination: {{host: a}}}}]}}]}}\n"
        )
    };
    let hosts = hosts.join(", ");
    check(route(&hosts, "h2999.example.com"), None);
    check(route(&hosts, "other.example.com"), Some("and 2990 others"));
    let wide = format!("{hosts}, '*.example.com'");
    check(route(&wide, "h1.example.com"), Some("spec.hosts[3000]: "));
}

#[test]
fn rules_that_are_never_used_are_found_among_many() {
    let rule = |prefix: &str, extra: &str| {
        format!("{{match: [{{uri: {{prefix: '{prefix}'}}{extra}}}], route: [{{destination: {{host: a}}}}]}}")
    };
    let mut rules: Vec<String> = (0..500).map(|number| rule(&format!("/p{number}/"), "")).collect();
    rules.push(rule("/p7/", ""));
    rules.push(rule("/p8/x", ""));
    rules.push(rule("/p9/x", ", method: {exact: GET}"));
    let parsed = config::parse(
        "a.yaml",
        format!("{ROUTE}{{hosts: [a], http: [{}]}}\n", rules.join(", ")).as_bytes(),
        "default",
    );
    let told: Vec<String> = parsed
        .findings
        .iter()
        .map(|finding| format!("{}: {}", finding.path, finding.message))
        .collect();
    let expected = [
        "spec.http[500].match[0]: never used: http[7] has the same match",
        "spec.http[500]: never used: earlier rules have all of its matches",
        "spec.http[501].match[0]: never used: http[8].match[0] with the shorter prefix \"/p8/\" takes it",
        "spec.http[502].match[0]: never used: http[9].match[0] with the shorter prefix \"/p9/\" takes it",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_waypoint_resolves_no_hosts_of_the_mesh_by_the_request() {
    let entry = |label: &str, location: &str, resolution: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a, namespace: b, labels: \
             {{istio.io/use-waypoint: {label}}}}}\nspec: {{hosts: ['*.example.com'], location: {location}, resolution: \
             {resolution}, ports: [{{number: 80, name: http, protocol: HTTP}}]}}\n"
        )
    };
    let path = Some("spec.location: MESH_INTERNAL with resolution DYNAMIC_DNS");
    check(entry("way", "MESH_INTERNAL", "DYNAMIC_DNS"), path);
    check(entry("None", "MESH_INTERNAL", "DYNAMIC_DNS"), None);
    check(entry("way", "MESH_EXTERNAL", "DYNAMIC_DNS"), None);
}
