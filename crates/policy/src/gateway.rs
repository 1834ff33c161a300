//! What gateways ask about requests that they send (Istio 1.4, `disableClientPolicyChecks`: routers check unless checks are
//! disabled for all; its Mixer went by the rules of the source's namespace then).
//!
//! A gateway knows the service that a request goes to, by its route, and not the workload that will answer. Where each of the
//! service's workloads has a proxy of its own, that one decides, and the gateway asks only for rules that hold for nobody but
//! callers: a request is not to be charged twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use expr::{Attributes, Value};

use crate::condition::Condition;
use crate::partial::may_hold;
use crate::request::{Protocol, ReporterKind, Request};
use crate::requirements::{Check, headers};
use crate::rules::{Rule, Rules};
use crate::workload::ServiceView;
use crate::{Headers, Matcher};

/// Name under which a gateway says, with a check, what the check is about ([`Sent`]): a context extension of requests
/// (`CheckSettings.context_extensions`), gRPC metadata of the calls about connections.
pub const SENT: &str = "x-argosy-sent";

/// A gateway, as far as all instances of its configuration have it in common.
#[derive(Clone, Copy, Debug)]
pub struct GatewayView<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// A service to which a gateway sends.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The service.
    pub service: &'a ServiceView,
    /// Whether each of its workloads has a proxy that decides on what arrives.
    pub guarded: bool,
}

/// What a gateway's check is about: `NAMESPACE/HOST RULE,RULE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent<'a> {
    /// Namespace of the service that is called.
    pub namespace: &'a str,
    /// Its host.
    pub host: &'a str,
    /// The rules that are asked (`NAME.NAMESPACE`).
    pub rules: Vec<&'a str>,
}

impl<'a> Sent<'a> {
    /// Reads what a gateway says; `None` if it makes no sense.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (service, rules) = text.split_once(' ')?;
        let (namespace, host) = service.split_once('/')?;
        Some(Self {
            namespace,
            host,
            rules: rules.split(',').collect(),
        })
    }
}

impl fmt::Display for Sent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.namespace, self.host, self.rules.join(","))
    }
}

impl Rules {
    /// What a gateway asks about the requests, or with `tcp` the connections, that it sends to a service: a check for each
    /// failure mode, closed first, which names its rules. Their quotas are charged with it.
    pub fn checks_to(&self, gateway: GatewayView<'_>, target: Target<'_>, tcp: bool) -> Vec<Check> {
        let asked: Vec<&Rule> = self
            .sent(Some(gateway.namespace), Some(&target.service.namespace))
            .map(|rule| &**rule)
            .filter(|rule| self.decides_on(rule, target.service, tcp))
            .filter(|rule| !target.guarded || !may_arrive(&rule.condition))
            .filter(|rule| self.may_be_sent(&rule.condition, gateway, target.service, tcp))
            .collect();
        let of_mode = |fail_open: bool| {
            let of_mode = asked.iter().copied().filter(|rule| rule.fail_open == fail_open);
            let mut rules = of_mode.peekable();
            rules.peek()?;
            Some(self.check_to(rules, target.service, fail_open))
        };
        [false, true].into_iter().filter_map(of_mode).collect()
    }

