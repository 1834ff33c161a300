//! What the Envoy of a workload must ask Mixer for, and send along.

use std::collections::BTreeSet;

use expr::Use;

use crate::cel;
use crate::compile::{Bucket, Compiler, Count, Line, Matcher, Mutation, Refusal};
use crate::partial::may_apply;
use crate::rules::{Rule, Rules};
use crate::workload::{ServiceView, WorkloadView};

/// Most bytes of names of rules in one call's metadata; servers take 16 KiB of headers.
const MAX_NAMES: usize = 8 * 1024;

/// Which of a proxy's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Traffic {
    /// Where it goes.
    pub direction: Direction,
    /// Whether it is plain TCP; otherwise HTTP and gRPC.
    pub tcp: bool,
}

/// Where traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the workload: checks, quotas and reports.
    Inbound,
    /// From the workload: reports alone, as in Istio 1.4 by default. What gateways ask is [`Rules::checks_to`].
    Outbound,
}

/// Which of a workload's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Whatever port a request arrives at.
    Any,
    /// This port of the workload's own.
    Only(u16),
    /// Ports of no service.
    Undeclared,
}

impl Ports {
    /// The port's number, if there is one.
    pub(crate) fn number(self) -> Option<u16> {
        match self {
            Self::Only(port) => Some(port),
            Self::Any | Self::Undeclared => None,
        }
    }
}

/// What Envoy must ask and send for a workload's traffic of one kind. Equal requirements give equal configuration.
///
/// Where a descriptor has the entry `source.address`, the proxy must keep the connection's own address in the filter state
/// [`crate::SOURCE_ADDRESS_STATE`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Requirements {
    /// What the proxy refuses by itself, before it asks; the first whose condition holds answers.
    pub refusals: Vec<Refusal>,
    /// What the proxy does to headers by itself, in this order: values are found before it asks, and take effect once all
    /// that it asks let the request pass.
    pub mutations: Vec<Mutation>,
    /// One ext_authz filter each, at most one that fails open and one that fails closed (closed first). Each call
    /// carries [`crate::FAILURE_MODE_METADATA`].
    pub checks: Vec<Check>,
    /// Rate limit descriptors of domain [`crate::RATE_LIMIT_DOMAIN`], for the HTTP rate limit filter.
    pub quotas: Vec<QuotaDescriptor>,
    /// Quotas that the proxy counts by itself, in this order, once its checks have let a request pass; with the first that is
    /// used up it refuses.
    pub buckets: Vec<Bucket>,
    /// What the proxy counts by itself when a request has ended.
    pub counts: Vec<Count>,
    /// What it logs by itself.
    pub lines: Vec<Line>,
    /// Whether access logs go to Mixer, and with which headers. The log's name is [`crate::LOG_INBOUND`] or
    /// [`crate::LOG_OUTBOUND`].
    pub report: Option<Report>,
}

/// An ext_authz filter (`envoy.filters.http.ext_authz`, or the network filter for TCP).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// `failure_mode_allow`.
    pub fail_open: bool,
    /// `allowed_headers`: what its rules read.
    pub headers: Headers,
    /// Whether the payload of a verified token must come along (`metadata_context_namespaces` with
    /// `envoy.filters.http.jwt_authn`).
    pub claims: bool,
    /// The rules that are asked, `NAME.NAMESPACE`.
    pub rules: Vec<String>,
    /// Whether others of this failure mode are the proxy's own, so that each call must name those that are asked
    /// ([`crate::RULES_METADATA`]).
    pub selective: bool,
    /// Headers that the answer may have taken out of the response: for each there is [`removal`] in the answer's dynamic
    /// metadata, true where it is to be.
    pub removes: BTreeSet<String>,
    /// For which HTTP requests the call must be made (`filter_enabled_metadata`); for all others every rule passes.
    pub when: Matcher,
}

/// The key in an answer's dynamic metadata by which a header is taken out of the response: ext_authz has no field for it.
pub fn removal(header: &str) -> String {
    format!("argosy.removed.{header}")
}

