//! `argosy proxy-config`: what an Envoy has, from its own page, of a pod, of an address or from a file. The tables are
//! `istioctl proxy-config`'s, so that habits and scripts go on working; JSON and YAML are Envoy's own messages.

mod bootstrap;
mod clusters;
pub(crate) mod dump;
mod endpoints;
mod listeners;
mod routes;
mod secrets;
mod source;

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::Value;
use x509_parser::time::ASN1Time;

use crate::show::{Form, columns};
use dump::{Dump, Entry};
pub(crate) use source::Source;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Everything
    #[command(visible_alias = "a")]
    All(One<NoFilter>),
    /// Clusters: where requests can go
    #[command(visible_alias = "c", aliases = ["clusters", "cds"])]
    Cluster(One<clusters::Filter>),
    /// Listeners: where connections come in, and which chain takes which
    #[command(visible_alias = "l", aliases = ["listeners", "lds"])]
    Listener(One<listeners::Filter>),
    /// Routes: which requests go to which cluster
    #[command(visible_alias = "r", aliases = ["routes", "rds"])]
    Route(One<Name>),
    /// Endpoints of clusters, with their health
    #[command(visible_aliases = ["ep", "e"], aliases = ["endpoints", "eds"])]
    Endpoint(One<endpoints::Filter>),
    /// Certificates and roots, without keys
    #[command(visible_alias = "s", aliases = ["secrets", "sds"])]
    Secret(One<Name>),
    /// What Envoy started with, and who it says it is
    #[command(visible_alias = "b")]
    Bootstrap(One<NoFilter>),
}

/// What one subcommand takes.
#[derive(clap::Args)]
struct One<F: clap::Args> {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    filter: F,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(clap::Args)]
#[group(skip)]
struct NoFilter {}

#[derive(clap::Args, Clone, Default)]
#[group(skip)]
pub(crate) struct Name {
    /// Only those of this name
    #[arg(long)]
    name: Option<String>,
}

impl Name {
    fn wants(&self, entry: &Entry) -> bool {
        self.name.as_ref().is_none_or(|name| *name == entry.name)
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        What::All(one) => all(one),
        What::Cluster(one) => {
            let (dump, _) = one.source.read(false)?;
            one.show(
                &clusters::HEAD,
                &dump.clusters,
                |e| one.filter.wants(e),
                |e| vec![clusters::row(e)],
            )
        }
        What::Listener(one) => {
            let (dump, _) = one.source.read(false)?;
            one.show(
                &listeners::HEAD,
                &dump.listeners,
                |e| one.filter.wants(e),
                listeners::rows,
            )
        }
        What::Route(one) => {
            let (dump, _) = one.source.read(false)?;
            one.show(&routes::HEAD, &dump.routes, |e| one.filter.wants(e), routes::rows)
        }
        What::Endpoint(one) => {
            let (dump, page) = one.source.read(true)?;
            let ejected = page.as_ref().map(endpoints::ejected);
            let rows = |entry: &Entry| endpoints::rows(entry, &one.filter, ejected.as_ref());
            one.show(
                &endpoints::HEAD,
                &dump.endpoints,
                |e| one.filter.wants_some(e),
                rows,
            )
        }
        What::Secret(one) => {
            let (dump, _) = one.source.read(false)?;
            let now = ASN1Time::now();
            one.show(
                &secrets::HEAD,
                &dump.secrets,
                |e| one.filter.wants(e),
                |e| secrets::rows(e, now),
            )
        }
        What::Bootstrap(one) => {
            let (dump, _) = one.source.read(false)?;
            let table = || columns(&bootstrap::HEAD, &bootstrap::rows(&dump.bootstrap));
            one.output.print(table, || dump.bootstrap.clone())
        }
    }
}

impl<F: clap::Args> One<F> {
    /// Prints the wanted entries. That there is none is told beside the output, which stays well-formed.
    fn show(
        &self,
        head: &[&str],
        entries: &[Entry],
        wants: impl Fn(&Entry) -> bool,
        rows: impl Fn(&Entry) -> Vec<Vec<String>>,
    ) -> Result<()> {
        let wanted: Vec<&Entry> = entries.iter().filter(|entry| wants(entry)).collect();
        if wanted.is_empty() {
            eprintln!(
                "argosy: none of the {} that the proxy has is meant",
                entries.len()
            );
        }
        let table = || {
            columns(
                head,
                &wanted.iter().flat_map(|entry| rows(entry)).collect::<Vec<_>>(),
            )
        };
        let whole = || wanted.iter().map(|entry| entry.config.clone()).collect::<Value>();
        self.output.print(table, whole)
    }
}

/// The tables one below the other; as JSON and YAML, Envoy's page as it is.
fn all(one: &One<NoFilter>) -> Result<()> {
    let page = one.source.page()?;
    let dump = Dump::read(&page).context("this is not an Envoy's configuration")?;
    let now = ASN1Time::now();
    let filter = endpoints::Filter::default();
    let of = |entries: &[Entry], rows: &dyn Fn(&Entry) -> Vec<Vec<String>>| -> Vec<Vec<String>> {
        entries.iter().flat_map(rows).collect()
    };
    let tables = || {
        [
            columns(&clusters::HEAD, &of(&dump.clusters, &|e| vec![clusters::row(e)])),
            columns(&listeners::HEAD, &of(&dump.listeners, &listeners::rows)),
            columns(&routes::HEAD, &of(&dump.routes, &routes::rows)),
            columns(
                &endpoints::HEAD,
                &of(&dump.endpoints, &|e| endpoints::rows(e, &filter, None)),
            ),
            columns(&secrets::HEAD, &of(&dump.secrets, &|e| secrets::rows(e, now))),
        ]
        .join("\n")
    };
    one.output.print(tables, || page.clone())
}

#[cfg(test)]
mod tests;
