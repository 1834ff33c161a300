//! `argosy analyze`: what objects mean together, of files, of a cluster, or of a cluster as if the files were applied to it.
//!
//! Flags, exit statuses and the form of the output are those of `istioctl analyze`, as far as they make sense here; what is
//! different is said in docs/analysis/README.md.

mod args;
mod cluster;
mod files;
mod output;
mod pages;
mod rules;
mod sarif;
mod selected;
mod settings;
mod suppress;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use analysis::{Analyzer, Facts, Message, Set, Store};
use anyhow::bail;
use config::{Finding, Kind, Object, ObjectKey, Parsed, Severity, Status};

pub(crate) use self::args::Args;
use self::selected::{Selected, selected};
use self::settings::settle_mesh;

/// Something could not be read (`istioctl`: the same).
const FAILED: u8 = 1;
/// A flag's value is wrong, as with flags that do not exist.
const USAGE: u8 = 2;
/// Documents that are no objects (`istioctl`: the same).
const UNPARSED: u8 = 65;
/// Messages as bad as the threshold, or worse (`istioctl`: the same).
const FOUND: u8 = 79;

/// What was read from somewhere.
#[derive(Default)]
struct Read {
    /// Later ones replace earlier ones.
    objects: Vec<Object>,
    statuses: BTreeMap<ObjectKey, Status>,
    findings: Vec<Finding>,
    /// The files' texts, by the names that objects have for them.
    texts: BTreeMap<String, Vec<u8>>,
}

impl Read {
    fn add(&mut self, parsed: Parsed) {
        self.objects.extend(parsed.objects);
        // What breaks a rule is analysed too: where it is applied nobody may check.
        self.objects.extend(parsed.invalid);
        self.statuses.extend(parsed.statuses);
        self.findings.extend(parsed.findings);
    }
}

