//! `make demo`: a mesh on this machine, until Ctrl-C; with `--once` the scenario, as a table.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use mesh::{Layout, Mesh, Options, Service, Table, scenario};
use testkit::net::Block;
use tokio::signal::unix::{SignalKind, signal};

/// A mesh on this machine: the control plane, a sample application, a real Envoy for each of its instances
#[derive(Parser)]
struct Args {
    /// Drive the scenario and print what was expected and what was seen, then end
    #[arg(long)]
    once: bool,
    /// How the control plane runs; the default is one process, and with --once both
    #[arg(long)]
    layout: Option<Which>,
    /// How many seconds something that ended (try `kill -9`) stays away before it is started again
    #[arg(long, default_value_t = 3, value_name = "SECONDS")]
    revive_after: u64,
    /// Drive this part of the scenario alone; may be given several times
    #[arg(long, requires = "once", value_parser = scenario::PARTS)]
    part: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    OneProcess,
    Separate,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let work = async {
        if args.once {
            Box::pin(once(&args)).await
        } else {
            stay(&args).await
        }
    };
    let result = tokio::select! {
        result = work => result,
        // Dropping the mesh ends its processes.
        () = interrupted() => Ok(true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Shows progress.
fn say(what: &str) {
    eprintln!("     {what}");
}

async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    eprintln!("\nending the mesh");
}

fn layout(which: Which) -> Layout {
    match which {
        Which::OneProcess => Layout::OneProcess,
        Which::Separate => Layout::Separate,
    }
}

/// Drives the scenario in one layout or in both; whether all rows passed.
async fn once(args: &Args) -> anyhow::Result<bool> {
    let layouts = args
        .layout
        .map_or(vec![Layout::OneProcess, Layout::Separate], |which| {
            vec![layout(which)]
        });
    let parts: Vec<&str> = match args.part.as_slice() {
        [] => scenario::PARTS.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let mut tables = Vec::new();
    for layout in layouts {
        let mut table = Table::new(format!("The control plane as {layout}"));
        let mut mesh = Mesh::start(scenario::options(layout), Block::take()?, say).await?;
        scenario::drive(&mut mesh, &mut table, &parts).await;
        tables.push(table);
    }
    for table in &tables {
        println!("{}", table.render());
    }
    Ok(tables.iter().all(|table| table.failed().is_empty()))
}

/// Keeps a mesh up until the process is interrupted.
async fn stay(args: &Args) -> anyhow::Result<bool> {
    // The addresses of the documentation, if nobody else has them.
    let block = Block::try_take(1, 0)?.map_or_else(Block::take, Ok)?;
    let layout = layout(args.layout.unwrap_or(Which::OneProcess));
    let mut mesh = Mesh::start(
        Options {
            layout,
            leaf_ttl: "24h",
            removal_delay: "60s",
            kubeconfig: None,
        },
        block,
        say,
    )
    .await?;
    println!("{}", guide(&mesh));
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let ended = mesh.ended();
        if ended.is_empty() {
            continue;
        }
        eprintln!("ended: {}", ended.join("\n"));
        eprintln!("started again in {} s", args.revive_after);
        tokio::time::sleep(Duration::from_secs(args.revive_after)).await;
        mesh.revive()?;
    }
}

/// What runs where, and what to try.
fn guide(mesh: &Mesh) -> String {
    let at = &mesh.control.addresses;
    let admin = |service| at.admin(service);
    let workloads: String = mesh
        .workloads()
        .map(|workload| {
            let entry = &workload.entry;
            let app = entry
                .app
                .as_ref()
                .map_or(String::new(), |_| format!(", application {}", workload.app_url()));
            format!(
                "  {}/{}: {}, Envoy's admin http://{}:15000{app}\n",
                entry.namespace, entry.name, entry.address, entry.address
            )
        })
        .collect();
    let folder = mesh.folder.path().display();
    let ingress = mesh.ingress_url("");
    let frontend = mesh.block.addr(10, 18080);
    format!(
        "\nThe mesh is up; Ctrl-C ends it. Its configuration: {folder}\n\
         \n\
         Control plane ({layout}):\n  \
         Galley feed {}, Pilot ADS {} (plaintext for tools: {}), Citadel {}, Mixer {}\n  \
         admin pages: Galley http://{}/debug/config  Pilot http://{}/debug/syncz  Citadel http://{}/metrics  Mixer http://{}/metrics\n  \
         Mixer's Prometheus adapter: http://{}/metrics\n\
         \n\
         Workloads:\n{workloads}\n\
         Try:\n  \
         curl -H 'Host: shop.example.com' {ingress}/catalog\n  \
         curl '{frontend_url}/call?host=catalog&count=20'                         # 90 % v1, 10 % v2\n  \
         curl '{frontend_url}/call?host=catalog&header=x-preview:true'            # v3\n  \
         curl '{frontend_url}/call?host=catalog&header=x-user:mallory'            # denied by Mixer\n  \
         curl '{frontend_url}/call?host=catalog&path=/limited&header=x-user:you&count=8'   # a quota of five\n  \
         curl '{frontend_url}/call?host=orders'                                   # allowed; from catalog it is not\n  \
         curl '{frontend_url}/call?host=stock:7090&grpc=true'                     # gRPC\n  \
         edit {folder}/traffic.yaml and ask again\n",
        at.galley,
        at.pilot,
        at.xds_plaintext,
        at.citadel,
        at.mixer,
        admin(Service::Galley),
        admin(Service::Pilot),
        admin(Service::Citadel),
        admin(Service::Mixer),
        at.prometheus,
        layout = mesh.control.layout,
        frontend_url = format_args!("http://{frontend}"),
    )
}
