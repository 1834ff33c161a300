//! What is compared: listeners of one proxy, each with what Pilot makes of other rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::envoy::Envoy;
use super::generated::{self, Inbound, is_mixer};
use super::load::{self, Seen};
use super::rules::{self, CATALOG};

/// One of them.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) at: SocketAddr,
    /// The cluster that is asked about each request.
    asked: Option<String>,
    /// The variant that does the same and asks a server without any work, by its number.
    pub(super) floor: usize,
}

/// Where things are.
#[derive(Debug)]
pub(super) struct Places<'a> {
    /// Ports of the proxy's listeners, one for each variant, and one that reports.
    pub(super) ports: &'a [u16],
    pub(super) application: SocketAddr,
    pub(super) mixer: SocketAddr,
    pub(super) yes: SocketAddr,
    pub(super) recorder: SocketAddr,
    pub(super) folder: &'a Path,
}

/// How many ports [`all`] needs.
pub(super) const PORTS: usize = 7;

/// The variants, the listener of each, and at last the one whose requests are reported.
pub(super) fn all(places: &Places<'_>, checks: usize) -> anyhow::Result<(Vec<Variant>, Vec<Inbound>)> {
    let checks = rules::checks(checks);
    let (yes, mixer) = (Some(places.yes), Some(places.mixer));
    let wanted = [
        ("Envoy alone", "", None, 0),
        ("a compiled rule", rules::COMPILED, None, 0),
        ("checks: always yes", &checks, yes, 2),
        ("checks: Mixer", &checks, mixer, 2),
        ("quotas: always yes", rules::QUOTA, yes, 4),
        ("quotas: Mixer", rules::QUOTA, mixer, 4),
        ("reports", rules::METRIC, Some(places.recorder), 0),
    ];
    let mesh = rules::mesh(places.ports, places.application.port());
    let mut variants = Vec::new();
    let mut listeners = Vec::new();
    for ((name, own, server, floor), port) in wanted.into_iter().zip(places.ports) {
        let yaml = format!("{mesh}{own}");
        // Mixer is known to all: whether it is asked the rules say.
        let address = server.or(mixer);
        let inbound = generated::inbound(&yaml, *port, address, places.folder)?;
        let asked: Vec<&String> = inbound
            .clusters
            .iter()
            .map(|c| &c.name)
            .filter(|n| is_mixer(n))
            .collect();
        anyhow::ensure!(
            asked.len() == usize::from(server.is_some()),
            "{name} is to ask {server:?}, and Pilot makes {asked:?}"
        );
        variants.push(Variant {
            name,
            at: SocketAddr::new(CATALOG.1.parse()?, *port),
            asked: asked.first().map(|name| (*name).clone()),
            floor,
        });
        listeners.push(inbound);
    }
    Ok((variants, listeners))
}

impl Variant {
    /// Whether each request is asked about.
    pub(super) fn asks(&self) -> bool {
        self.asked.is_some()
    }

    /// Measures for so many seconds. Each request must have been one call to the server that it is about, and no call to any other.
    pub(super) async fn measure(&self, proxy: &Envoy, rate: u32, seconds: u64) -> anyhow::Result<Seen> {
        let before = proxy.calls()?;
        let seen = load::measure(self.at, rate, seconds).await?;
        let calls: BTreeMap<String, u64> = proxy
            .calls()?
            .into_iter()
            .map(|(name, calls)| (name.clone(), calls - before.get(&name).unwrap_or(&0)))
            .filter(|(_, calls)| *calls > 0)
            .collect();
        let expected = self.asked.iter().map(|name| (name.clone(), seen.count as u64));
        anyhow::ensure!(
            calls == expected.collect(),
            "{}: {calls:?} calls for {} requests",
            self.name,
            seen.count
        );
        Ok(seen)
    }
}
