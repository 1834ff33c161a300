//! What became of an object: how many proxies have it, what is wrong with it. Collected from Pilots, written into the
//! object's `.status` by one Galley of several.
//!
//! It does not decide what is wrong (that is `config` and `analysis`) nor what proxies need (that is Pilot).

pub mod compiled;
pub mod election;
pub mod lease;
mod owner;
mod pace;
pub mod plan;
pub mod progress;
pub mod queue;
pub mod reports;
pub mod subjects;
pub mod wanted;
pub mod writer;

use kube::Client;
use runtime::Context;
use runtime::spiffe::SYSTEM_NAMESPACE;
use tokio::sync::watch;

use self::lease::{Candidate, Leader};

/// Name of the Lease by which Galleys choose their leader.
const LEASE: &str = "argosy-galley-leader";
/// Requests a second for statuses, unless told otherwise.
const RATE: u32 = 100;

/// How this Galley stands among others.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Address at which Pilots reach this very Galley, and not another one of several; where none is given, each Galley keeps
    /// what it is told to itself
    #[arg(long, env = "ARGOSY_ADVERTISE_ADDRESS", value_name = "HOST:PORT")]
    pub advertise_address: Option<String>,
    /// This replica's name in the election of a leader
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "galley")]
    pub pod_name: String,
    /// Namespace of the Lease by which a leader is elected
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = SYSTEM_NAMESPACE)]
    pub pod_namespace: String,
    /// Most requests a second to the API server for the objects' status, at most 1000; a status takes two. As many as in two
    /// seconds may be sent at once after a rest
    #[arg(
        long,
        env = "ARGOSY_STATUS_RATE",
        value_name = "REQUESTS",
        default_value_t = RATE,
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    pub status_rate: u32,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            advertise_address: None,
            pod_name: "galley".to_owned(),
            pod_namespace: SYSTEM_NAMESPACE.to_owned(),
            status_rate: RATE,
        }
    }
}

/// Takes part in the election until the context's shutdown; the task ends when the Lease is given back. Without a cluster
/// there is nothing to be written twice, and every Galley leads.
#[must_use]
pub fn elect(
    args: &Args,
    client: Option<Client>,
    context: &Context,
) -> (watch::Receiver<Leader>, Option<tokio::task::JoinHandle<()>>) {
    let Some(client) = client else {
        let leader = Leader {
            is_me: true,
            address: None,
        };
        return (watch::channel(leader).1, None);
    };
    let (sender, receiver) = watch::channel(Leader::default());
    let candidate = Candidate {
        // A Pod's name may come again; this process does not.
        name: format!("{}_{:016x}", args.pod_name, rand::random::<u64>()),
        address: args.advertise_address.clone(),
        namespace: args.pod_namespace.clone(),
        lease: LEASE.to_owned(),
    };
    let running = lease::run(client, candidate, sender, context.shutdown.clone());
    (receiver, Some(tokio::spawn(running)))
}
