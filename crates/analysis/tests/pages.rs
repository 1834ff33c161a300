//! The pages of docs/analysis are what the catalogue says, and their examples give what they say.
//!
//! `UPDATE_DOCS=1 cargo test -p analysis --test pages` writes the pages anew.

#![allow(
    clippy::expect_used,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test, whose subject are files"
)]

mod common;

use std::path::{Path, PathBuf};

use analysis::{ALL, Analyzer, Code, EXTRA, PRECHECK};

/// Codes that no check gives, and why.
const SILENT: [(Code, &str); 3] = [
    (
        Code::InternalError,
        "No check gives this message. Galley writes a fault of an analyzer to its log and analyses the next state anew.",
    ),
    (
        Code::LocalhostListener,
        "No check gives this message, in Istio neither: it was made from what proxies had open, and inbound requests have gone \
         to the pod's own address since Istio 1.10. The code is kept, so that suppressions that name it stay valid.",
    ),
    (
        Code::UnknownUpgradeCompatibility,
        "No check gives this message, in Istio's current release neither. The code is kept, so that suppressions that name it \
         stay valid.",
    ),
];

/// Codes that validation of single objects gives.
const VALIDATION: [Code; 4] = [
    Code::SchemaValidationError,
    Code::SchemaWarning,
    Code::VirtualServiceUnreachableRule,
    Code::VirtualServiceIneffectiveMatch,
];

fn analyzers() -> impl Iterator<Item = &'static Analyzer> {
    ALL.iter().chain(EXTRA).chain(PRECHECK)
}

fn silent(code: Code) -> Option<&'static str> {
    SILENT
        .iter()
        .find(|(known, _)| *known == code)
        .map(|(_, why)| *why)
}

fn page(code: Code) -> String {
    let (id, name) = (code.id(), code.name());
    let words = code.template().replace("{}", "…");
    let mut page = format!(
        "# {id} {name}\n\n{}: {words}\n\n{}\n\n",
        analysis::level(code.severity()),
        wrapped(code.meaning())
    );
    match silent(code) {
        Some(why) => page.push_str(&format!("{}\n\n", wrapped(why))),
        None => page.push_str(&example(code)),
    }
    let mut help = code.help().to_owned();
    help[..1].make_ascii_uppercase();
    page.push_str(&format!("## The way out\n\n{}\n", wrapped(&format!("{help}."))));
    if silent(code).is_none() {
        page.push_str(&format!("\n## Checked by\n\n{}", checked_by(code)));
    }
    page
}

fn example(code: Code) -> String {
    let mut text = "## Example\n\n".to_owned();
    if let Some((said, _)) = common::facts(code) {
        text.push_str(&format!("{}\n\n", wrapped(said)));
    }
    if let Some(yaml) = common::yaml(code) {
        text.push_str(&format!("```yaml\n{yaml}```\n\n"));
    }
    let lines: Vec<String> = common::example(code).iter().map(ToString::to_string).collect();
    text.push_str(&format!("gives\n\n```\n{}\n```\n\n", lines.join("\n")));
    text
}

fn checked_by(code: Code) -> String {
    if VALIDATION.contains(&code) {
        return "`schema.ValidationAnalyzer.KIND`: validation of each object by itself.\n".to_owned();
    }
    let mut text = String::new();
    for analyzer in analyzers().filter(|analyzer| analyzer.codes.contains(&code)) {
        let name = analyzer.alias.unwrap_or(analyzer.name);
        text.push_str(&format!(
            "- `{name}`: {}. Reads {}.\n",
            analyzer.about,
            reads(analyzer)
        ));
    }
    text
}

fn reads(analyzer: &Analyzer) -> String {
    let mut all: Vec<String> = analyzer
        .inputs
        .iter()
        .map(|kind| match kind.group() {
            "gateway.networking.k8s.io" => format!("{kind} of Gateway API"),
            _ => kind.to_string(),
        })
        .collect();
    all.extend(analyzer.clock.then(|| "the time".to_owned()));
    all.extend(analyzer.facts.then(|| "facts about the cluster".to_owned()));
    all.join(", ")
}

fn index() -> String {
    let head = include_str!("../catalogue/README.head.md");
    let mut page = format!("{head}\n| code | name | severity | message |\n|---|---|---|---|\n");
    for code in Code::ALL {
        let words = code.template().replace("{}", "…");
        let (id, name, severity) = (code.id(), code.name(), analysis::level(code.severity()));
        page.push_str(&format!("| [{id}]({id}.md) | {name} | {severity} | {words} |\n"));
    }
    page.push_str("\n## Analyzers\n\n| analyzer | checks | reads |\n|---|---|---|\n");
    for analyzer in analyzers() {
        let name = analyzer.alias.unwrap_or(analyzer.name);
        page.push_str(&format!(
            "| {name} | {} | {} |\n",
            analyzer.about,
            reads(analyzer)
        ));
    }
    page
}

/// Lines of at most 120 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("never empty");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > 120 {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/analysis")
}

#[test]
fn each_code_of_istio_has_a_message_or_a_reason_why_not() {
    let head = include_str!("../catalogue/README.head.md");
    let unused = head
        .split("## Codes without a message")
        .nth(1)
        .unwrap_or_default();
    let unused = unused.split("\n## ").next().unwrap_or_default();
    for number in 101..=177 {
        let id = format!("IST0{number}");
        let mut cells = unused.lines().filter_map(|line| line.split('|').nth(1));
        let is_named = cells.any(|cell| cell.contains(&id));
        assert_ne!(Code::find(&id).is_some(), is_named, "{id}");
    }
}

#[test]
fn every_example_gives_its_message() {
    for &code in Code::ALL {
        let found = common::example(code).len();
        match silent(code) {
            Some(_) => assert_eq!((found, common::yaml(code)), (0, None), "{code}"),
            None => assert!(found > 0, "{code}: the example does not give it"),
        }
    }
}

#[test]
fn analyzers_declare_the_codes_that_they_give() {
    for &code in Code::ALL {
        let declared = analyzers().any(|analyzer| analyzer.codes.contains(&code));
        let expected = silent(code).is_none() && !VALIDATION.contains(&code);
        assert_eq!(declared, expected, "{code}");
    }
}

#[test]
fn the_pages_are_current() {
    let mut pages: Vec<(String, String)> = Code::ALL
        .iter()
        .map(|code| (format!("{}.md", code.id()), page(*code)))
        .collect();
    pages.push(("README.md".to_owned(), index()));
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    if update {
        std::fs::create_dir_all(folder()).expect("docs/analysis");
    }
    for (name, wanted) in &pages {
        let path = folder().join(name);
        if update {
            std::fs::write(&path, wanted).expect("the page");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == *wanted,
            "docs/analysis/{name} is not what the catalogue says; run UPDATE_DOCS=1 cargo test -p analysis --test pages. \
             It should be:\n{wanted}"
        );
    }
    let names: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
    for entry in std::fs::read_dir(folder()).expect("docs/analysis").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(
            names.contains(&&name),
            "docs/analysis/{name} is of no message; remove it"
        );
    }
}
