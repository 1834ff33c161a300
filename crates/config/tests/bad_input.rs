//! Each kind of bad input gets one clear message with its place, and loses nothing else.

use config::{Kind, Parsed, Severity, parse, parse_mesh_config};

const GOOD: &str = "
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: good, namespace: shop}
spec: {host: reviews}
";

fn messages(parsed: &Parsed) -> Vec<String> {
    parsed.findings.iter().map(ToString::to_string).collect()
}

/// Reads `bad` followed by a good object; the good one must survive.
fn check(bad: &str, expected: &[&str]) {
    let parsed = parse("f.yaml", format!("{bad}{GOOD}").as_bytes(), "shop");
    assert_eq!(messages(&parsed), expected);
    let names: Vec<_> = parsed
        .objects
        .iter()
        .map(|object| object.key().to_string())
        .collect();
    assert_eq!(names, ["DestinationRule shop/good"]);
}

#[test]
fn unknown_kind() {
    check(
        "apiVersion: networking.istio.io/v1\nkind: VirtualServce\nmetadata: {name: x}\nspec: {}\n",
        &[
            "f.yaml:2:1: kind: unknown kind \"VirtualServce\" in networking.istio.io/v1; did you mean VirtualService?",
        ],
    );
    check(
        "apiVersion: networking.istio.io/v9\nkind: Gateway\nmetadata: {name: x}\n",
        &[
            "f.yaml:1:1: apiVersion: Gateway has no version \"v9\"; use networking.istio.io/v1 or \
             networking.istio.io/v1beta1 or networking.istio.io/v1alpha3",
        ],
    );
}

#[test]
fn unknown_fields_are_all_named() {
    let bad = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x}
spec:
  hosts: [reviews]
  http:
  - rout:
    - destination: {host: reviews}
    route:
    - destination: {host: reviews, subsets: v1}
      wieght: 3
";
    check(
        bad,
        &[
            "f.yaml:7:5: VirtualService shop/x: spec.http[0].rout: unknown field; did you mean \"route\"?",
            "f.yaml:10:36: VirtualService shop/x: spec.http[0].route[0].destination.subsets: unknown field; did you mean \
             \"subset\"?",
            "f.yaml:11:7: VirtualService shop/x: spec.http[0].route[0].wieght: unknown field; did you mean \"weight\"?",
        ],
    );
}

#[test]
fn fields_that_the_api_once_had() {
    let bad = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: x}
spec:
  hosts: [reviews]
  http:
  - fault: {abort: {httpStatus: 500, percent: 100}}
    route:
    - destination: {host: reviews}
";
    check(
        bad,
        &[
            "f.yaml:7:38: VirtualService shop/x: spec.http[0].fault.abort.percent: this field is no longer in the API; use \
             percentage.value",
        ],
    );
}

#[test]
fn what_is_left_of_invalid_objects_is_set_apart() {
    let bad =
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: x}\nspec: {selector: {a: b}}\n";
    let parsed = parse("f.yaml", bad.as_bytes(), "shop");
    assert!(parsed.has_errors() && parsed.objects.is_empty());
    let config::Spec::Gateway(gateway) = &parsed.invalid[0].spec else {
        panic!("{parsed:?}")
    };
    assert_eq!(gateway.selector["a"], "b");
}

#[test]
fn wrong_types() {
    check(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec:\n  host: [a]\n  subsets: {}\n",
        &[
            "f.yaml:5:3: DestinationRule shop/x: spec.host: must be a text, not a list",
            "f.yaml:6:3: DestinationRule shop/x: spec.subsets: must be a list, not a map",
        ],
    );
}