/// Request headers, names in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Headers {
    /// A rule reads headers by computed names.
    All,
    /// These.
    Named(BTreeSet<String>),
}

/// A descriptor: one `rate_limits` entry whose actions are `envoy.rate_limit_descriptors.expr`, one for each entry in
/// this order (`descriptor_key`, `text`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QuotaDescriptor {
    /// The rule, `NAME.NAMESPACE`.
    pub rule: String,
    /// Whether requests pass when Mixer cannot be asked (`failure_mode_deny` is its opposite).
    pub fail_open: bool,
    /// The entries.
    pub entries: Vec<DescriptorEntry>,
}

/// An entry of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DescriptorEntry {
    /// Key.
    pub key: String,
    /// CEL that has a value for every request.
    pub cel: String,
}

/// Access logs that go to Mixer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Report {
    /// The rules that are told, `NAME.NAMESPACE`.
    pub rules: Vec<String>,
    /// Whether the proxy does for others what they say, so that the log must name those that are told
    /// ([`crate::REPORTED_METADATA`]).
    pub selective: bool,
    /// `additional_request_headers_to_log`, names in lower case.
    pub request_headers: BTreeSet<String>,
    /// `additional_response_headers_to_log`, names in lower case.
    pub response_headers: BTreeSet<String>,
    /// `additional_response_trailers_to_log`, names in lower case.
    pub response_trailers: BTreeSet<String>,
}

impl Requirements {
    /// Whether nothing must be asked.
    pub fn is_empty(&self) -> bool {
        self.refusals.is_empty()
            && self.mutations.is_empty()
            && self.checks.is_empty()
            && self.quotas.is_empty()
            && self.buckets.is_empty()
            && self.counts.is_empty()
            && self.lines.is_empty()
            && self.report.is_none()
    }
}

impl Rules {
    /// What the proxy of `own` must do for its traffic of one kind, whatever the port.
    pub fn requirements(&self, own: &WorkloadView, traffic: Traffic) -> Requirements {
        self.requirements_at(own, traffic, Ports::Any)
    }

    /// What the proxy of `own` must do for its traffic of one kind at these ports, which matter for what is inbound. Rules
    /// that can never apply to it are left out.
    pub fn requirements_at(&self, own: &WorkloadView, traffic: Traffic, ports: Ports) -> Requirements {
        let mut requirements = Requirements::default();
        match traffic.direction {
            Direction::Inbound => {
                let all = self.of(Some(&own.namespace)).map(|rule| &**rule);
                let rules: Vec<&Rule> = all
                    .filter(|rule| may_apply(self, &rule.condition, own, traffic, ports))
                    .collect();
                let compiler = Compiler::new(self, own, traffic, ports);
                let (mut remote, mut native) = (Vec::new(), Vec::new());
                for rule in &rules {
                    match compiler.native(rule) {
                        Ok(decided) if rule.has_check() => {
                            native.push(*rule);
                            requirements.refusals.extend(decided.refusals);
                            requirements.mutations.extend(decided.mutations);
                        }
                        _ => remote.push(*rule),
                    }
                }
                let own_modes: BTreeSet<bool> = native.iter().map(|rule| rule.fail_open).collect();
                requirements.checks = self.checks(&remote, own, &own_modes, &compiler);
                if !traffic.tcp {
                    let mut counted = Vec::new();
                    for rule in rules.iter().filter(|rule| self.may_charge(rule, own)) {
                        match compiler.buckets(rule) {
                            Ok(buckets) => requirements.buckets.extend(buckets),
                            Err(_) => counted.push(*rule),
                        }
                    }
                    requirements.quotas = self.quotas(&counted, own);
                }
                self.say(&mut requirements, &rules, own, &compiler);
            }
            Direction::Outbound => {
                // Any namespace may be called.
                let everywhere = self.by_namespace.values().flatten().chain(&self.root);
                let rules = everywhere
                    .map(|rule| &**rule)
                    .filter(|rule| may_apply(self, &rule.condition, own, traffic, ports));
                requirements.report = self.report_of(rules, None);
            }
        }
        requirements
    }

