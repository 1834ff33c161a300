//! Input made to do harm, as a user or a repository may hand it to `argosy validate`: each is refused with words that help,
//! in bounded memory and output, and the command ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Memory that the command may have, in KiB: code, stacks and all that it reads.
const MEMORY: &str = "1500000";
/// Most that it may say, in bytes.
const OUTPUT: usize = 1 << 20;
/// When it counts as not ending, on a busy machine and without optimization.
const LONG: Duration = Duration::from_secs(300);

const ROUTE: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\n";

/// Hands `input` to the command; it must be refused with these words.
fn check(input: &[u8], words: &str) {
    let mut child = Command::new("sh")
        .args([
            "-c",
            "ulimit -v $0 && exec \"$1\" validate -",
            MEMORY,
            env!("CARGO_BIN_EXE_argosy"),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh runs");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may refuse before it has read everything.
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        stdout.read_to_end(&mut said).map(|_| said)
    });
    let end = Instant::now() + LONG;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() > end => {
                _ = child.kill();
                panic!("did not end")
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    writer.join().unwrap();
    let said = String::from_utf8(reader.join().unwrap().unwrap()).unwrap();
    assert_eq!(status.code(), Some(1), "{said:.500}");
    assert!(said.contains(words), "{words:?} is not in: {said:.500}");
    assert!(said.len() <= OUTPUT, "it says {} bytes", said.len());
}

fn route(regex: &str) -> String {
    format!(
        "{ROUTE}spec:\n  hosts: [a]\n  http:\n  - match: [{{uri: {{regex: {regex:?}}}}}]\n    route: [{{destination: {{host: a}}}}]\n"
    )
}

#[test]
fn deep_nesting() {
    check("[".repeat(1_000_000).as_bytes(), "-:1:");
    check("{a: ".repeat(500_000).as_bytes(), "-:1:");
    check(
        format!("{}a", "- ".repeat(500_000)).as_bytes(),
        "more than 64 maps and lists inside one another",
    );
    let json = format!(
        "{{\"spec\":{}1{}}}",
        "{\"a\":".repeat(100_000),
        "}".repeat(100_000)
    );
    check(json.as_bytes(), "more than 64 maps and lists inside one another");
}

#[test]
fn aliases_that_multiply() {
    let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..20 {
        let items = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let refused = "anchors and aliases repeat more than 1048576 bytes; write the values out";
    check(laughs.as_bytes(), refused);
    let keys: Vec<String> = (0..2000).map(|number| format!("k{number}: 1")).collect();
    let merges = vec!["*a"; 5000].join(", ");
    check(
        format!("a: &a {{{}}}\nb:\n  <<: [{merges}]\n", keys.join(", ")).as_bytes(),
        refused,
    );
    check(b"a: &a [*a]\n", "an alias inside the value that it repeats");
}

#[test]
fn huge_maps_and_lists() {
    let many = "more than 1000000 values in the file";
    let keys: String = (0..600_000).map(|number| format!("  k{number}: 1\n")).collect();
    check(format!("{ROUTE}spec:\n{keys}").as_bytes(), many);
    check(
        format!("{ROUTE}spec: {{hosts: [{}a]}}\n", "a,".repeat(2_000_000)).as_bytes(),
        many,
    );
    check(
        " ".repeat(11_000_000).as_bytes(),
        "the file has 11000000 bytes, more than the 10485760 allowed",
    );
}

#[test]
fn many_documents() {
    let documents: String = (0..20_000)
        .map(|number| format!("---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s{number}}}\nspec: {{egres: 1}}\n"))
        .collect();
    check(
        documents.as_bytes(),
        "there are more than 1000 findings; the others are left out",
    );
}

#[test]
fn invalid_utf_8_and_nul() {
    let invalid = [ROUTE.as_bytes(), b"spec: {hosts: [\"\xff\xfe\"]}\n"].concat();
    check(&invalid, "-:4: invalid UTF-8; save the file as UTF-8");
    let nul = format!("{ROUTE}spec: {{hosts: [\"a\0\"]}}\n");
    check(nul.as_bytes(), "the file is binary (it has NUL bytes)");
    let escaped = format!("{ROUTE}spec: {{hosts: [\"a\\0b\"]}}\n");
    check(escaped.as_bytes(), "spec.hosts[0]: \"a\\0b\" is not a DNS name");
}

#[test]
fn duplicate_keys() {
    let twice = format!("{ROUTE}spec: {{hosts: [a], hosts: [b]}}\n");
    check(
        twice.as_bytes(),
        "-:4:20: the key \"hosts\" is given twice in one map (first in line 4)",
    );
    check(
        "a: 1\n".repeat(300_000).as_bytes(),
        "-:2:1: the key \"a\" is given twice",
    );
}

#[test]
fn expressions_that_blow_up() {
    let field = "spec.http[0].match[0].uri.regex: ";
    for regex in [
        "((a{1000}){1000}){1000}",
        "(\\pL{100}){100}",
        &"(".repeat(600),
        &"a".repeat(5_000_000),
    ] {
        check(route(regex).as_bytes(), field);
    }
    let rule = |text: &str| {
        format!(
            "apiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {{name: x}}\nspec: {{match: \"{text}\", actions: [{{handler: a, instances: [b]}}]}}\n"
        )
    };
    check(rule(&"(".repeat(10_000)).as_bytes(), "spec.match: ");
    check(
        rule(&vec!["request.size == 1"; 300_000].join(" && ")).as_bytes(),
        "spec.match: the expression is",
    );
    let filter = |text: &str| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: x}}\nspec: {{accessLogging: [{{filter: {{expression: \"{text}\"}}}}]}}\n"
        )
    };
    check(
        filter(&"(".repeat(10_000)).as_bytes(),
        "spec.accessLogging[0].filter.expression: ",
    );
    check(
        filter(&"a+".repeat(2_000_000)).as_bytes(),
        "more than the 16384 allowed",
    );
}

#[test]
fn long_texts_are_not_repeated() {
    check(
        format!("apiVersion: v1\nkind: {}\n", "K".repeat(9_000_000)).as_bytes(),
        "kind: unknown kind \"KKK",
    );
    let names = format!(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: \"{}\", namespace: \"{}\"}}\n",
        "n".repeat(5_000_000),
        "m".repeat(4_000_000)
    );
    check(names.as_bytes(), "(5000000 bytes)");
    check(
        format!("a: !<tag:{}> 1\n", "x".repeat(1_000_000)).as_bytes(),
        "the tag !<tag:xxx",
    );
    let key = format!("{ROUTE}spec:\n  ? \"{}\"\n  : 1\n", "k".repeat(1_000_000));
    check(key.as_bytes(), "unknown field");
}