#[test]
fn broken_documents_are_lost_alone() {
    let parsed = parse(
        "f.yaml",
        format!("a: [1\n---\n\u{0}\n{GOOD}")
            .replace('\u{0}', "b: *none")
            .as_bytes(),
        "shop",
    );
    assert_eq!(parsed.objects.len(), 1);
    assert_eq!(parsed.findings.len(), 2, "{:?}", messages(&parsed));
    assert!(
        messages(&parsed)
            .iter()
            .all(|message| message.contains("not valid YAML")),
        "{:?}",
        messages(&parsed)
    );

    let mut invalid = b"apiVersion: v1\nkind: \xff\n".to_vec();
    invalid.extend_from_slice(GOOD.as_bytes());
    let parsed = parse("f.yaml", &invalid, "shop");
    assert_eq!(
        messages(&parsed),
        ["f.yaml:2: invalid UTF-8; save the file as UTF-8"]
    );
    assert_eq!(parsed.objects.len(), 1);
}

#[test]
fn binary_and_huge_files() {
    let parsed = parse("f.yaml", b"\x7fELF\0\0\0", "shop");
    assert_eq!(
        messages(&parsed),
        [
            "f.yaml: the file is binary (it has NUL bytes), not YAML or JSON text; save it as UTF-8 text or move it elsewhere"
        ]
    );
    let parsed = parse("f.yaml", &vec![b' '; 11 << 20], "shop");
    assert_eq!(
        messages(&parsed),
        ["f.yaml: the file has 11534336 bytes, more than the 10485760 allowed; split it into several files"]
    );
    assert_eq!(messages(&parse("f.yaml", b"", "shop")), [""; 0]);
}

#[test]
fn lists_and_foreign_kinds() {
    let list = "apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: shop}
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {name: web}
";
    let parsed = parse("f.yaml", list.as_bytes(), "shop");
    assert_eq!(
        parsed
            .objects
            .iter()
            .map(|object| object.kind)
            .collect::<Vec<_>>(),
        [Kind::Namespace]
    );
    assert_eq!(
        messages(&parsed),
        ["f.yaml:8:3: kind: apps/v1 StatefulSet is not a kind that the mesh reads"]
    );
    assert_eq!(parsed.findings[0].severity, Severity::Info);
}

#[test]
fn mesh_config() {
    let parsed = parse_mesh_config(
        "mesh.yaml",
        b"accessLogFile: /dev/stdout\nmixerCheckServer: 127.0.0.1:15004\n",
        "istio-system",
    );
    assert_eq!(messages(&parsed), [""; 0]);
    let config::Spec::MeshConfig(mesh) = &parsed.objects[0].spec else {
        panic!("{parsed:?}")
    };
    assert_eq!(mesh.mixer_check_server, "127.0.0.1:15004");
    let mesh = mesh.as_ref().clone().with_defaults();
    assert_eq!(
        (mesh.trust_domain.as_str(), mesh.root_namespace.as_str()),
        ("cluster.local", "istio-system")
    );

    let parsed = parse_mesh_config(
        "mesh.yaml",
        b"trustDomian: x\nconnectTimeout: 2h\n",
        "istio-system",
    );
    assert_eq!(
        messages(&parsed),
        [
            "mesh.yaml:1:1: MeshConfig istio-system/istio: trustDomian: unknown field; did you mean \"trustDomain\"?",
            "mesh.yaml:2:1: MeshConfig istio-system/istio: connectTimeout: must be at most an hour",
        ]
    );
    assert_eq!(
        parse_mesh_config("mesh.yaml", b"", "istio-system").objects.len(),
        1
    );
}

#[test]
fn istio_security_2026_006_expressions_of_envoy_filters_are_bounded() {
    for regex in [
        "((a{1000}){1000}){1000}".to_owned(),
        "a".repeat(1025),
        "(".repeat(1000),
    ] {
        let filter = format!(
            "{{apiVersion: networking.istio.io/v1alpha3, kind: EnvoyFilter, metadata: {{name: x}}, spec: {{configPatches: [\
             {{applyTo: LISTENER, match: {{proxy: {{proxyVersion: '{regex}'}}}}, patch: {{operation: REMOVE}}}}]}}}}"
        );
        let parsed = parse("f.yaml", filter.as_bytes(), "shop");
        let said = messages(&parsed).join("; ");
        assert!(
            parsed.objects.is_empty() && said.contains("spec.configPatches[0].match.proxy.proxyVersion"),
            "{regex:.40}: {said}"
        );
    }
}
