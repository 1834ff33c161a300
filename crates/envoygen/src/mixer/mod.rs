//! Mixer's rules in a proxy: what it refuses (RBAC) and which headers it changes by itself, and calls to Mixer, which are checks (ext_authz), quotas (rate
//! limit service) and reports (access log service). Which of them a workload needs at which port `policy` says; here it becomes
//! Envoy's configuration.

mod address;
mod bucket;
mod check;
mod ended;
mod enforcement;
mod expression;
mod gateway;
mod headers;
mod marks;
mod matcher;
mod native;
mod quota;
mod removal;
mod report;

use std::collections::BTreeMap;
use std::time::Duration;

use config::Finding;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::{
    BackoffStrategy, GrpcService, HeaderValue, RetryPolicy,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use model::Identity;
use policy::Requirements;

use crate::generator::Generator;
use crate::wire::{duration, u32_value};

pub(crate) use bucket::{filters as buckets, reply as used_up};
pub(crate) use check::{http_filters as checks, network_filters as tcp_checks};
pub(crate) use ended::logs as ended;
pub use enforcement::Enforcement;
pub(crate) use gateway::Sent;
pub(crate) use headers::{capture, change};
pub(crate) use native::{http_filter as refusals, joined, network_filter as tcp_refusals, replies};
pub(crate) use quota::{filters as quotas, rate_limits};
pub(crate) use report::{http_log, tcp_log};

/// Longest wait for Mixer's answer, retries included; then the request is refused.
const DEADLINE: Duration = Duration::from_secs(5);
/// The same of rules that let requests pass then: a service behind them must not be slow while Mixer is away.
const DEADLINE_OPEN: Duration = Duration::from_millis(500);

/// Take the subset's place in the names of Mixer's clusters. Mixer's Service has a cluster of its own, without mutual TLS, in each
/// proxy; were the names the same, connections that go on asking after the last rule has gone would find that one.
const CHECK: &str = "argosy.check";
const REPORT: &str = "argosy.report";

/// Longest wait for one try's answer, where there is time for several.
const TRY: Duration = Duration::from_millis(1_500);

/// What a workload's proxy does for Mixer's rules, for HTTP and for TCP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Asks {
    /// For HTTP and gRPC, at ports that are not below.
    pub http: Requirements,
    /// For other connections, at ports that are not below.
    pub tcp: Requirements,
    /// At ports of the workload's services that need something else.
    pub ports: BTreeMap<u16, PortAsks>,
    /// Whether policies hold here; where they do not, the above has none.
    pub enforcement: Enforcement,
}

/// What a workload's proxy does for Mixer's rules at one port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PortAsks {
    /// For HTTP and gRPC.
    pub http: Requirements,
    /// For other connections.
    pub tcp: Requirements,
}

impl Asks {
    /// What is asked for requests to a port.
    pub(crate) fn http_at(&self, port: u16) -> &Requirements {
        self.ports.get(&port).map_or(&self.http, |own| &own.http)
    }

    /// What is asked for other connections to a port.
    pub(crate) fn tcp_at(&self, port: u16) -> &Requirements {
        self.ports.get(&port).map_or(&self.tcp, |own| &own.tcp)
    }

    fn all(&self) -> impl Iterator<Item = &Requirements> {
        let ports = self.ports.values().flat_map(|own| [&own.http, &own.tcp]);
        [&self.http, &self.tcp].into_iter().chain(ports)
    }

    /// Whether Mixer is asked about anything.
    pub(crate) fn checks(&self) -> bool {
        self.all().any(|r| !r.checks.is_empty() || !r.quotas.is_empty())
    }

    fn reports(&self) -> bool {
        self.all().any(|r| r.report.is_some())
    }
}

/// The Mixers that a proxy calls; none where nothing is asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mixers {
    /// Cluster for checks and quotas.
    pub(crate) check: Option<String>,
    /// Cluster for reports.
    pub(crate) report: Option<String>,
    /// The clusters themselves, each once.
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) findings: Vec<Finding>,
}

impl Mixers {
    /// The Mixers for what is told, and with `checks` for what is asked. MeshConfig's addresses come before the settings'.
    pub(crate) fn new(
        generator: &Generator,
        asks: &Asks,
        checks: bool,
        own: Option<std::net::IpAddr>,
    ) -> Mixers {
        let mut out = Mixers::default();
        let mesh = generator.snapshot.mesh();
        if checks {
            let address = out.address(generator, &mesh.mixer_check_server, "mixerCheckServer");
            out.check = Some(match address {
                Some(address) => out.add(generator, &address, CHECK, own),
                None => out.add_unreachable(generator),
            });
        }
        if asks.reports() && !mesh.disable_mixer_http_reports {
            let address = out.address(generator, &mesh.mixer_report_server, "mixerReportServer");
            out.report = address.map(|address| out.add(generator, &address, REPORT, own));
        }
        out
    }

