//! `argosy version`: this command's version, and of a cluster those of its services and proxies. Services say theirs in the
//! metric `argosy_build_info`, proxies say it to Pilot.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::proxy_config::dump::text;
use crate::reach::pods::{Member, members};
use crate::reach::{Access, Place, Port, block_on};
use crate::show::columns;

/// What is told of a version that is not known.
const UNKNOWN: &str = "unknown";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ask the services of a cluster too
    #[arg(long)]
    cluster: bool,
    /// One line each for command, services and proxies
    #[arg(long, short)]
    short: bool,
    /// The control plane's namespace
    #[arg(long, value_name = "NAME", default_value = "argosy-system")]
    istio_namespace: String,
    /// Form of the output, if not for people
    #[arg(short, long, value_enum)]
    output: Option<Form>,
    #[command(flatten)]
    access: Access,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Form {
    Json,
    Yaml,
}

/// What a cluster runs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Versions {
    /// Service, pod, version.
    services: Vec<[String; 3]>,
    /// Proxies by version.
    proxies: BTreeMap<String, usize>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let found = match args.cluster {
        true => Some(block_on(ask(args))?),
        false => None,
    };
    let own = env!("CARGO_PKG_VERSION");
    let form = match args.output {
        Some(Form::Json) => crate::show::Form::Json,
        Some(Form::Yaml) => crate::show::Form::Yaml,
        None => crate::show::Form::Table,
    };
    form.print(
        || people(own, found.as_ref(), args.short),
        || programs(own, found.as_ref()),
    )
}

async fn ask(args: &Args) -> Result<Versions> {
    let (client, _) = args.access.client().await?;
    let namespace = &args.istio_namespace;
    let members = members(&client, namespace).await?;
    if members.is_empty() {
        bail!("namespace {namespace} has no running pod of Argosy; see argosy check, or --istio-namespace");
    }
    let mut versions = Versions::default();
    for Member { service, pod, port } in members {
        let place = Place::Pod(Port {
            client: client.clone(),
            namespace: namespace.clone(),
            pod: pod.clone(),
            port,
        });
        let page = match place.get("/metrics").await {
            Ok(page) => page,
            Err(error) => {
                eprintln!("argosy: {error:#}");
                versions.services.push([service, pod, UNKNOWN.to_owned()]);
                continue;
            }
        };
        let version = of_build(&String::from_utf8_lossy(&page))
            .unwrap_or(UNKNOWN)
            .to_owned();
        if service == "pilot" {
            count(&place.json("/debug/syncz").await?, &mut versions.proxies);
        }
        versions.services.push([service, pod, version]);
    }
    Ok(versions)
}

/// The version in a page of metrics.
fn of_build(page: &str) -> Option<&str> {
    let line = page.lines().find(|line| line.starts_with("argosy_build_info{"))?;
    let (_, rest) = line.split_once("version=\"")?;
    Some(rest.split_once('"')?.0)
}

fn count(page: &Value, proxies: &mut BTreeMap<String, usize>) {
    for proxy in crate::proxy_status::read("", page) {
        let version = match text(&proxy.page, "/version") {
            "" => UNKNOWN,
            version => version,
        };
        *proxies.entry(version.to_owned()).or_default() += 1;
    }
}

fn people(own: &str, found: Option<&Versions>, short: bool) -> String {
    let mut text = format!("client version: {own}\n");
    let Some(found) = found else { return text };
    let mut services: BTreeMap<&str, usize> = BTreeMap::new();
    for [_, _, version] in &found.services {
        *services.entry(version).or_default() += 1;
    }
    let counts = |all: Vec<(&str, usize)>, what: &str| -> String {
        let counts: Vec<String> = all
            .iter()
            .map(|(version, count)| format!("{version} ({count} {what})"))
            .collect();
        match counts.is_empty() {
            true => "none".to_owned(),
            false => counts.join(", "),
        }
    };
    let proxies = found
        .proxies
        .iter()
        .map(|(version, count)| (&**version, *count))
        .collect();
    text += &format!(
        "control plane version: {}\n",
        counts(services.into_iter().collect(), "pods")
    );
    text += &format!("data plane version: {}\n", counts(proxies, "proxies"));
    if !short {
        let rows: Vec<Vec<String>> = found.services.iter().map(|row| row.to_vec()).collect();
        text += &format!("\n{}", columns(&["SERVICE", "POD", "VERSION"], &rows));
    }
    text
}

/// With the names that istioctl gives these fields.
fn programs(own: &str, found: Option<&Versions>) -> Value {
    let client = json!({"version": own});
    let Some(found) = found else {
        return json!({"clientVersion": client});
    };
    let service = |[service, pod, version]: &[String; 3]| json!({"Component": service, "Pod": pod, "Info": {"version": version}});
    let proxy = |(version, count): (&String, &usize)| json!({"version": version, "proxies": count});
    json!({
        "clientVersion": client,
        "meshVersion": found.services.iter().map(service).collect::<Vec<_>>(),
        "dataPlaneVersion": found.proxies.iter().map(proxy).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted() {
        let page = "# TYPE argosy_build_info gauge\nargosy_build_info{version=\"0.2.0\"} 1\nother 2\n";
        assert_eq!(of_build(page), Some("0.2.0"));
        assert_eq!(of_build("other{version=\"1\"} 2\n"), None);
        let row = |pod: &str, version: &str| ["pilot", pod, version].map(str::to_owned);
        let mut found = Versions {
            services: vec![row("pilot-1", "0.1.0"), row("pilot-2", "0.2.0")],
            ..Versions::default()
        };
        count(
            &json!({"proxies": [{"proxy": "a", "version": "0.1.0"}, {"proxy": "b", "version": null}, {"proxy": "c", "version": "0.1.0"}]}),
            &mut found.proxies,
        );
        assert_eq!(people("0.2.0", None, false), "client version: 0.2.0\n");
        let text = people("0.2.0", Some(&found), false);
        let expected = "client version: 0.2.0\n\
            control plane version: 0.1.0 (1 pods), 0.2.0 (1 pods)\n\
            data plane version: 0.1.0 (2 proxies), unknown (1 proxies)\n\n\
            SERVICE   POD       VERSION\npilot     pilot-1   0.1.0\npilot     pilot-2   0.2.0\n";
        assert_eq!(text, expected);
        assert_eq!(people("0.2.0", Some(&found), true).lines().count(), 3);
        assert_eq!(
            programs("0.2.0", Some(&found))["meshVersion"][1]["Info"]["version"],
            "0.2.0"
        );
    }
}
