//! Whatever bytes a file holds, reading it ends, within bounds, without a panic.

use config::{Limits, Options, parse, parse_mesh_config, parse_with};
use proptest::prelude::*;

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, max_shrink_iters: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_within_bounds(text in texts()) {
        let parsed = parse("x.yaml", &text, "default");
        prop_assert!(parsed.findings.len() <= 1001);
        let lines = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        for finding in &parsed.findings {
            prop_assert!(finding.origin.line as usize <= lines + 1, "{finding}");
        }
        parse_mesh_config("mesh.yaml", &text, "istio-system");
    }

    #[test]
    fn small_bounds_hold_too(text in texts(), nodes in 0_usize..20, depth in 0_usize..5) {
        let limits = Limits { nodes, depth, bytes: 200, alias_bytes: 10, documents: 2 };
        let parsed = parse_with("x.yaml", &text, "default", &Options { limits, ..Options::default() });
        prop_assert!(parsed.objects.len() <= 20);
        prop_assert!(text.len() <= 200 || parsed.findings.len() == 1);
    }
}
