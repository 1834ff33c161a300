//! Adapters that run beside the decision because they need a socket, a file or an engine. `config` reads their parameters, what
//! carries them out is Mixer's.

mod answer;
mod remote;

use std::sync::Arc;

use config::adapters::{Dogstatsd, Fluentd, ListSource, Opa, OpenTelemetry, Rbac, Statsd, Stdio, Zipkin};
use config::templates;

pub(crate) use remote::Remotes;
pub use remote::{Remote, Taken};

/// What stands behind a handler beside the decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// `listchecker` with a `providerUrl`.
    List(ListSource),
    /// `opa`.
    Opa(Opa),
    /// `rbac`.
    Rbac(Rbac),
    /// `stdio`.
    Stdio(Stdio),
    /// `statsd`.
    Statsd(Statsd),
    /// `dogstatsd`.
    Dogstatsd(Dogstatsd),
    /// `fluentd`.
    Fluentd(Fluentd),
    /// `zipkin`.
    Zipkin(Zipkin),
    /// `opentelemetry`, which Istio 1.4 did not have.
    OpenTelemetry(OpenTelemetry),
    /// An adapter outside of the process.
    Remote(Remote),
}

/// A handler that runs beside the decision. Two that are equal do the same: one may go on for the other.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendHandler {
    /// `NAME.NAMESPACE`.
    pub name: String,
    /// What it is.
    pub backend: Backend,
}

impl Backend {
    /// How the adapter answers instances of a template; `None` when it takes none.
    pub(crate) fn takes(&self, template: &str) -> Option<Variety> {
        match (self, template) {
            (Self::Remote(remote), template) => remote.takes(template),
            (Self::List(_), "listentry") | (Self::Opa(_) | Self::Rbac(_), "authorization") => {
                Some(Variety::Check)
            }
            (Self::Stdio(_), "logentry" | "metric" | "edge")
            | (Self::Statsd(_) | Self::Dogstatsd(_), "metric")
            | (Self::Fluentd(_), "logentry")
            | (Self::Zipkin(_), "tracespan")
            | (Self::OpenTelemetry(_), "metric" | "logentry" | "tracespan") => Some(Variety::Report),
            _ => None,
        }
    }

    /// Whether a request passes about which the adapter cannot be asked, whatever its rule says.
    pub(crate) fn fails_open(&self) -> bool {
        matches!(self, Self::Opa(opa) if opa.fail_open)
    }

    /// The instances of `template` that the parameters name; `None` when the adapter takes all.
    pub(crate) fn named(&self, template: &str) -> Option<Vec<&Arc<str>>> {
        match self {
            Self::Statsd(statsd) => Some(statsd.metrics.keys().collect()),
            Self::Dogstatsd(dogstatsd) => Some(dogstatsd.metrics.keys().collect()),
            Self::OpenTelemetry(otlp) if template == "metric" => Some(otlp.metrics.keys().collect()),
            _ => None,
        }
    }
}

/// When an adapter is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variety {
    /// Before a request passes.
    Check,
    /// After it has ended.
    Report,
    /// For units, before it passes.
    Quota,
}

impl From<templates::Variety> for Variety {
    fn from(variety: templates::Variety) -> Self {
        match variety {
            templates::Variety::Check => Self::Check,
            templates::Variety::Report => Self::Report,
            templates::Variety::Quota => Self::Quota,
        }
    }
}
