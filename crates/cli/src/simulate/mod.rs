//! `argosy simulate`: what a request or a connection would meet at a proxy, step by step, with the objects behind each step.
//!
//! It generates what Pilot would, from a folder; nothing is running and nothing is sent.

mod request;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use config::ObjectKey;
use serde_json::{Value, json};
use simulate::{Refusal, Resources, Step, Verdict};

use crate::offline::{Mesh, Tables, Which};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of configuration
    #[arg(long, value_name = "DIR")]
    config: PathBuf,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    request: request::Request,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Exit status 0: the request is routed, redirected or answered. 1: it is refused or reaches nobody. 2: the question makes
/// no sense.
pub(crate) fn run(args: &Args) -> ExitCode {
    match answer(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("argosy: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn answer(args: &Args) -> Result<bool> {
    let mesh = Mesh::read(&args.config)?;
    let tables = mesh.tables(&args.which)?;
    let call = args.request.call(&mesh, &tables)?;
    let mut resources = served(&tables)?;
    let mut verdict = resources.walk(&call);
    let asked = with_aside(&tables, &mut resources)?.walk(&call);
    if asked.error == Some(Refusal::MultipleFilterChain) {
        // What Envoy really does stands in the steps before the refusal.
        verdict.error = asked.error;
        verdict
            .steps
            .extend(asked.steps.into_iter().filter(|step| step.what == "refusal"));
    }
    let text = match args.output {
        Output::Json => format!("{:#}\n", document(&mesh, &tables, &verdict)?),
        Output::Text => text(&mesh, &tables, &verdict)?,
    };
    crate::output::print(&text)?;
    Ok(verdict.error.is_none() && verdict.unavailable.is_none())
}

/// What Envoy gets.
fn served(tables: &Tables) -> Result<Resources> {
    let mut resources = Resources::default();
    for resource in &tables.output.resources {
        resources.add(resource.type_url, &resource.bytes)?;
    }
    Ok(resources)
}

/// And what is asked for beside it.
fn with_aside<'r>(tables: &Tables, resources: &'r mut Resources) -> Result<&'r Resources> {
    for aside in &tables.output.set_aside {
        resources.set_aside(&aside.listener, &aside.chain)?;
    }
    Ok(resources)
}

/// The objects behind a step.
fn behind<'t>(tables: &'t Tables, step: &Step) -> &'t [ObjectKey] {
    step.resource
        .as_ref()
        .map(|r| tables.origins(r.type_url, &r.name))
        .unwrap_or_default()
}

/// Objects are shown where the resource changes, and at most this many of one.
const SHOWN: usize = 8;

fn text(mesh: &Mesh, tables: &Tables, verdict: &Verdict) -> Result<String> {
    let mut out = String::new();
    let mut last = None;
    for step in &verdict.steps {
        writeln!(out, "{:<18} {}", step.what, step.text)?;
        if step.resource.is_some() && step.resource != last {
            let objects = behind(tables, step);
            for key in objects.iter().take(SHOWN) {
                writeln!(out, "{:<18}   from {}", "", mesh.shown(key))?;
            }
            if let Some(more) = objects.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                writeln!(out, "{:<18}   and {more} more; argosy explain lists them", "")?;
            }
            last.clone_from(&step.resource);
        }
    }
    writeln!(out, "{:<18} {}", "result", summary(verdict))?;
    Ok(out)
}

fn summary(verdict: &Verdict) -> String {
    let status = verdict
        .status
        .map(|status| format!(" ({status})"))
        .unwrap_or_default();
    match (
        &verdict.error,
        &verdict.unavailable,
        &verdict.location,
        &verdict.cluster,
    ) {
        (Some(error), ..) => format!("refused: {error}{status}"),
        (_, Some(reason), ..) => format!("reaches nobody: {reason:?}{status}"),
        (.., Some(location), _) => format!("redirected to {location}{status}"),
        (.., Some(cluster)) => format!("cluster {cluster}"),
        _ if !verdict.clusters.is_empty() => {
            let all = verdict
                .clusters
                .iter()
                .map(|(name, weight)| format!("{name} ({weight})"));
            format!("one of {}", all.collect::<Vec<_>>().join(", "))
        }
        _ => format!("answered by the proxy{status}"),
    }
}

fn document(mesh: &Mesh, tables: &Tables, verdict: &Verdict) -> Result<Value> {
    let mut document = serde_json::to_value(verdict)?;
    let steps = document
        .get_mut("steps")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten();
    for (shown, step) in steps.zip(&verdict.steps) {
        let objects: Vec<Value> = behind(tables, step).iter().map(|key| object(mesh, key)).collect();
        if let (Some(shown), false) = (shown.as_object_mut(), objects.is_empty()) {
            shown.insert("objects".to_owned(), Value::Array(objects));
        }
    }
    Ok(document)
}

fn object(mesh: &Mesh, key: &ObjectKey) -> Value {
    let generation = mesh
        .snapshot()
        .objects()
        .get(key)
        .map(|object| object.meta.generation);
    json!({ "kind": key.kind.as_str(), "namespace": key.namespace, "name": key.name, "generation": generation })
}
