//! Messages for people and for programs.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;

use analysis::{ALL, Analyzer, EXTRA, Message, PRECHECK};
use anyhow::Context;
use clap::ValueEnum;
use config::{Kind, Severity};

use super::sarif;
use super::selected::SCHEMA;

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Output {
    /// A line for each message
    #[value(alias = "log")]
    Text,
    /// A list, with the fields of `istioctl analyze -o json`
    Json,
    /// The same as YAML
    Yaml,
    /// SARIF 2.1.0, which code hosts and editors show beside the files
    Sarif,
}

/// Prints the messages that are at least so bad.
pub(super) fn print(
    output: Output,
    messages: &[&Message],
    threshold: Severity,
    color: Option<bool>,
) -> anyhow::Result<()> {
    let shown: Vec<&Message> = messages
        .iter()
        .copied()
        .filter(|message| message.severity() >= threshold)
        .collect();
    let document = || -> Vec<_> {
        shown
            .iter()
            .map(|message| galley::analysis::message(message))
            .collect()
    };
    let text = match output {
        Output::Text => {
            let color = color.unwrap_or_else(|| {
                std::io::stdout().is_terminal() && std::env::var("TERM").as_deref() != Ok("dumb")
            });
            let line = |message: &&Message| line(message, color) + "\n";
            shown.iter().map(line).collect()
        }
        Output::Json => serde_json::to_string_pretty(&document())? + "\n",
        Output::Yaml => serde_saphyr::to_string(&document()).context("writing YAML")?,
        Output::Sarif => serde_json::to_string_pretty(&sarif::log(&shown))? + "\n",
    };
    crate::output::print(&text)
}

fn line(message: &Message, color: bool) -> String {
    let text = with_path(message);
    let level = analysis::level(message.severity());
    let start = match message.severity() {
        Severity::Error => "\u{1b}[1;31m",
        Severity::Warning => "\u{1b}[33m",
        Severity::Info => "",
    };
    match text.strip_prefix(level).filter(|_| color && !start.is_empty()) {
        Some(rest) => format!("{start}{level}\u{1b}[0m{rest}"),
        None => text,
    }
}

/// The line of a message with the field's path, where the words do not name it.
fn with_path(message: &Message) -> String {
    let (path, line) = (&message.path, message.to_string());
    match line.strip_suffix(&message.text) {
        Some(before) if !path.is_empty() && !message.text.contains(path.as_str()) => {
            format!("{before}{path}: {}", message.text)
        }
        _ => line,
    }
}

/// What was analysed, in words.
pub(super) fn target(all_namespaces: bool, namespace: Option<&str>, paths: &[&PathBuf]) -> String {
    match (all_namespaces, namespace) {
        (true, Some(_)) => "all namespaces".to_owned(),
        (false, Some(namespace)) => format!("namespace: {namespace}"),
        (_, None) => {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            names.join(", ")
        }
    }
}

/// Tells, on standard error, which analyzers ran.
pub(super) fn tell_analyzers(selected: &[&'static Analyzer], skipped: &[&str]) {
    if !skipped.is_empty() {
        eprintln!("Skipped analyzers:");
        skipped.iter().for_each(|name| eprintln!("\t{name}"));
    }
    eprintln!("Executed analyzers:");
    let ran = selected
        .iter()
        .filter(|analyzer| !skipped.contains(&analyzer.name));
    ran.for_each(|analyzer| eprintln!("\t{}", listed(analyzer)));
    eprintln!();
}

/// The kinds whose objects are validated one by one: all of the mesh's own.
pub(super) fn validated() -> impl Iterator<Item = Kind> {
    Kind::ALL
        .iter()
        .copied()
        .filter(|kind| !kind.is_kubernetes() && !kind.is_for_analysis())
}

/// All analyzers with what they do, by name, as `istioctl analyze -L` lists them.
pub(super) fn list() -> String {
    let analyzers = ALL.iter().chain(EXTRA).chain(PRECHECK);
    let mut lines: Vec<(String, String)> = analyzers
        .map(|analyzer| (listed(analyzer).to_owned(), analyzer.about.to_owned()))
        .collect();
    lines.extend(validated().map(|kind| (format!("{SCHEMA}{kind}"), format!("Validates each {kind}"))));
    lines.sort();
    lines.iter().fold(String::new(), |mut text, (name, about)| {
        _ = write!(text, "* {name}:\n    {about}\n");
        text
    })
}

/// The name that users of `istioctl` know.
fn listed(analyzer: &Analyzer) -> &'static str {
    analyzer.alias.unwrap_or(analyzer.name)
}
