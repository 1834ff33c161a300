//! What is accepted here a real Envoy accepts, and what is refused for RE2's sake it refuses. Envoy is taken from `ENVOY_BIN` or
//! the development tools' cache; in CI (`CI` set) it must be there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail loudly, and it starts Envoys"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::collection::vec;
use proptest::sample::select;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

/// Accepted expressions that Envoy is asked about, in one process.
const ACCEPTED: usize = 600;
/// Most instructions of one of them, so that Envoy is soon done.
const SMALL: usize = 5_000;

#[rustfmt::skip]
const PIECES: &[&str] = &[
    "a", "é", ".", "^", "$", "|", "(", ")", "(?:", "(?i)", "(?i-s:", "(?P<n>", "(?<m>", "(?)", "(?U:", "*", "+", "?", "*?",
    "{", "}", "{2}", "{2,}", "{2,5}", "{0}", "{,3}", "{01}", "{1000}", "[", "]", "[^", "-", "[a-z]", "[]a]", "[[:alpha:]]",
    "[:alpha:]", r"\d", r"\W", r"[\d-z]", r"\pL", r"\p{Greek}", r"\P{^Lu}", r"\b", r"\A", r"\z", r"\Q", r"\E", r"\07", r"\12",
    r"\x41", r"\x{ff}", r"\x{e", r"\.", r"\_", r"\n", ":", "&&", "~~", "--", "0", "é-ü",
];

/// RE2 refuses these; Envoy says one only for each start.
const REFUSED: &[&str] = &[
    "a++",
    "a{2}{3}",
    "[[:foo:]]",
    r"\p{Cn}",
    r"\u0041",
    r"\x{100}",
    "[z-a]",
    "(?=x)",
    "a{1001}",
    "(a{3}){400}",
    r"\pL{1000}\pL{1000}\pL{1000}\pL{1000}\pL{1000}",
];

fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY_BIN").map(PathBuf::from);
    let cache = || {
        let tools = PathBuf::from(std::env::var_os("HOME")?).join(".cache/argosy/tools");
        let tools = std::fs::read_dir(tools).ok()?.flatten();
        tools
            .map(|entry| entry.path().join("envoy"))
            .find(|path| path.is_file())
    };
    let found = named.filter(|path| path.is_file()).or_else(cache);
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "CI must have an Envoy: set ENVOY_BIN"
    );
    found
}

fn bootstrap(expressions: &[String]) -> Value {
    let route = |regex: &String| json!({ "match": { "safe_regex": { "regex": regex } }, "direct_response": { "status": 200 } });
    let routes: Vec<Value> = expressions.iter().map(route).collect();
    let extension = "type.googleapis.com/envoy.extensions.filters";
    let manager = json!({
        "@type": format!("{extension}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "x",
        "http_filters": [{
            "name": "router",
            "typed_config": { "@type": format!("{extension}.http.router.v3.Router") },
        }],
        "route_config": { "virtual_hosts": [{ "name": "v", "domains": ["*"], "routes": routes }] },
    });
    let level = json!({ "re2.max_program_size.error_level": re2::MAX_INSTRUCTIONS });
    json!({
        "layered_runtime": { "layers": [{ "name": "s", "static_layer": level }] },
        "static_resources": { "listeners": [{
            "name": "l",
            "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } },
            "filter_chains": [{ "filters": [{ "name": "manager", "typed_config": manager }] }],
        }] },
    })
}

/// What Envoy has against one of the expressions.
fn refusal(envoy: &Path, expressions: &[String]) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap(expressions).to_string()).unwrap();
    let output = Command::new(envoy)
        .args(["--mode", "validate", "-l", "error", "--config-path"])
        .arg(&file)
        .output()
        .expect("Envoy runs");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn verdicts_are_those_of_a_real_envoy() {
    let Some(envoy) = envoy() else { return };
    let mut runner = TestRunner::deterministic();
    let pieces = vec(select(PIECES), 1..7);
    let mut accepted = Vec::new();
    while accepted.len() < ACCEPTED {
        let expression = pieces.new_tree(&mut runner).unwrap().current().concat();
        if re2::parse(&expression).is_ok_and(|read| read.instructions() < SMALL) {
            accepted.push(expression);
        }
    }
    assert_eq!(refusal(&envoy, &accepted), None);
    for refused in REFUSED {
        assert!(re2::parse(refused).is_err(), "{refused}");
        assert!(refusal(&envoy, &[(*refused).to_owned()]).is_some(), "{refused}");
    }
}
