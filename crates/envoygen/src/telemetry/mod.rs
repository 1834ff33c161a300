//! The Telemetry API: what a workload's proxy logs, measures and traces, from the Telemetry objects that are for it and the mesh's
//! providers. [`resolve`] says what is asked for, the modules beside it make Envoy's configuration of it.

pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod provider;
mod resolve;
mod tracing;

use std::sync::Arc;

use config::telemetry::Telemetry as Spec;
use config::{Finding, ObjectKey};
use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use model::{Service, Snapshot};

use self::metrics::{Peer, Reporter};
use self::provider::Providers;
pub(crate) use self::tracing::{Traced, request_ids};
use crate::access_log;
use crate::generator::Generator;

/// Which side of a connection a proxy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that sends.
    Client,
    /// The one that answers.
    Server,
}

/// What is asked of a workload's proxy.
pub(crate) struct Telemetry<'a> {
    generator: &'a Generator,
    specs: Vec<&'a Spec>,
    providers: Providers<'a>,
    /// The objects behind it.
    pub(crate) origins: Vec<ObjectKey>,
}

impl<'a> Telemetry<'a> {
    pub(crate) fn new(generator: &'a Generator, keys: &[ObjectKey], namespace: &'a str) -> Telemetry<'a> {
        let snapshot: &'a Snapshot = &generator.snapshot;
        let spec = |key: &ObjectKey| match &snapshot.objects().get(key)?.spec {
            config::Spec::Telemetry(spec) => Some(&**spec),
            _ => None,
        };
        Telemetry {
            generator,
            specs: keys.iter().filter_map(spec).collect(),
            providers: Providers { snapshot, namespace },
            origins: keys.to_vec(),
        }
    }

    /// The services that its providers are, which the proxy must reach whatever its Sidecar says.
    pub(crate) fn services(&self) -> Vec<Arc<Service>> {
        let mesh = self.generator.snapshot.mesh();
        let mut names: Vec<&str> = Vec::new();
        for side in [Side::Client, Side::Server] {
            names.extend(
                resolve::logs(&self.specs, mesh, side)
                    .iter()
                    .flatten()
                    .map(|log| log.provider),
            );
            names.extend(resolve::tracing(&self.specs, mesh, side).and_then(|tracing| tracing.provider));
        }
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .filter_map(|name| self.providers.service_of(name))
            .collect()
    }

    /// Where requests are logged and counted. `peer` says what is known of the other side.
    pub(crate) fn http_logs(&self, side: Side, peer: Peer, findings: &mut Vec<Finding>) -> Vec<AccessLog> {
        let mut out = self.logs(side, false, findings);
        out.extend(
            self.metrics(side, findings)
                .and_then(|m| metrics::http(&m, reporter(side), peer)),
        );
        out
    }

    /// Where connections are logged and counted.
    pub(crate) fn tcp_logs(&self, side: Side, peer: Peer, findings: &mut Vec<Finding>) -> Vec<AccessLog> {
        let mut out = self.logs(side, true, findings);
        if let Some(metrics) = self.metrics(side, findings) {
            out.extend(metrics::tcp(&metrics, reporter(side), peer));
        }
        out
    }

    /// Says what cannot be logged, counted or traced.
    pub(crate) fn check(&self, side: Side, tcp: bool, findings: &mut Vec<Finding>) {
        if tcp {
            self.tcp_logs(side, Peer::Plain, findings);
        } else {
            self.http_logs(side, Peer::Plain, findings);
            self.tracing(side, "", false, findings);
        }
    }

    fn metrics(&self, side: Side, findings: &mut Vec<Finding>) -> Option<resolve::Metrics> {
        let mesh = self.generator.snapshot.mesh();
        let (metrics, unserved) = resolve::metrics(&self.specs, mesh, side);
        let said = unserved
            .iter()
            .map(|name| self.finding(format!("{name:?} is no provider of metrics here; use prometheus")));
        findings.extend(said);
        metrics
    }

    fn logs(&self, side: Side, tcp: bool, findings: &mut Vec<Finding>) -> Vec<AccessLog> {
        let mesh = self.generator.snapshot.mesh();
        let Some(asked) = resolve::logs(&self.specs, mesh, side) else {
            return access_log::file(mesh).into_iter().collect();
        };
        let mut out = Vec::new();
        for log in asked {
            match logs::log(&self.providers, &log, tcp) {
                Ok(made) => out.extend(made),
                Err(reason) => findings.push(self.finding(reason)),
            }
        }
        out
    }

    /// How requests are traced.
    pub(crate) fn tracing(
        &self,
        side: Side,
        traced_as: &str,
        router: bool,
        findings: &mut Vec<Finding>,
    ) -> Option<Traced> {
        let mesh = self.generator.snapshot.mesh();
        let asked = resolve::tracing(&self.specs, mesh, side)?;
        match tracing::build(&self.providers, &asked, traced_as, router) {
            Ok(made) => made,
            Err(reason) => {
                findings.push(self.finding(reason));
                None
            }
        }
    }

    fn finding(&self, reason: String) -> Finding {
        let finding = Finding::warning(reason);
        match self.origins.last() {
            Some(key) => finding.of(key.clone()),
            None => finding,
        }
    }
}

fn reporter(side: Side) -> Reporter {
    match side {
        Side::Client => Reporter::Source,
        Side::Server => Reporter::Destination,
    }
}

/// Tracing of a connection manager.
pub(crate) type HcmTracing = Tracing;
