//! `argosy analyze`: what objects mean together, of files, of a cluster, or of a cluster as if the files were applied to it.
//!
//! Flags, exit statuses and the form of the output are those of `istioctl analyze`, as far as they make sense here; what is
//! different is said in docs/analysis/README.md.

mod cluster;
mod files;
mod output;
mod sarif;
mod suppress;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use analysis::{ALL, Analyzer, EXTRA, Facts, Message, PRECHECK, Set, Store};
use anyhow::{Context, bail};
use clap::ValueEnum;
use config::{Finding, Kind, Object, ObjectKey, Parsed, Severity, Spec, Status};

use self::output::Output;

/// Something was wrong with what was asked or read (`istioctl`: the same).
const FAILED: u8 = 1;
/// Documents that are no objects (`istioctl`: the same).
const UNPARSED: u8 = 65;
/// Messages as bad as the threshold, or worse (`istioctl`: the same).
const FOUND: u8 = 79;

/// Names of the analyzers that validate single objects: this, and the kind.
const SCHEMA: &str = "schema.ValidationAnalyzer.";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files or folders; `-` reads standard input. With none, the cluster is analysed
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same, as kubectl names them
    #[arg(long = "filename", short = 'f', value_name = "PATH")]
    filenames: Vec<PathBuf>,
    /// Analyse the cluster; files are taken as if they were applied to it
    #[arg(long, short = 'k', visible_alias = "use-kube", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    cluster: Option<bool>,
    #[command(flatten)]
    access: cluster::Access,
    /// Namespace whose objects are told of, and that objects of files belong to that name none. Of a cluster that of the
    /// context unless given; of files alone all are told of
    #[arg(long, short)]
    namespace: Option<String>,
    /// Tell of the objects of all namespaces
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Namespace of the control plane
    #[arg(
        long,
        short,
        alias = "istioNamespace",
        default_value = "istio-system",
        value_name = "NAMESPACE"
    )]
    istio_namespace: String,
    /// Form of the output
    #[arg(long, short, value_enum, ignore_case = true, default_value_t = Output::Text)]
    output: Output,
    /// Severity from which on the exit status is 79
    #[arg(long, value_enum, ignore_case = true, default_value_t = Level::Error)]
    failure_threshold: Level,
    /// Severity from which on messages are shown
    #[arg(long, value_enum, ignore_case = true, default_value_t = Level::Info)]
    output_threshold: Level,
    /// Leave out a message for some objects, as in `IST0103=Pod *.shop`; may be repeated
    #[arg(long, short = 'S', value_name = "CODE=KIND NAME.NAMESPACE")]
    suppress: Vec<String>,
    /// Run this analyzer only; may be repeated
    #[arg(long = "analyzer", value_name = "NAME")]
    analyzers: Vec<String>,
    /// List the analyzers and do nothing else
    #[arg(long, short = 'L')]
    list_analyzers: bool,
    /// The mesh's settings, instead of those that the cluster or the files have
    #[arg(long, alias = "meshConfigFile", value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    /// Revision of the control plane, whose settings are read
    #[arg(long, short, default_value = "default")]
    revision: String,
    /// Also ask whether the cluster is fit for an installation or an update, as `istioctl x precheck` does
    #[arg(long)]
    precheck: bool,
    /// With --precheck: tell what has changed since this release of Istio, such as 1.20
    #[arg(long, value_name = "RELEASE", value_parser = release, requires = "precheck")]
    from_version: Option<(u32, u32)>,
    /// Documents that are no objects are no reason to fail
    #[arg(long)]
    ignore_unknown: bool,
    /// Folders are always read with the folders below them; this is here for old habits
    #[arg(long, short = 'R', hide = true)]
    recursive: bool,
    /// How long the cluster may take to answer, in seconds
    #[arg(long, default_value = "30s", value_parser = seconds)]
    timeout: Duration,
    /// Colour the output; unless given, when it goes to a terminal
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    color: Option<bool>,
    /// Tell which analyzers ran and which did not
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Info,
    Warning,
    Error,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Self {
        match level {
            Level::Info => Self::Info,
            Level::Warning => Self::Warning,
            Level::Error => Self::Error,
        }
    }
}

fn release(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('.').and_then(|(major, minor)| {
        let minor = minor.split('.').next().unwrap_or_default();
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    parts.ok_or_else(|| "a release is written MAJOR.MINOR, such as 1.20".to_owned())
}

/// `30s`, `2m` or a number of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match number.parse::<u32>() {
        Ok(number) if number > 0 => Ok(Duration::from_secs(u64::from(number) * unit)),
        _ => Err("a time is written in seconds or minutes, such as 30s or 2m".to_owned()),
    }
}

