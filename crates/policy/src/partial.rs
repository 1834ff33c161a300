//! What can be said of a rule from the destination alone, before any request.

use std::collections::BTreeSet;

use expr::{Attributes, EvalError, Expression, Value};

use crate::condition::Condition;
use crate::request::{Party, Protocol, ReporterKind, Request};
use crate::requirements::{Direction, Ports, Traffic};
use crate::rules::Rules;
use crate::workload::{ServiceView, WorkloadView};

/// A request of which only the proxy's own end is known.
pub(crate) struct Partial<'a> {
    request: Request<'a>,
    own: &'static str,
    /// Attributes that HTTPAPISpecs may give, by method and path.
    given: BTreeSet<String>,
}

impl<'a> Partial<'a> {
    fn new(
        own: &'a WorkloadView,
        service: Option<&'a ServiceView>,
        protocol: Protocol,
        direction: Direction,
        given: BTreeSet<String>,
    ) -> Self {
        let party = Party {
            workload: Some(own),
            ip: own.ip,
            port: None,
            principal: None,
        };
        let mut request = Request {
            protocol,
            ..Request::default()
        };
        match direction {
            Direction::Inbound => {
                request.destination = party;
                request.service = service;
            }
            Direction::Outbound => {
                request.source = party;
                request.reporter = ReporterKind::Outbound;
            }
        }
        Self {
            request,
            own: if direction == Direction::Inbound {
                "destination."
            } else {
                "source."
            },
            given,
        }
    }
}

impl<'a> Partial<'a> {
    /// Of a request that arrives at a port of the workload, if it is known which.
    pub(crate) fn inbound(
        own: &'a WorkloadView,
        service: Option<&'a ServiceView>,
        port: Option<u16>,
        tcp: bool,
        given: BTreeSet<String>,
    ) -> Self {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Http };
        let mut partial = Self::new(own, service, protocol, Direction::Inbound, given);
        partial.request.destination.port = port;
        partial
    }
}

impl Attributes for Partial<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        match self.given.contains(name) {
            true => None,
            false => self.request.get(name),
        }
    }

    fn is_known(&self, name: &str) -> bool {
        let tcp = self.request.protocol == Protocol::Tcp;
        match name {
            "context.protocol" | "context.reporter.kind" | "context.reporter.local" => true,
            "destination.port" | "destination.container.name" => self.request.destination.port.is_some(),
            _ if name.starts_with("request.") || name.starts_with("response.") => tcp,
            _ if self.given.contains(name) => false,
            _ => name.strip_prefix(self.own).is_some_and(|field| {
                // The connection decides these.
                !matches!(field, "port" | "ip" | "principal" | "user")
            }),
        }
    }
}

/// The services that a request at these ports may mean; `None` stands for a request at a port of no service.
pub(crate) fn services(own: &WorkloadView, ports: Ports) -> Vec<Option<&ServiceView>> {
    let of = |port: u16| {
        own.services
            .iter()
            .filter(move |s| s.ports.contains(&port))
            .map(Some)
    };
    let services: Vec<_> = match ports {
        Ports::Any => own.services.iter().map(Some).chain([None]).collect(),
        Ports::Only(port) => of(port).collect(),
        Ports::Undeclared => Vec::new(),
    };
    if services.is_empty() { vec![None] } else { services }
}

impl Rules {
    /// Attributes that HTTPAPISpecs may give to requests to these services.
    pub(crate) fn given(&self, services: &[Option<&ServiceView>], tcp: bool) -> BTreeSet<String> {
        match tcp {
            true => BTreeSet::new(),
            false => self.api_specs.names(services.iter().copied().flatten()),
        }
    }
}

/// Whether the rule may apply to traffic of this workload's proxy.
pub(crate) fn may_apply(
    rules: &Rules,
    condition: &Condition,
    own: &WorkloadView,
    traffic: Traffic,
    ports: Ports,
) -> bool {
    let Some(expression) = &condition.0 else {
        return true;
    };
    let protocols: &[Protocol] = if traffic.tcp {
        &[Protocol::Tcp]
    } else {
        &[Protocol::Http, Protocol::Grpc]
    };
    services(own, ports).into_iter().any(|service| {
        protocols.iter().any(|protocol| {
            let given = rules.given(&[service], traffic.tcp);
            let mut partial = Partial::new(own, service, *protocol, traffic.direction, given);
            if traffic.direction == Direction::Inbound {
                partial.request.destination.port = ports.number();
            }
            may_hold(expression, &partial)
        })
    })
}

/// Whether an expression may be true, as far as some attributes are known.
pub(crate) fn may_hold(expression: &Expression, known: &dyn Attributes) -> bool {
    match expression.eval(known) {
        Ok(value) => value == Value::Bool(true),
        Err(EvalError::Unknown { .. }) => true,
        // Malformed values: whoever evaluates it must see them.
        Err(error) => !error.is_absence(),
    }
}
