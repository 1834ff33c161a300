//! What can be said of a rule from the destination alone, before any request.

use expr::{Attributes, EvalError, Expression, Value};

use crate::condition::Condition;
use crate::request::{Party, Protocol, ReporterKind, Request};
use crate::requirements::{Direction, Traffic};
use crate::workload::{ServiceView, WorkloadView};

/// A request of which only the proxy's own end is known.
struct Partial<'a> {
    request: Request<'a>,
    own: &'static str,
}

impl<'a> Partial<'a> {
    fn new(
        own: &'a WorkloadView,
        service: Option<&'a ServiceView>,
        protocol: Protocol,
        direction: Direction,
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
        }
    }
}

impl Attributes for Partial<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        self.request.get(name)
    }

    fn is_known(&self, name: &str) -> bool {
        let tcp = self.request.protocol == Protocol::Tcp;
        match name {
            "context.protocol" | "context.reporter.kind" | "context.reporter.local" => true,
            _ if name.starts_with("request.") || name.starts_with("response.") => tcp,
            _ => name.strip_prefix(self.own).is_some_and(|field| {
                // The connection decides these.
                !matches!(field, "port" | "ip" | "principal" | "user")
            }),
        }
    }
}

/// Whether the rule may apply to traffic of this workload's proxy.
pub(crate) fn may_apply(condition: &Condition, own: &WorkloadView, traffic: Traffic) -> bool {
    let Some(expression) = &condition.0 else {
        return true;
    };
    let protocols: &[Protocol] = if traffic.tcp {
        &[Protocol::Tcp]
    } else {
        &[Protocol::Http, Protocol::Grpc]
    };
    // A request may also come in at a port of no service.
    let services = own.services.iter().map(Some).chain([None]);
    services.into_iter().any(|service| {
        protocols.iter().any(|protocol| {
            may_hold(
                expression,
                &Partial::new(own, service, *protocol, traffic.direction),
            )
        })
    })
}

fn may_hold(expression: &Expression, partial: &Partial<'_>) -> bool {
    match expression.eval(partial) {
        Ok(value) => value == Value::Bool(true),
        Err(EvalError::Unknown { .. }) => true,
        // Malformed values: whoever evaluates it must see them.
        Err(error) => !error.is_absence(),
    }
}
