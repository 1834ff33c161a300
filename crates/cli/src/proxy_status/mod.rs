//! `argosy proxy-status`: how far each proxy has come, from all Pilots' pages `/debug/syncz`; and for one proxy, what its Envoy
//! has other than Pilot wants it to.

mod difference;
mod rows;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use http::uri::Authority;
use serde_json::Value;

use crate::proxy_config::Source;
use crate::reach::pods::members;
use crate::reach::{Access, Place, Port, block_on};
use crate::show::{Form, columns};
use rows::Proxy;
pub(crate) use rows::read;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Compare what this proxy's Envoy has with what Pilot wants it to have: [KIND/]NAME[.NAMESPACE]
    #[arg(value_name = "POD")]
    proxy: Option<String>,
    /// Pilot's admin server, instead of all Pilots of a cluster; may be repeated
    #[arg(long = "admin-address", value_name = "HOST:PORT")]
    pilots: Vec<Authority>,
    /// The control plane's namespace
    #[arg(long, value_name = "NAME", default_value = "argosy-system")]
    istio_namespace: String,
    /// Only proxies of this namespace; with POD, the pod's
    #[arg(long, short)]
    namespace: Option<String>,
    /// With POD: the admin server of its Envoy, instead of the pod's
    #[arg(long, value_name = "HOST:PORT", requires = "proxy")]
    proxy_admin_address: Option<Authority>,
    /// With POD: port of Envoy's admin server in the pod
    #[arg(long, value_name = "PORT", default_value_t = 15000)]
    proxy_admin_port: u16,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Form::Table)]
    output: Form,
    #[command(flatten)]
    access: Access,
}

/// Exit status 0: all were asked. 1: the proxy differs, or one of several Pilots did not answer. 2: there is no answer.
pub(crate) fn run(args: &Args) -> ExitCode {
    let done = match &args.proxy {
        Some(proxy) => block_on(compare(args, proxy)),
        None => block_on(list(args)),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("argosy: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The Pilots, by name.
async fn pilots(args: &Args) -> Result<Vec<(String, Place)>> {
    if !args.pilots.is_empty() {
        let named = |at: &Authority| (at.to_string(), Place::Address(at.clone()));
        return Ok(args.pilots.iter().map(named).collect());
    }
    let (client, _) = args.access.client().await?;
    let namespace = &args.istio_namespace;
    let members = members(&client, namespace).await?;
    let pilots = members.into_iter().filter(|member| member.service == "pilot");
    let place = |pod: &str, port| {
        Place::Pod(Port {
            client: client.clone(),
            namespace: namespace.clone(),
            pod: pod.to_owned(),
            port,
        })
    };
    let pilots: Vec<_> = pilots
        .map(|one| (one.pod.clone(), place(&one.pod, one.port)))
        .collect();
    if pilots.is_empty() {
        bail!("namespace {namespace} has no running pod of Pilot; see argosy check, or --istio-namespace");
    }
    Ok(pilots)
}

/// What all Pilots say, and whether all said something.
async fn ask(pilots: &[(String, Place)]) -> Result<(Vec<Proxy>, bool)> {
    let (mut proxies, mut failed) = (Vec::new(), Vec::new());
    for (name, place) in pilots {
        match place.json("/debug/syncz").await {
            Ok(page) => proxies.extend(rows::read(name, &page)),
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    if failed.len() == pilots.len() {
        bail!("no Pilot answered: {}", failed.join("; "));
    }
    for failure in &failed {
        eprintln!("argosy: {failure}");
    }
    proxies.sort_by(|a, b| (&a.name, &a.pilot).cmp(&(&b.name, &b.pilot)));
    Ok((proxies, failed.is_empty()))
}

async fn list(args: &Args) -> Result<bool> {
    let (mut proxies, whole) = ask(&pilots(args).await?).await?;
    if let Some(namespace) = &args.namespace {
        proxies.retain(|proxy| proxy.namespace() == namespace);
    }
    let table = || {
        columns(&rows::HEAD, &proxies.iter().map(rows::row).collect::<Vec<_>>()) + &rows::troubles(&proxies)
    };
    args.output
        .print(table, || proxies.iter().map(|proxy| proxy.page.clone()).collect())?;
    Ok(whole)
}

async fn compare(args: &Args, asked: &str) -> Result<bool> {
    let pilots = pilots(args).await?;
    let (name, envoy) = envoy(args, asked).await?;
    let (proxies, _) = ask(&pilots).await?;
    let known = proxies.iter().find(|proxy| proxy.name == name);
    let known =
        known.with_context(|| format!("no Pilot serves a proxy {name:?}; argosy proxy-status lists them"))?;
    let pilot = pilots.iter().find(|(pilot, _)| *pilot == known.pilot);
    let (_, pilot) = pilot.context("that Pilot is gone")?;
    let wanted: Value = pilot.json(&format!("/debug/resources?proxy={name}")).await?;
    let dump = envoy.json("/config_dump?include_eds").await?;
    let dump =
        crate::proxy_config::dump::Dump::read(&dump).context("this is not an Envoy's configuration")?;
    let found = difference::between(&wanted, &dump);
    args.output
        .print(|| difference::text_of(&found), || difference::json(&found))?;
    Ok(found.iter().all(|kind| kind.differences.is_empty()))
}

/// The proxy's name as Pilot knows it, and where its Envoy is.
async fn envoy(args: &Args, asked: &str) -> Result<(String, Place)> {
    if let Some(address) = &args.proxy_admin_address {
        return Ok((asked.to_owned(), Place::Address(address.clone())));
    }
    let source = Source::pod(
        asked.parse()?,
        args.namespace.clone(),
        args.proxy_admin_port,
        args.access.clone(),
    );
    let place = source.place().await?;
    let Place::Pod(at) = &place else {
        bail!("{place} is not a pod");
    };
    Ok((format!("{}.{}", at.pod, at.namespace), place))
}