    /// What the proxy says of finished requests, and what Mixer is told. Where the names of the rules that Mixer is told would
    /// not fit a call, it is told all.
    fn say(
        &self,
        requirements: &mut Requirements,
        rules: &[&Rule],
        own: &WorkloadView,
        compiler: &Compiler<'_>,
    ) {
        let reported = rules.iter().copied().filter(|rule| rule.has_report());
        let made = reported.map(|rule| (rule, compiler.said(rule)));
        let (native, remote): (Vec<_>, Vec<_>) = made.partition(|(_, said)| said.is_ok());
        let named: usize = remote.iter().map(|(rule, _)| rule.full_name().len() + 1).sum();
        let selective = !native.is_empty() && named <= MAX_NAMES;
        let mut told: Vec<&Rule> = remote.iter().map(|(rule, _)| *rule).collect();
        for (rule, said) in native {
            match said {
                Ok(said) if selective => {
                    requirements.counts.extend(said.counts);
                    requirements.lines.extend(said.lines);
                }
                _ => told.push(rule),
            }
        }
        let report = self.report_of(told.into_iter(), Some(own));
        requirements.report = report.map(|report| Report { selective, ..report });
    }

    /// Whether the rule's quotas may be charged to a service of the workload.
    pub(crate) fn may_charge(&self, rule: &Rule, own: &WorkloadView) -> bool {
        rule.quotas.iter().any(|action| {
            own.services
                .iter()
                .any(|service| self.quota_specs.may_charge(service, &action.quota))
        })
    }

    /// The calls for what Mixer decides; `native` are the failure modes of rules that the proxy decides.
    fn checks(
        &self,
        rules: &[&Rule],
        own: &WorkloadView,
        native: &BTreeSet<bool>,
        compiler: &Compiler<'_>,
    ) -> Vec<Check> {
        let mut checks = Vec::new();
        for fail_open in [false, true] {
            let remote = |rule: &&Rule| rule.remote_quota.is_some() && self.may_charge(rule, own);
            let asked: Vec<&Rule> = rules
                .iter()
                .copied()
                .filter(|r| r.fail_open == fail_open && (r.has_check() || remote(r)))
                .collect();
            if asked.is_empty() {
                continue;
            }
            let mut uses: BTreeSet<Use> = BTreeSet::new();
            for rule in &asked {
                uses.extend(self.asked_uses(rule, remote(rule).then_some(own.services.as_slice())));
            }
            self.api_specs.expand(&mut uses, Some(&own.services));
            checks.push(Check {
                fail_open,
                headers: headers(&uses),
                claims: uses.iter().any(|u| u.name().starts_with("request.auth.")),
                rules: asked.iter().map(|rule| rule.full_name()).collect(),
                selective: native.contains(&fail_open),
                removes: asked.iter().flat_map(|rule| rule.removes()).collect(),
                when: Matcher::any(asked.iter().map(|rule| compiler.may_apply(rule))),
            });
        }
        checks
    }

    /// What a call about a rule must tell; `charged` are the services to which its quotas are charged with it.
    pub(crate) fn asked_uses(&self, rule: &Rule, charged: Option<&[ServiceView]>) -> BTreeSet<Use> {
        let mut uses = rule.check_uses();
        // Whether a header is there decides how a value is appended.
        let headers = rule.request_headers.iter().map(|op| op.name.clone());
        uses.extend(headers.map(|name| Use::Entry("request.headers".to_owned(), name)));
        if let Some(services) = charged {
            uses.extend(rule.quota_uses());
            uses.extend(self.charge_uses(services));
        }
        uses
    }

    fn charge_uses(&self, services: &[ServiceView]) -> BTreeSet<Use> {
        let names = services
            .iter()
            .flat_map(|service| self.quota_specs.attributes(service));
        names.map(|name| Use::Attribute(name.to_owned())).collect()
    }

