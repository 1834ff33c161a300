//! `bench`: how fast Argosy is and how much it needs, as ratios to what the machine can do at all. It measures release
//! builds from outside, by what simulated proxies receive and what Linux counts for the server's process.

mod ads;
mod board;
mod curves;
mod feed;
mod floor;
mod folder;
mod galley;
mod mixer;
mod pods;
mod process;
mod proxy;
mod server;
mod sight;
mod svg;
mod webhook;

use clap::{Parser, Subcommand};

/// Measures Argosy
#[derive(Parser)]
#[command(name = "bench", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ads(ads::Args),
    Curves(curves::Args),
    Feed(feed::Args),
    Mixer(mixer::Args),
    Pods(pods::Args),
    Webhook(webhook::Args),
    #[command(hide = true)]
    FloorServer(floor::Args),
    #[command(hide = true)]
    GalleyServer(galley::Args),
    #[command(hide = true)]
    MixerServer(mixer::server::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Ads(args) => ads::run(args).await,
        Command::Curves(args) => curves::run(args).await,
        Command::Feed(args) => feed::run(&args).await,
        Command::Mixer(args) => mixer::run(&args).await,
        Command::Pods(args) => pods::run(&args).await,
        Command::MixerServer(args) => mixer::server::serve(args).await,
        Command::Webhook(args) => webhook::run(&args).await,
        Command::GalleyServer(args) => galley::serve(args).await,
        Command::FloorServer(args) => floor::run(args).await,
    }
}