    fn address(&mut self, generator: &Generator, given: &str, field: &str) -> Option<address::MixerAddress> {
        let text = if given.is_empty() {
            generator.settings.mixer_address.as_deref()
        } else {
            Some(given)
        };
        let parsed = text.map(address::MixerAddress::parse);
        let problem = match parsed {
            Some(Ok(address)) => return Some(address),
            Some(Err(reason)) => reason,
            None => "no address of Mixer is known".to_owned(),
        };
        let help = format!("set {field} in MeshConfig, or start Pilot with Mixer's address");
        self.findings.push(
            Finding::warning(format!(
                "{problem}: what needs Mixer's decision meets its failure mode, and nothing is reported"
            ))
            .at(field)
            .help(help),
        );
        None
    }

    /// Adds the cluster of an address; gives its name.
    fn add(
        &mut self,
        generator: &Generator,
        address: &address::MixerAddress,
        role: &str,
        own: Option<std::net::IpAddr>,
    ) -> String {
        let mixer = Identity::new(
            generator.snapshot.trust_domain(),
            &generator.settings.system_namespace,
            "mixer",
        );
        let mut cluster = address::cluster(generator, address, &mixer, role, own);
        if role == REPORT {
            report::hold_back(&mut cluster);
        }
        let name = cluster.name.clone();
        self.clusters.push(cluster);
        name
    }

    /// A Mixer that cannot be reached: checks are made all the same and their failure mode holds, so that a forgotten
    /// address opens nothing.
    fn add_unreachable(&mut self, generator: &Generator) -> String {
        let host = format!(
            "mixer.{}.svc.{}",
            generator.settings.system_namespace,
            model::DNS_DOMAIN
        );
        let name = crate::names::outbound_cluster(0, "unreachable", &host);
        self.clusters.push(Cluster {
            name: name.clone(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
            load_assignment: Some(ClusterLoadAssignment {
                cluster_name: name.clone(),
                ..Default::default()
            }),
            ..Default::default()
        });
        name
    }
}

/// The metadata by which a call names rules, where it is not about all.
fn named(key: &'static str, rules: Option<&[String]>) -> Vec<HeaderValue> {
    let header = |rules: &[String]| HeaderValue {
        key: key.to_owned(),
        value: rules.join(","),
        ..Default::default()
    };
    rules.map(header).into_iter().collect()
}

/// A gRPC service of Mixer. Calls are retried within the deadline, so that a restart of Mixer refuses nobody.
fn service(cluster: &str, metadata: &[(&str, &str)], fail_open: bool) -> GrpcService {
    let header = |(key, value): &(&str, &str)| HeaderValue {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
        ..Default::default()
    };
    GrpcService {
        timeout: duration(deadline(fail_open)),
        initial_metadata: metadata.iter().map(header).collect(),
        retry_policy: Some(retries(fail_open)),
        target_specifier: Some(target(cluster)),
    }
}

/// A gRPC service behind a cluster. The authority is the host alone: a cluster's name is no well-formed one, and strict
/// HTTP/2 servers refuse it.
fn target(cluster: &str) -> TargetSpecifier {
    TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
        cluster_name: cluster.to_owned(),
        authority: cluster.rsplit('|').next().unwrap_or_default().to_owned(),
        ..Default::default()
    })
}

/// How long an answer is waited for.
fn deadline(fail_open: bool) -> Duration {
    if fail_open { DEADLINE_OPEN } else { DEADLINE }
}

/// When a call is made again. Envoy cuts each try off at the longest back-off (`convertCoreToRouteRetryPolicy` makes it the
/// `per_try_timeout`), and a quota's call that is cut off has charged already: so that is as long as a Mixer may be slow.
fn retries(fail_open: bool) -> RetryPolicy {
    let (longest, tries) = match fail_open {
        true => (DEADLINE_OPEN, 1),
        false => (TRY, 10),
    };
    RetryPolicy {
        retry_back_off: Some(BackoffStrategy {
            base_interval: duration(Duration::from_millis(100)),
            max_interval: duration(longest),
        }),
        num_retries: u32_value(tries),
        retry_on: "connect-failure,refused-stream,reset,gateway-error,unavailable,cancelled".to_owned(),
        ..Default::default()
    }
}