    fn check_to<'a>(
        &self,
        rules: impl Iterator<Item = &'a Rule>,
        service: &ServiceView,
        fail_open: bool,
    ) -> Check {
        let services = std::slice::from_ref(service);
        let mut names = Vec::new();
        let (mut uses, mut removes) = (BTreeSet::new(), BTreeSet::new());
        for rule in rules {
            removes.extend(rule.removes());
            names.push(rule.full_name());
            let charged = self.charges(rule, service);
            uses.extend(self.asked_uses(rule, charged.then_some(services)));
        }
        self.api_specs.expand(&mut uses, Some(services));
        Check {
            fail_open,
            headers: headers(&uses),
            claims: uses.iter().any(|used| used.name().starts_with("request.auth.")),
            rules: names,
            selective: true,
            removes,
            when: Matcher::Always,
        }
    }

    /// Whether a rule has something to decide on what is sent to a service. Connections have no headers and are charged nothing.
    fn decides_on(&self, rule: &Rule, service: &ServiceView, tcp: bool) -> bool {
        match tcp {
            true => !rule.checks.is_empty(),
            false => rule.has_check() || self.charges(rule, service),
        }
    }

    fn charges(&self, rule: &Rule, service: &ServiceView) -> bool {
        let mut quotas = rule.quotas.iter();
        quotas.any(|action| self.quota_specs.may_charge(service, &action.quota))
    }

    fn may_be_sent(
        &self,
        condition: &Condition,
        gateway: GatewayView<'_>,
        service: &ServiceView,
        tcp: bool,
    ) -> bool {
        let Some(expression) = &condition.0 else {
            return true;
        };
        let given = self.given(&[Some(service)], tcp);
        let protocols: &[Protocol] = match tcp {
            true => &[Protocol::Tcp],
            false => &[Protocol::Http, Protocol::Grpc],
        };
        protocols.iter().any(|protocol| {
            let request = Request {
                reporter: ReporterKind::Outbound,
                protocol: *protocol,
                service: Some(service),
                ..Request::default()
            };
            let known = Leaving {
                request,
                gateway,
                given: &given,
            };
            may_hold(expression, &known)
        })
    }

    /// The rules for what a workload of namespace `sender` sends to a namespace: those of the root namespace, of the one that is
    /// called, and of the sender's (where Istio 1.4 looked).
    pub(crate) fn sent<'a>(
        &'a self,
        sender: Option<&str>,
        called: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Rule>> + use<'a> {
        let sender = sender.filter(|sender| Some(*sender) != called);
        let own = sender.and_then(|sender| self.by_namespace.get(sender));
        self.of(called).chain(own.into_iter().flatten())
    }

    /// The rules about a request that is decided on.
    pub(crate) fn about<'a>(
        &'a self,
        request: &Request<'_>,
    ) -> impl Iterator<Item = &'a Arc<Rule>> + use<'a> {
        let called = request
            .destination
            .workload
            .map(|workload| workload.namespace.as_str());
        match request.reporter {
            ReporterKind::Inbound => self.sent(None, called),
            ReporterKind::Outbound => {
                let called = called.or_else(|| request.service.map(|service| service.namespace.as_str()));
                let sender = request
                    .source
                    .workload
                    .map(|workload| workload.namespace.as_str());
                self.sent(sender, called)
            }
        }
    }
}

/// What is known of a request that a gateway sends, before there is one.
struct Leaving<'a> {
    request: Request<'a>,
    gateway: GatewayView<'a>,
    /// Attributes that HTTPAPISpecs may give.
    given: &'a BTreeSet<String>,
}

impl Attributes for Leaving<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        match name {
            given if self.given.contains(given) => None,
            "source.namespace" => Some(Value::from(self.gateway.namespace)),
            "source.labels" => Some(Value::Map(self.gateway.labels)),
            name => self.request.get(name),
        }
    }

    fn is_known(&self, name: &str) -> bool {
        let tcp = self.request.protocol == Protocol::Tcp;
        match name {
            given if self.given.contains(given) => false,
            "context.protocol" | "context.reporter.kind" | "context.reporter.local" => true,
            "source.namespace" | "source.labels" | "api.service" => true,
            name if name.starts_with("request.") => tcp,
            // The workload that will answer is not chosen yet.
            name => name.starts_with("destination.") || name.starts_with("response."),
        }
    }
}

/// Whether a condition may hold where a request arrives, as far as it says which end it is for.
fn may_arrive(condition: &Condition) -> bool {
    struct Arriving;
    impl Attributes for Arriving {
        fn get(&self, name: &str) -> Option<Value<'_>> {
            match name {
                "context.reporter.kind" => Some(Value::from("inbound")),
                "context.reporter.local" => Some(Value::Bool(true)),
                _ => None,
            }
        }

        fn is_known(&self, _: &str) -> bool {
            false
        }
    }
    condition
        .0
        .as_ref()
        .is_none_or(|expression| may_hold(expression, &Arriving))
}

/// The headers that several checks read.
pub fn all_headers<'a>(checks: impl IntoIterator<Item = &'a Check>) -> Headers {
    let mut all = BTreeSet::new();
    for check in checks {
        match &check.headers {
            Headers::All => return Headers::All,
            Headers::Named(names) => all.extend(names.iter().cloned()),
        }
    }
    Headers::Named(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_back() {
        let said = Sent {
            namespace: "shop",
            host: "catalog.shop.svc.cluster.local",
            rules: vec!["deny.shop", "quota.istio-system"],
        };
        assert_eq!(Sent::parse(&said.to_string()), Some(said));
        for nonsense in ["", "a b", "shop/catalog", "catalog rule.ns"] {
            assert_eq!(Sent::parse(nonsense), None, "{nonsense}");
        }
    }
}
