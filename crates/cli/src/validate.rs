//! `argosy validate`: what is wrong with files or folders of configuration, in text or JSON, the worst first.
//!
//! It uses the same reader as Galley, and so says the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use config::{Finding, Object, ObjectKey, Severity, Spec};
use galley::folder::Folder;
use galley::merge::{Layer, merge};
use galley::store::{Content, Scan, Store};
use serde_json::{Value, json};

pub(crate) use crate::given::bytes;
use crate::given::{self, Role};

/// Trust domain of a mesh that names none.
const TRUST_DOMAIN: &str = "cluster.local";

#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 nothing worse than warnings, 1 an error in the configuration, 2 a path that cannot be \
                        read. (argosy analyze has istioctl's: 79, 65 and 1.)"
)]
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
    let mut layers = Vec::new();
    let mut findings = Vec::new();
    for path in args.paths.iter().chain(&args.filenames) {
        match read(path, &mut findings) {
            Ok(layer) => layers.extend(layer),
            Err(error) => {
                eprintln!("argosy: {}: {error:#}", path.display());
                return ExitCode::from(2);
            }
        }
    }
    let keys: BTreeSet<ObjectKey> = objects(&layers).map(|object| object.key()).collect();
    let merged = merge(&layers, &trust_domain(&layers));
    let mut findings: Vec<&Finding> = findings.iter().chain(&merged.findings).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    if let Err(error) = crate::output::print(&text(&findings, keys.len(), args.output)) {
        eprintln!("argosy: {error:#}");
        return ExitCode::from(2);
    }
    match count(&findings, Severity::Error) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What a path holds, as a layer over the paths before it: `argosy run` takes several folders so.
fn read(path: &Path, findings: &mut Vec<Finding>) -> anyhow::Result<Option<Layer>> {
    let shown = path.display().to_string();
    if path.is_dir() {
        findings.extend(given::identity_fault_in(path));
        let scan = Folder::new(path).scan()?;
        return Ok(Some(layer(&shown, Store::of_folder(&shown), scan)));
    }
    let bytes = bytes(path)?;
    let one = |name: String| Scan::from([(name, Content::Bytes(bytes.clone()))]);
    let (parent, name) = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => (parent.display().to_string(), name.display().to_string()),
        _ => (String::new(), shown.clone()),
    };
    Ok(match given::role(path, &bytes) {
        Role::Identity => {
            findings.extend(given::identity_fault(path));
            None
        }
        Role::Settings if parent.is_empty() => Some(layer(&shown, Store::default(), one(name))),
        Role::Settings => Some(layer(&shown, Store::of_folder(&parent), one(name))),
        // In a folder the store would take it for settings.
        Role::Objects if parent.is_empty() && name.starts_with("mesh") => {
            Some(layer(&shown, Store::default(), one(format!("./{name}"))))
        }
        Role::Objects => Some(layer(&shown, Store::default(), one(shown.clone()))),
    })
}

fn layer(name: &str, mut store: Store, scan: Scan) -> Layer {
    store.apply(scan);
    Layer {
        name: name.into(),
        state: Arc::new(store.state()),
    }
}

fn objects(layers: &[Layer]) -> impl Iterator<Item = &Arc<Object>> {
    layers.iter().flat_map(|layer| layer.state.objects.iter())
}

/// The trust domain that the mesh's settings name, since certificates are not at hand.
fn trust_domain(layers: &[Layer]) -> String {
    let named = objects(layers).filter_map(|object| match &object.spec {
        Spec::MeshConfig(mesh) if !mesh.trust_domain.is_empty() => Some(mesh.trust_domain.clone()),
        _ => None,
    });
    named.last().unwrap_or_else(|| TRUST_DOMAIN.to_owned())
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
        "infos": count(findings, Severity::Info),
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
