//! Whatever is sent to the admission webhook, it answers or refuses within bounds, and without a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod invariants;

use config::Kind;
use galley::webhook::bounds::TooMuch;
use galley::webhook::review::{ReviewError, answer};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// Pieces of a review, so that random texts get past the envelope.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "1",
    "-1e999",
    "\"x\"",
    "\"\\ud800\"",
    "\"apiVersion\":\"admission.k8s.io/v1\",",
    "\"kind\":\"AdmissionReview\",",
    "\"request\":{",
    "\"uid\":\"u\",",
    "\"operation\":\"UPDATE\",",
    "\"object\":",
    "\"oldObject\":",
    "\"metadata\":{\"name\":\"x\"},",
    "\"kind\":{\"group\":\"networking.istio.io\",\"version\":\"v1\",\"kind\":\"Sidecar\"},",
    "\"spec\":{",
    "\"egress\":[{\"hosts\":[\"./*\"]}]",
    "\"subResource\":\"status\",",
];

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from)
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let keys = select(vec![
            "spec",
            "metadata",
            "name",
            "namespace",
            "labels",
            "annotations",
            "deletionTimestamp",
            "finalizers",
            "hosts",
            "http",
            "egress",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..5).prop_map(|fields| Value::Object(
                fields
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(pieces in prop::collection::vec(select(PIECES), 0..40), tail in prop::collection::vec(any::<u8>(), 0..20)) {
        invariants::review(&[pieces.concat().into_bytes(), tail].concat());
    }

    #[test]
    fn any_object_is_judged(kind in select(config::Kind::ALL), metadata in values(), spec in values()) {
        let object = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata, "spec": spec});
        invariants::review(object.to_string().as_bytes());
    }
}

/// A review whose object's spec is this JSON.
fn of(spec: &str) -> Vec<u8> {
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","operation":"CREATE","namespace":"shop",
        "kind":{{"group":"networking.istio.io","version":"v1","kind":"VirtualService"}},
        "object":{{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{{"name":"x","namespace":"shop"}},"spec":{spec}}}}}}}"#
    )
    .into_bytes()
}

/// What kubectl shows of a refusal.
fn refusal(spec: &str) -> String {
    match answer(&of(spec)).unwrap().verdict.refused {
        Some(refused) => refused.message,
        None => panic!("accepted: {spec:.200}"),
    }
}

#[test]
fn deep_nesting_is_not_parsed() {
    let deep = format!("{}{}", r#"{"http":["#.repeat(50_000), "]}".repeat(50_000));
    assert!(matches!(
        answer(&of(&deep)),
        Err(ReviewError::TooMuch(TooMuch::Depth))
    ));
    let allowed = format!("{}{}", "[".repeat(60), "]".repeat(60));
    assert!(
        refusal(&allowed).contains("spec: "),
        "what is within the bound is judged"
    );
}

#[test]
fn huge_lists_and_maps_are_not_parsed() {
    let list = format!(r#"{{"hosts":[{}"a"]}}"#, r#""a","#.repeat(400_000));
    assert!(matches!(
        answer(&of(&list)),
        Err(ReviewError::TooMuch(TooMuch::Values))
    ));
    let fields: Vec<String> = (0..100_000).map(|number| format!(r#""f{number}":1"#)).collect();
    let message = refusal(&format!("{{{}}}", fields.join(",")));
    assert!(
        message.contains("spec.f0: unknown field") && message.len() < 100_000,
        "{} bytes",
        message.len()
    );
}

#[test]
fn invalid_utf_8_and_nul_are_told() {
    let mut bytes = of(r#"{"hosts":["a"]}"#);
    let at = bytes.windows(3).position(|three| three == br#""a""#).unwrap();
    *bytes.get_mut(at + 1).unwrap() = 0xff;
    let told = answer(&bytes).unwrap_err().to_string();
    assert!(
        told.contains("not an AdmissionReview") && told.contains("line"),
        "{told}"
    );
    let told = refusal(r#"{"hosts":["a\u0000b"],"http":[{"route":[{"destination":{"host":"a"}}]}]}"#);
    assert!(told.contains("spec.hosts[0]"), "{told}");
}

#[test]
fn istio_security_2022_004_2022_007_2026_006_expressions_that_blow_up_are_refused() {
    let spec = |regex: &str| {
        format!(
            r#"{{"hosts":["a"],"http":[{{"match":[{{"uri":{{"regex":{regex:?}}}}}],"route":[{{"destination":{{"host":"a"}}}}]}}]}}"#
        )
    };
    for regex in [
        "((a{1000}){1000}){1000}",
        &"(".repeat(1000),
        &"a".repeat(2000),
        "(a{0,1000}){0,1000}",
    ] {
        let told = refusal(&spec(regex));
        assert!(
            told.contains("spec.http[0].match[0].uri.regex"),
            "{regex:.40}: {told}"
        );
    }
}

/// The groups that an installed webhook asks about; only the rule's lines are read, for the chart is a template.
fn asked(text: &str) -> Vec<&str> {
    let rules = text
        .split("rules:")
        .find(|part| part.contains("- apiGroups:\n") && part.contains("sideEffects: None"));
    let rules = rules.unwrap_or_default().lines().map(str::trim);
    let groups = rules.skip_while(|line| *line != "- apiGroups:").skip(1);
    groups.map_while(|line| line.strip_prefix("- ")).collect()
}

#[test]
fn what_is_installed_asks_about_every_kind_that_can_be_refused() {
    let chart = include_str!("../../../helm/galley/templates/webhook.yaml");
    let page = include_str!("../../../docs/galley.md");
    for (text, name) in [(chart, "the chart"), (page, "docs/galley.md")] {
        let asked = asked(text);
        assert!(!asked.is_empty(), "{name} has no rules");
        let mut groups: Vec<&str> = Kind::ALL
            .iter()
            // The mesh's settings are in a ConfigMap.
            .filter(|kind| !matches!(kind, Kind::MeshConfig | Kind::MeshNetworks | Kind::SecretFacts))
            .map(|kind| kind.group())
            .filter(|group| group.ends_with(".istio.io"))
            .collect();
        groups.dedup();
        for group in &groups {
            assert!(
                asked.contains(group),
                "{name} does not ask about {group}: {asked:?}"
            );
        }
        for group in &asked {
            assert!(
                groups.contains(group),
                "{name} asks about {group}, of which there is no kind"
            );
        }
    }
}