    fn quotas(&self, rules: &[&Rule], own: &WorkloadView) -> Vec<QuotaDescriptor> {
        let mut descriptors = Vec::new();
        for rule in rules.iter().filter(|rule| rule.remote_quota.is_none()) {
            // What descriptors cannot carry made the rule remote when it was built.
            if let Ok(entries) = self.entries(rule, own) {
                descriptors.push(QuotaDescriptor {
                    rule: rule.full_name(),
                    fail_open: rule.fail_open,
                    entries,
                });
            }
        }
        descriptors
    }

    /// What a descriptor carries of a request to the workload, so that a rule's quotas can be charged.
    ///
    /// # Errors
    /// Why descriptors cannot.
    pub(crate) fn entries(&self, rule: &Rule, own: &WorkloadView) -> Result<Vec<DescriptorEntry>, String> {
        let mut uses = rule.quota_uses();
        uses.extend(self.charge_uses(&own.services));
        self.api_specs.expand(&mut uses, Some(&own.services));
        cel::entries(&rule.full_name(), own.uid(), &uses)
    }

    /// The access logs that these rules need; `own` is the called workload, if it is known.
    fn report_of<'a>(
        &self,
        rules: impl Iterator<Item = &'a Rule>,
        own: Option<&WorkloadView>,
    ) -> Option<Report> {
        let reported: Vec<&Rule> = rules.filter(|rule| rule.has_report()).collect();
        let mut uses: BTreeSet<Use> = reported.iter().flat_map(|rule| rule.report_uses()).collect();
        self.api_specs
            .expand(&mut uses, own.map(|own| own.services.as_slice()));
        (!reported.is_empty()).then(|| Report {
            rules: reported.iter().map(|rule| rule.full_name()).collect(),
            ..report(&uses)
        })
    }
}

/// Headers that Mixer reads for attributes of their own.
const NAMED_HEADERS: [(&str, &str); 6] = [
    ("request.useragent", "user-agent"),
    ("request.referer", "referer"),
    ("request.id", "x-request-id"),
    ("request.api_key", "x-api-key"),
    ("context.protocol", "content-type"),
    ("api.protocol", "content-type"),
];

/// The request headers that are read.
pub(crate) fn headers(uses: &BTreeSet<Use>) -> Headers {
    let mut named = BTreeSet::new();
    for used in uses {
        match used {
            Use::Entry(map, key) if map == "request.headers" => {
                named.insert(key.to_ascii_lowercase());
            }
            Use::AnyEntry(map) if map == "request.headers" => return Headers::All,
            used => named.extend(
                NAMED_HEADERS
                    .iter()
                    .filter(|(name, _)| *name == used.name())
                    .map(|(_, header)| (*header).to_owned()),
            ),
        }
    }
    Headers::Named(named)
}

fn report(uses: &BTreeSet<Use>) -> Report {
    let mut report = Report::default();
    for used in uses {
        match used {
            Use::Entry(map, key) if map == "request.headers" => {
                report.request_headers.insert(key.to_ascii_lowercase());
            }
            Use::Entry(map, key) if map == "response.headers" => {
                report.response_headers.insert(key.to_ascii_lowercase());
            }
            used => match used.name() {
                "request.api_key" => {
                    report.request_headers.insert("x-api-key".to_owned());
                }
                "context.protocol" | "api.protocol" => {
                    report.request_headers.insert("content-type".to_owned());
                }
                // In the headers of a response without body, else in the trailers.
                "response.grpc_status" => {
                    report.response_headers.insert("grpc-status".to_owned());
                    report.response_trailers.insert("grpc-status".to_owned());
                }
                "response.grpc_message" => {
                    report.response_headers.insert("grpc-message".to_owned());
                    report.response_trailers.insert("grpc-message".to_owned());
                }
                _ => {}
            },
        }
    }
    report
}