/// What was read from somewhere.
#[derive(Default)]
struct Read {
    /// Later ones replace earlier ones.
    objects: Vec<Object>,
    statuses: BTreeMap<ObjectKey, Status>,
    findings: Vec<Finding>,
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

/// Exit status 0: nothing as bad as the failure threshold. 79: something was. 65: a document is no object. 1: something
/// could not be read.
pub(crate) fn run(args: &Args) -> ExitCode {
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
    let given: Vec<ObjectKey> = from_files.objects.iter().map(Object::key).collect();
    // A file's object takes the place of the cluster's, and of what was said of it.
    let given_set: std::collections::BTreeSet<&ObjectKey> = given.iter().collect();
    all.findings.retain(|finding| {
        finding
            .object
            .as_ref()
            .is_none_or(|object| !given_set.contains(object))
    });
    all.objects.extend(from_files.objects);
    all.statuses.extend(from_files.statuses);
    all.findings.extend(from_files.findings);
    settle_mesh(args, &mut all, !with_cluster)?;

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
    let messages: Vec<&Message> = messages.iter().filter(shown).collect();
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
        eprintln!("See {} for causes and ways out.", analysis::docs("README.md"));
        return FOUND;
    }
    if unparsed > 0 && !args.ignore_unknown {
        UNPARSED
    } else {
        0
    }
}

/// Which analyzers are to run.
struct Selected {
    analyzers: Vec<&'static Analyzer>,
    /// Kinds of which single objects are validated; none for all.
    schemas: Option<Vec<String>>,
}

impl Selected {
    fn kinds(&self) -> Vec<Kind> {
        let analyzed = self
            .analyzers
            .iter()
            .flat_map(|analyzer| analyzer.inputs.iter().copied());
        let validated = output::validated().filter(|kind| self.validates(*kind));
        let mut kinds: Vec<Kind> = analyzed.chain(validated).collect();
        kinds.sort();
        kinds.dedup();
        kinds
    }

    fn validates(&self, kind: Kind) -> bool {
        let named = |names: &Vec<String>| names.iter().any(|name| name == kind.as_str());
        self.schemas.as_ref().is_none_or(named)
    }
}

fn selected(args: &Args) -> anyhow::Result<Selected> {
    let (mut analyzers, mut schemas) = (Vec::new(), None);
    if args.analyzers.is_empty() {
        analyzers.extend(ALL);
        if args.precheck {
            analyzers.extend(PRECHECK.iter().chain(EXTRA));
        }
        return Ok(Selected { analyzers, schemas });
    }
    for name in &args.analyzers {
        match (analysis::find(name), name.strip_prefix(SCHEMA)) {
            (Some(analyzer), _) => analyzers.push(analyzer),
            (None, Some(kind)) if output::validated().any(|known| known.as_str() == kind) => {
                schemas.get_or_insert_with(Vec::new).push(kind.to_owned());
            }
            _ => bail!("there is no analyzer {name:?}; --list-analyzers lists them"),
        }
    }
    let schemas = Some(schemas.unwrap_or_default());
    Ok(Selected { analyzers, schemas })
}

/// The mesh's settings: those of the flag, or else of the control plane's ConfigMap; and what a mesh has without anybody
/// writing it down, where there is no cluster to look at.
fn settle_mesh(args: &Args, all: &mut Read, defaults: bool) -> anyhow::Result<()> {
    let name = match args.revision.as_str() {
        "" | "default" => "istio".to_owned(),
        revision => format!("istio-{revision}"),
    };
    let config_maps = all.objects.iter().rev().filter_map(|object| match &object.spec {
        Spec::ConfigMap(map) if object.meta.name == name && object.meta.namespace == args.istio_namespace => {
            Some(map)
        }
        _ => None,
    });
    let map = config_maps
        .into_iter()
        .next()
        .map(|map| map.data.clone())
        .unwrap_or_default();
    if let Some(text) = map.get("mesh") {
        all.add(config::parse_mesh_config(
            &name,
            text.as_bytes(),
            &args.istio_namespace,
        ));
    }
    if let Some(text) = map.get("meshNetworks") {
        all.add(config::parse_mesh_networks(
            &name,
            text.as_bytes(),
            &args.istio_namespace,
        ));
    }
    if let Some(path) = &args.mesh_config {
        let text = std::fs::read(path).with_context(|| path.display().to_string())?;
        let parsed = config::parse_mesh_config(&path.display().to_string(), &text, &args.istio_namespace);
        all.objects.retain(|object| object.kind != Kind::MeshConfig);
        all.add(parsed);
    }
    if defaults {
        let mesh = all.objects.iter().rev().find_map(|object| match &object.spec {
            Spec::MeshConfig(mesh) => Some((**mesh).clone()),
            _ => None,
        });
        let given = std::mem::take(&mut all.objects);
        all.objects = analysis::defaults(&mesh.unwrap_or_default(), &args.istio_namespace);
        all.objects.extend(given);
    }
    Ok(())
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
fn is_of(message: &Message, namespace: Option<&str>, given: &[ObjectKey]) -> bool {
    let (Some(namespace), Some(object)) = (namespace, &message.object) else {
        return true;
    };
    let own = match object.kind {
        Kind::Namespace => object.name.as_str(),
        _ => object.namespace.as_str(),
    };
    own.is_empty() || own == namespace || given.contains(object)
}
