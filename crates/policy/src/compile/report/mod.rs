//! What a workload's proxy itself says of finished requests: metrics of Prometheus handlers that it counts, and log entries of
//! `stdio` handlers that it writes. No report of them goes to Mixer.
//!
//! A rule's reports are compiled whole or not at all, and only where the proxy counts and writes what Mixer would: the same
//! requests, labels and values. Envoy's operators and CEL are named here; its configuration is made by those who serve it.

mod attribute;
mod expression;
mod line;
mod part;

use config::adapters::{MetricDefinition, MetricKind};
use expr::{Expression, Value, ValueType};

pub use self::line::{Field, Line};

use self::attribute::Ended;
use self::part::{Part, When, Worth};
use super::{Compiler, Reason};
use crate::backend::Backend;
use crate::cel::literal;
use crate::rules::{MetricAction, ReportAction, Rule};

/// Longest text of a client's that becomes a label, in characters; Mixer cuts off what is longer.
const MAX_LABEL: usize = 1024;

/// Texts that may become labels: UTF-8 without control characters, or no Prometheus could read the page.
const PRINTABLE: &str = r"^[^\x00-\x1f\x7f]*$";

/// What stands for a label's value that is too long, or not printable.
const UNPRINTABLE: &str = "(unprintable)";

/// Metrics that proxies count anyway, for the Telemetry API (Istio Standard Metrics).
const STANDARD: [&str; 10] = [
    "istio_requests_total",
    "istio_request_duration_milliseconds",
    "istio_request_bytes",
    "istio_response_bytes",
    "istio_request_messages_total",
    "istio_response_messages_total",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
];

/// A text of a finished request that a proxy writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Text {
    /// This.
    Fixed(String),
    /// What CEL gives; it has a value wherever the record is made.
    Cel(String),
    /// The response flags, joined by commas; `-` for none.
    Flags,
    /// The bytes of the request's body.
    RequestBytes,
    /// The connection's own far end, which no header changes, without port.
    SourceIp,
}

/// A metric that the proxy counts by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Count {
    /// The rule, `NAME.NAMESPACE`.
    pub rule: String,
    /// The metric's name, `NAMESPACE_NAME`.
    pub metric: String,
    /// Whether the last value counts, and not the sum.
    pub gauge: bool,
    /// CEL that holds for the requests that count; `None` for all.
    pub when: Option<String>,
    /// What each of them adds: a whole number that is not negative.
    pub value: Amount,
    /// Labels and their values.
    pub labels: Vec<(String, Text)>,
}

/// What a request adds to a metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Amount {
    /// This for each.
    Fixed(u64),
    /// A number that the proxy writes as text.
    Text(Text),
}

/// What a rule's reports come to in the proxy.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) counts: Vec<Count>,
    pub(crate) lines: Vec<Line>,
}

impl Compiler<'_> {
    /// What a rule's reports come to.
    ///
    /// # Errors
    /// Why Mixer is told.
    pub(crate) fn said(&self, rule: &Rule) -> Result<Said, Reason> {
        if rule.told {
            return Err(Reason::Told);
        }
        if self.tcp {
            return Err(Reason::Connections);
        }
        if rule.sampling.is_some() {
            return Err(Reason::Sampled);
        }
        let ended = Ended {
            own: self.own,
            before: &self.environment,
        };
        let condition = ended.condition(rule.condition.0.as_ref())?;
        let name = rule.full_name();
        let mut said = Said::default();
        for action in &rule.metrics {
            let definition = self.rules.metrics.get(action.metric);
            let definition = definition.ok_or(Reason::Function("a metric that is not defined"))?;
            said.counts
                .extend(ended.count(&name, definition, action, &condition)?);
        }
        for action in &rule.reports {
            said.lines.extend(ended.reported(&name, action, &condition)?);
        }
        Ok(said)
    }
}

/// CEL of a condition; `None` for one that always holds.
fn filter(when: &When) -> Option<String> {
    match when {
        When::Always => None,
        when => Some(when.cel().to_owned()),
    }
}

impl Ended<'_> {
    /// When a rule applies: where its predicate has a value, and that is true.
    fn condition(&self, predicate: Option<&Expression>) -> Result<When, Reason> {
        let Some(predicate) = predicate else {
            return Ok(When::Always);
        };
        let part = self.part(predicate.root())?;
        match part.known_truth() {
            Some(true) => return Ok(part.present),
            Some(false) => return Ok(When::Never),
            None => {}
        }
        let cel = part.cel()?;
        Ok(match &part.present {
            When::Always => When::If(cel),
            When::Never => When::Never,
            When::If(present) => When::If(format!("({present} ? {cel} : false)")),
        })
    }

    fn count(
        &self,
        rule: &str,
        metric: &MetricDefinition,
        action: &MetricAction,
        condition: &When,
    ) -> Result<Option<Count>, Reason> {
        countable(metric)?;
        let value = self.part(action.value.root())?;
        let mut when = condition.and(&value.present);
        let mut labels = Vec::new();
        for (label, expression) in metric.label_names.iter().zip(&action.labels) {
            let text = match expression {
                None => Text::Fixed(String::new()),
                Some(expression) => {
                    let part = self.part(expression.root())?;
                    when = when.and(&part.present);
                    label_text(&part, expression.ty())?
                }
            };
            labels.push((label.clone(), text));
        }
        let count = Count {
            rule: rule.to_owned(),
            metric: metric.name.clone(),
            gauge: metric.kind == MetricKind::Gauge,
            when: filter(&when),
            value: amount(&value, action.value.ty())?,
            labels,
        };
        Ok((when != When::Never).then_some(count))
    }

    fn reported(&self, rule: &str, action: &ReportAction, condition: &When) -> Result<Option<Line>, Reason> {
        match &action.handler.backend {
            Backend::Stdio(stdio) => self.line(rule, stdio, action, condition),
            _ => Err(Reason::Adapter(action.handler.name.clone())),
        }
    }
}

/// Refuses metrics that proxies do not count as their handler says.
fn countable(metric: &MetricDefinition) -> Result<(), Reason> {
    let name = || metric.name.clone();
    match metric.kind {
        MetricKind::Distribution => Err(Reason::Distribution(name())),
        _ if metric.expiry.is_some() => Err(Reason::Expiry(name())),
        _ if STANDARD.contains(&metric.name.as_str()) || metric.name.starts_with("envoy_") => {
            Err(Reason::Standard(name()))
        }
        _ => Ok(()),
    }
}

fn amount(part: &Part<'_>, ty: ValueType) -> Result<Amount, Reason> {
    let whole = |number: Option<u64>| number.map(Amount::Fixed).ok_or(Reason::Fraction);
    match &part.worth {
        Worth::Known(Value::Int(number)) => whole(u64::try_from(*number).ok()),
        Worth::Known(Value::Text(text)) => whole(text.trim().parse().ok()),
        _ if ty == ValueType::Int64 => part.text().map(Amount::Text),
        _ => Err(Reason::Fraction),
    }
}

/// A label's value: what Mixer writes for it.
fn label_text(part: &Part<'_>, ty: ValueType) -> Result<Text, Reason> {
    match ty {
        ValueType::String | ValueType::Int64 | ValueType::Bool | ValueType::IpAddress => {}
        ty => return Err(Reason::Label(ty)),
    }
    match part.text()? {
        Text::Cel(cel) if part.free => Ok(Text::Cel(format!(
            "(size({cel}) <= {MAX_LABEL} && {cel}.matches({}) ? {cel} : '{UNPRINTABLE}')",
            literal(PRINTABLE)
        ))),
        text => Ok(text),
    }
}
