//! `argosy explain`: why a proxy has a resource, by the objects that it was made of; and where a rule of Mixer's is decided.
//!
//! It generates what Pilot would, from a folder; nothing is running.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use envoygen::{Resource, type_url};

use crate::explain_rule;
use crate::offline::{Mesh, Which};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of configuration
    #[arg(long, value_name = "DIR", global = true, default_value = ".")]
    config: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What one proxy would have, each resource with the objects behind it
    Proxy {
        #[command(flatten)]
        which: Which,
        /// Only resources of this type
        #[arg(long = "type", value_enum)]
        kind: Option<Type>,
        /// Only resources whose name has this in it
        name: Option<String>,
    },
    /// What one object has become at one proxy
    Object {
        #[command(flatten)]
        which: Which,
        /// KIND/NAMESPACE/NAME, such as VirtualService/shop/catalog
        object: String,
    },
    /// What of a Mixer rule its proxies decide by themselves, what Mixer decides, and why
    Rule {
        /// NAME, or NAMESPACE/NAME
        rule: String,
        /// Namespace of the rule, if it is given by NAME
        #[arg(long, short, default_value = "default")]
        namespace: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    Cluster,
    Endpoints,
    Listener,
    Routes,
}

impl Type {
    fn url(self) -> &'static str {
        match self {
            Type::Cluster => type_url::CLUSTER,
            Type::Endpoints => type_url::ENDPOINTS,
            Type::Listener => type_url::LISTENER,
            Type::Routes => type_url::ROUTES,
        }
    }
}

/// Exit status 0: there is something to explain. 1: there is not. 2: the question makes no sense.
pub(crate) fn run(args: &Args) -> ExitCode {
    let mut text = String::new();
    let answered = answer(args, &mut text).and_then(|found| crate::output::print(&text).map(|()| found));
    match answered {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("argosy: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Writes the answer; false if there is nothing to explain.
fn answer(args: &Args, out: &mut String) -> Result<bool> {
    let mesh = Mesh::read(&args.config)?;
    match &args.what {
        What::Proxy { which, kind, name } => {
            let tables = mesh.tables(which)?;
            let wanted = |resource: &&Resource| {
                kind.is_none_or(|kind| kind.url() == resource.type_url)
                    && name
                        .as_ref()
                        .is_none_or(|name| resource.name.contains(name.as_str()))
            };
            let found: Vec<_> = tables.output.resources.iter().filter(wanted).collect();
            for resource in &found {
                show(&mesh, resource, out)?;
            }
            for finding in &tables.output.findings {
                writeln!(out, "left out: {finding}")?;
            }
            if found.is_empty() {
                writeln!(out, "the proxy would have nothing of that type and name")?;
            }
            Ok(!found.is_empty())
        }
        What::Object { which, object } => object_at(&mesh, which, object, out),
        What::Rule { rule, namespace } => {
            let (namespace, name) = rule.split_once('/').unwrap_or((namespace, rule));
            explain_rule::run(&mesh, namespace, name, out)
        }
    }
}

fn show(mesh: &Mesh, resource: &Resource, out: &mut String) -> Result<()> {
    let kind = resource.type_url.rsplit('.').next().unwrap_or_default();
    writeln!(out, "{kind} {}", resource.name)?;
    for key in &resource.origins {
        writeln!(out, "  from {}", mesh.shown(key))?;
    }
    if resource.origins.is_empty() {
        writeln!(out, "  from the mesh's settings alone")?;
    }
    Ok(())
}

fn object_at(mesh: &Mesh, which: &Which, text: &str, out: &mut String) -> Result<bool> {
    let (kind, name) = text
        .split_once('/')
        .with_context(|| format!("{text:?} is not KIND/NAMESPACE/NAME"))?;
    let known = mesh.snapshot().objects().iter().map(|(key, _)| key);
    let key = known
        .filter(|key| key.kind.as_str().eq_ignore_ascii_case(kind))
        .find(|key| key.resource_name() == name)
        .cloned();
    let Some(key) = key else {
        bail!("the mesh has no {kind} {name}");
    };
    let tables = mesh.tables(which)?;
    let found: Vec<_> = tables
        .output
        .resources
        .iter()
        .filter(|r| r.origins.contains(&key))
        .collect();
    writeln!(out, "{}", mesh.shown(&key))?;
    for resource in &found {
        let kind = resource.type_url.rsplit('.').next().unwrap_or_default();
        writeln!(out, "  {kind} {}", resource.name)?;
    }
    let about = |finding: &&config::Finding| finding.object.as_ref() == Some(&key);
    let findings: Vec<_> = tables
        .output
        .findings
        .iter()
        .chain(&mesh.findings)
        .filter(about)
        .collect();
    for finding in &findings {
        writeln!(out, "  {finding}")?;
    }
    if found.is_empty() {
        writeln!(out, "  nothing at this proxy came of it")?;
    }
    Ok(!found.is_empty())
}