/// Exit status 0: nothing as bad as the failure threshold. 79: something was. 65: a document is no object. 2: a flag
/// is wrong. 1: something could not be read.
pub(crate) fn run(args: &Args) -> ExitCode {
    if let Err(error) = suppress::parse(&args.suppress).and_then(|_| selected(args)) {
        eprintln!("argosy: {error:#}");
        return ExitCode::from(USAGE);
    }
    match analyze(args) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("argosy: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

fn analyze(args: &Args) -> anyhow::Result<u8> {
    if args.list_analyzers {
        print!("{}", output::list());
        return Ok(0);
    }
    if let Some(code) = &args.explain {
        print!("{}", pages::of(pages::find(code)?));
        return Ok(0);
    }
    let suppressions = suppress::parse(&args.suppress)?;
    let paths: Vec<&PathBuf> = args.paths.iter().chain(&args.filenames).collect();
    let with_cluster = args.cluster.unwrap_or(paths.is_empty()) || args.precheck;
    if !with_cluster && paths.is_empty() {
        bail!("nothing to analyse; name files with -f, or a cluster with --cluster");
    }
    let selected = selected(args)?;
    let cluster = with_cluster
        .then(|| cluster::read(args, &selected.kinds()))
        .transpose()?
        .unwrap_or_default();
    let home = match (&args.namespace, with_cluster) {
        (Some(namespace), _) => namespace.clone(),
        (None, true) => cluster.namespace.clone(),
        (None, false) => "default".to_owned(),
    };
    let mut all = cluster.read;
    let from_files = files::read(&paths, &home)?;
    let unparsed = files::tell_unparsed(&from_files);
    let given: BTreeSet<ObjectKey> = from_files.objects.iter().map(Object::key).collect();
    // A file's object takes the place of the cluster's, and of what was said of it.
    all.findings.retain(|finding| {
        finding
            .object
            .as_ref()
            .is_none_or(|object| !given.contains(object))
    });
    all.objects.extend(from_files.objects);
    all.statuses.extend(from_files.statuses);
    all.findings.extend(from_files.findings);
    let texts = from_files.texts;
    settle_mesh(args, &mut all, !with_cluster)?;
    let is_read = |kind: &Kind| selected.validates(*kind) && !cluster.unreadable.contains(kind);
    if rules::READ.iter().all(is_read) {
        let more = rules::findings(&all.objects, &all.findings);
        all.findings.extend(more);
    }

    let mut facts = cluster.facts;
    facts.from_version = args.from_version;
    let (messages, skipped) = messages(all, facts, &selected, &cluster.unreadable);
    let shown = |message: &&Message| {
        let filter = match (args.all_namespaces, &args.namespace, with_cluster) {
            (true, _, _) | (_, None, false) => None,
            _ => Some(home.as_str()),
        };
        is_of(message, filter, &given) && !suppressions.iter().any(|s| s.covers(message))
    };
    let mut messages: Vec<Message> = messages.into_iter().filter(|message| shown(&message)).collect();
    analysis::point(&mut messages, |file| texts.get(file).map(Vec::as_slice));
    let messages: Vec<&Message> = messages.iter().collect();
    if args.verbose {
        output::tell_analyzers(&selected.analyzers, &skipped);
    }
    output::print(args.output, &messages, args.output_threshold.into(), args.color)?;
    let target = output::target(args.all_namespaces, with_cluster.then_some(home.as_str()), &paths);
    Ok(verdict(
        args,
        &messages,
        unparsed,
        cluster.unreadable.len(),
        &target,
    ))
}

/// Tells how it went, on standard error, and gives the exit status.
fn verdict(args: &Args, messages: &[&Message], unparsed: usize, unreadable: usize, target: &str) -> u8 {
    let threshold: Severity = args.failure_threshold.into();
    let shown: Severity = args.output_threshold.into();
    if !messages.iter().any(|message| message.severity() >= shown) {
        match (unparsed, unreadable) {
            (0, 0) => eprintln!("\u{2714} No validation issues found when analyzing {target}."),
            _ => eprintln!(
                "No validation issues found when analyzing {target}, but {unparsed} documents could not be parsed and \
                 {unreadable} kinds not be read."
            ),
        }
    }
    if messages.iter().any(|message| message.severity() >= threshold) {
        eprintln!("Analyzers found issues when analyzing {target}.");
        if let Some(worst) = messages.first() {
            let code = worst.code.id();
            eprintln!("For causes and ways out ask for the code, as in `argosy analyze --explain {code}`.");
        }
        return FOUND;
    }
    if unparsed > 0 && !args.ignore_unknown {
        UNPARSED
    } else {
        0
    }
}

/// What the selected analyzers say; and the names of those that were not asked, since they read what cannot be read.
fn messages(
    all: Read,
    facts: Facts,
    selected: &Selected,
    unreadable: &[Kind],
) -> (Vec<Message>, Vec<&'static str>) {
    let mut store: Store = all.objects.into_iter().map(Arc::new).collect();
    for (key, status) in &all.statuses {
        store.set_status(key, Some(status));
    }
    store.set_facts(facts);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let set = Set::new(&store, i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let is_blind = |analyzer: &&&Analyzer| analyzer.inputs.iter().any(|kind| unreadable.contains(kind));
    let (blind, able): (Vec<_>, Vec<_>) = selected.analyzers.iter().partition(is_blind);
    let mut messages = analysis::run(&set, able);
    let validated = |finding: &&Finding| {
        finding
            .object
            .as_ref()
            .is_some_and(|object| selected.validates(object.kind))
    };
    let schema = analysis::of_findings(all.findings.iter().filter(validated));
    messages.extend(
        schema
            .into_iter()
            .filter(|message| !analysis::is_suppressed(&set, message)),
    );
    messages.sort_by(Message::by_severity);
    messages.dedup();
    (
        messages,
        blind.into_iter().map(|analyzer| analyzer.name).collect(),
    )
}

/// Whether a message is of the namespace that is asked about: its object is in it, or is it, is of the whole cluster, or
/// comes from a file that was named.
fn is_of(message: &Message, namespace: Option<&str>, given: &BTreeSet<ObjectKey>) -> bool {
    let (Some(namespace), Some(object)) = (namespace, &message.object) else {
        return true;
    };
    let own = match object.kind {
        Kind::Namespace => object.name.as_str(),
        _ => object.namespace.as_str(),
    };
    own.is_empty() || own == namespace || given.contains(object)
}
