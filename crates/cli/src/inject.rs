//! `argosy inject`: gives the pods of manifests their proxy without a cluster's webhook, for `kubectl apply -f -`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use injector::documents::{Outcome, inject_object};
use injector::webhook::args::FileArgs;
use injector::webhook::files;
use serde_json::Value;

/// Flags of `argosy inject`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Manifests, YAML or JSON; `-` reads standard input
    #[arg(required = true, long = "filename", short = 'f', value_name = "FILE")]
    filenames: Vec<PathBuf>,
    /// Namespace of objects that name none
    #[arg(long, short, default_value = "default", value_name = "NAME")]
    namespace: String,
    /// What the webhook's files say.
    #[command(flatten)]
    files: FileArgs,
}

/// Prints all objects, those with pods injected. What stays without a proxy is told on standard error.
///
/// # Errors
/// A file cannot be read, or one of its pods cannot have a proxy. Nothing is printed then.
pub(crate) fn run(args: &Args) -> Result<()> {
    let settings = files::load(&args.files)?;
    let mut output = String::new();
    for file in &args.filenames {
        let named = || file.display().to_string();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text(file)?).with_context(named)?;
        for mut object in objects.into_iter().filter(|object| !object.is_null()) {
            let outcomes = inject_object(&mut object, &args.namespace, &settings).with_context(named)?;
            tell(&object, &outcomes);
            output.push_str("---\n");
            output.push_str(&serde_saphyr::to_string(&object).context("writing YAML")?);
        }
    }
    crate::output::print(&output)
}

fn text(file: &Path) -> Result<String> {
    let bytes = crate::validate::bytes(file).with_context(|| file.display().to_string())?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => bail!("{}: not UTF-8 text", file.display()),
    }
}

fn tell(object: &Value, outcomes: &[Outcome]) {
    let part = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    for outcome in outcomes {
        if let Outcome::Skipped(reason) = outcome {
            eprintln!("{} {}: no proxy: {reason}", part("/kind"), part("/metadata/name"));
        }
    }
}
