//! Whatever bytes a file holds, reading it ends, within bounds, without a panic.

mod invariants;

use config::{Finding, Kind, Limits, Options, decode, parse_with};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Pieces that YAML gives a meaning to, so that random texts get past the first character.
const PIECES: &[&str] = &[
    "---\n",
    "a: ",
    "- ",
    "\n",
    "  ",
    "{",
    "}",
    "[",
    "]",
    ": ",
    ", ",
    "&x ",
    "*x",
    "<<: *x",
    "!!int ",
    "\"",
    "'",
    "|\n",
    "> ",
    "# ",
    "apiVersion: v1\n",
    "apiVersion: networking.istio.io/v1\n",
    "kind: VirtualService\n",
    "kind: List\n",
    "items:\n",
    "metadata: {name: x}\n",
    "spec:\n",
    "hosts: [a]\n",
    "http:\n",
    "? ",
    "%YAML 1.2\n",
    "...\n",
    "~",
    "1e99",
    "0x",
    "\t",
    "\u{feff}",
    "é",
    "\0",
];

fn texts() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 0..60)
        .prop_map(|pieces| pieces.concat().into_bytes());
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![4 => pieces, 1 => bytes]
}

/// JSON as an admission review may carry it: any value anywhere.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(NAMES).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let key = prop_oneof![4 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => "\\PC{0,8}"];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Names that the API gives a meaning to, so that random values get into its types.
const NAMES: &[&str] = &[
    "spec",
    "metadata",
    "name",
    "labels",
    "hosts",
    "http",
    "match",
    "route",
    "destination",
    "host",
    "port",
    "number",
    "uri",
    "regex",
    "prefix",
    "tls",
    "mode",
    "servers",
    "selector",
    "matchLabels",
    "rules",
    "from",
    "source",
    "to",
    "trafficPolicy",
    "subsets",
    "timeout",
    "5s",
    "*",
    "items",
    "value",
    "config_patches",
    "params",
    "actions",
];

/// Pieces of regular expressions that grow.
const GROWING: &[&str] = &[
    "(",
    ")",
    "a",
    "{1000}",
    "{2,1000}",
    "*",
    "+",
    "|",
    "[^x]",
    ".",
    "\\\\w",
    "[[:alpha:]]",
    "(?i)",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_within_bounds(text in texts()) {
        invariants::file(&text);
        invariants::settings(&text);
    }

    #[test]
    fn any_choices_make_an_object_that_is_judged(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        invariants::object(&bytes);
    }

    #[test]
    fn any_json_is_judged(value in json()) {
        invariants::json(value.to_string().as_bytes());
    }

    #[test]
    fn small_bounds_hold_too(text in texts(), nodes in 0_usize..20, depth in 0_usize..5) {
        let limits = Limits { nodes, depth, bytes: 200, alias_bytes: 10, documents: 2 };
        let parsed = parse_with("x.yaml", &text, "default", &Options { limits, ..Options::default() });
        prop_assert!(parsed.objects.len() <= 20);
        prop_assert!(text.len() <= 200 || parsed.findings.len() == 1);
    }

    #[test]
    fn any_object_is_judged(kind in prop::sample::select(Kind::ALL), metadata in json(), spec in json()) {
        let value = json!({
            "apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": metadata, "spec": spec, "data": spec,
        });
        let findings = match decode(&value) {
            Ok((object, findings)) => {
                prop_assert!(!object.meta.name.is_empty());
                findings
            }
            Err(findings) => {
                prop_assert!(findings.iter().any(Finding::is_error));
                findings
            }
        };
        prop_assert!(findings.len() <= 200);
    }

    #[test]
    fn any_expression_is_judged(pieces in prop::collection::vec(prop::sample::select(GROWING), 0..24)) {
        let value = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "x"},
            "spec": {"hosts": ["a"], "http": [{
                "match": [{"uri": {"regex": pieces.concat()}}], "route": [{"destination": {"host": "a"}}],
            }]},
        });
        if let Err(findings) = decode(&value) {
            prop_assert!(findings.iter().all(|finding| finding.path.ends_with("regex")), "{findings:?}");
        }
    }
}
