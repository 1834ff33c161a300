//! `argosy validate`: what is wrong with files or folders of configuration, in text or JSON, the worst first.
//!
//! It uses the same reader as Galley, and so says the same.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use config::{Finding, Severity};
use galley::folder::Folder;
use galley::store::{Content, Scan, State, Store};
use serde_json::{Value, json};

/// Most bytes read from standard input.
const MAX_STDIN: u64 = 64 << 20;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders; `-` reads standard input
    #[arg(required_unless_present = "filenames", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same, as kubectl names them
    #[arg(long = "filename", short = 'f', value_name = "PATH")]
    filenames: Vec<PathBuf>,
    /// Form of the findings
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Exit status 0: nothing worse than warnings. 1: an error in the configuration. 2: a path could not be read.
pub(crate) fn run(args: &Args) -> ExitCode {
    let mut states = Vec::new();
    for path in args.paths.iter().chain(&args.filenames) {
        match read(path) {
            Ok(state) => states.push(state),
            Err(error) => {
                eprintln!("argosy: {}: {error:#}", path.display());
                return ExitCode::from(2);
            }
        }
    }
    let mut findings: Vec<&Finding> = states.iter().flat_map(|state| &state.findings).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let objects = states.iter().map(|state| state.objects.len()).sum();
    if let Err(error) = crate::output::print(&text(&findings, objects, args.output)) {
        eprintln!("argosy: {error:#}");
        return ExitCode::from(2);
    }
    match count(&findings, Severity::Error) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn read(path: &Path) -> anyhow::Result<State> {
    let mut store = Store::default();
    if path.is_dir() {
        store.apply(Folder::new(path).scan()?);
    } else {
        store.apply(Scan::from([(
            path.display().to_string(),
            Content::Bytes(bytes(path)?),
        )]));
    }
    Ok(store.state())
}

pub(crate) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    if path != Path::new("-") {
        return Ok(std::fs::read(path)?);
    }
    let mut bytes = Vec::new();
    std::io::stdin().take(MAX_STDIN).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(findings: &[&Finding], objects: usize, output: Output) -> String {
    match output {
        Output::Json => format!("{:#}\n", document(findings, objects)),
        Output::Text => {
            let line = |finding: &&Finding| format!("{}: {finding}\n", finding.severity);
            let lines: String = findings.iter().map(line).collect();
            lines + &summary(findings, objects) + "\n"
        }
    }
}

fn document(findings: &[&Finding], objects: usize) -> Value {
    json!({
        "objects": objects,
        "errors": count(findings, Severity::Error),
        "warnings": count(findings, Severity::Warning),
        "findings": findings.iter().map(|finding| galley::report::finding(finding)).collect::<Vec<_>>(),
    })
}

fn summary(findings: &[&Finding], objects: usize) -> String {
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let [errors, warnings] = [Severity::Error, Severity::Warning].map(|severity| count(findings, severity));
    format!(
        "{} accepted, {}, {}",
        counted(objects, "object"),
        counted(errors, "error"),
        counted(warnings, "warning")
    )
}

fn count(findings: &[&Finding], severity: Severity) -> usize {
    findings
        .iter()
        .filter(|finding| finding.severity == severity)
        .count()
}
