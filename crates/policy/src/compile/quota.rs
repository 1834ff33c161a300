//! Quotas that each proxy counts for itself, as Envoy's local rate limit, where their handler says so
//! ([`crate::QUOTA_SCOPE_ANNOTATION`]).

use std::collections::BTreeMap;

use super::Compiler;
use super::attribute::Subject;
use super::expression::{Cases, Term};
use super::matcher::{Fact, Matcher};
use super::mutation::{HeaderText, Values};
use super::reason::Reason;
use super::refusal::is_plain;
use crate::rules::{QuotaAction, Rule};
use crate::workload::ServiceView;
use config::adapters::{Code, Limit, QuotaLimit};

/// Shortest window, in nanoseconds: Envoy refuses buckets that are filled more often.
const MIN_WINDOW: i64 = 50_000_000;

/// Requests that a proxy lets pass by its own count: so many at once, and as many again in each window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bucket {
    /// The rule, `NAME.NAMESPACE`.
    pub rule: String,
    /// The quota, as the refusal names it.
    pub quota: String,
    /// Which requests are counted.
    pub when: Matcher,
    /// What they are told apart by; each value has a bucket of its own.
    pub dimensions: Vec<(String, Dimension)>,
    /// Requests in a window, at least one.
    pub requests: u32,
    /// Nanoseconds, at least 50 ms.
    pub window: i64,
    /// HTTP status of the refusal.
    pub http_status: u16,
}

/// What requests are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// A value of the request. The last one's condition is [`Matcher::Always`].
    Value(Values),
    /// The connection's own address.
    SourceIp,
}

impl Bucket {
    /// The conditions of its values, and its own.
    pub fn conditions(&self) -> impl Iterator<Item = &Matcher> {
        let values = self
            .dimensions
            .iter()
            .filter_map(|(_, dimension)| match dimension {
                Dimension::Value(values) => Some(&values.0),
                Dimension::SourceIp => None,
            });
        values.flatten().map(|(when, _)| when).chain([&self.when])
    }
}

/// A dimension at one workload.
enum Found {
    /// The same for every request.
    Constant(String),
    Varying(Dimension),
}

impl Compiler<'_> {
    /// The buckets of a rule's quotas; none for those that nobody is charged.
    ///
    /// # Errors
    /// Why Mixer counts them.
    pub(crate) fn buckets(&self, rule: &Rule) -> Result<Vec<Bucket>, Reason> {
        let mut charged = rule.quotas.iter().filter(|action| self.may_charge(action));
        if charged.any(|action| !action.per_proxy) {
            return Err(Reason::Pooled);
        }
        if rule.sampling.is_some() {
            return Err(Reason::Sampled);
        }
        let when = match &rule.condition.0 {
            Some(expression) => self.environment.truth(expression.root())?.yes,
            None => Matcher::Always,
        };
        let mut buckets = Vec::new();
        for action in &rule.quotas {
            buckets.extend(self.bucket(rule, action, &when)?);
        }
        let size = buckets.iter().flat_map(Bucket::conditions).map(Matcher::size);
        match size.sum::<usize>() {
            size if size > super::MAX_SIZE => Err(Reason::Large),
            // What Mixer is asked with the check it would charge with it.
            _ if rule.remote_quota.is_some() => Err(Reason::Quota),
            _ => Ok(buckets),
        }
    }

    fn may_charge(&self, action: &QuotaAction) -> bool {
        let mut services = self.own.services.iter();
        services.any(|service| self.rules.quota_specs.may_charge(service, &action.quota))
    }

    fn bucket(&self, rule: &Rule, action: &QuotaAction, when: &Matcher) -> Result<Option<Bucket>, Reason> {
        let charge = self.charge(&action.quota)?;
        let (Some(quota), true) = (&action.limit, charge > 0) else {
            return Ok(None);
        };
        let (mut constant, mut dimensions) = (BTreeMap::new(), Vec::new());
        for (name, expression) in &action.dimensions {
            if !is_plain(expression.root()) {
                return Err(Reason::Function("a dimension"));
            }
            match found(name, &self.environment.cases(expression.root())?)? {
                Found::Constant(value) => _ = constant.insert(name.as_str(), value),
                Found::Varying(dimension) => dimensions.push((name.clone(), dimension)),
            }
        }
        let limit = limit(quota, &constant, &dimensions)?;
        if limit.window < MIN_WINDOW {
            return Err(Reason::Window(action.quota.clone()));
        }
        let requests = u32::try_from(limit.amount / charge).unwrap_or(u32::MAX);
        if requests == 0 {
            return Err(Reason::NoUnits(action.quota.clone()));
        }
        Ok(Some(Bucket {
            rule: rule.full_name(),
            quota: action.quota.clone(),
            when: when.clone(),
            dimensions,
            requests,
            window: limit.window,
            http_status: Code::RESOURCE_EXHAUSTED.http(),
        }))
    }

    /// What each request to these ports is charged: the most that any service there says.
    fn charge(&self, quota: &str) -> Result<u64, Reason> {
        let of = |service: &Option<&ServiceView>| match service {
            Some(service) => self.rules.quota_specs.charge_of_all(service, quota),
            None => Some(0),
        };
        let charges = self.services.iter().map(of).collect::<Option<Vec<u64>>>();
        let charges = charges.ok_or_else(|| Reason::Chosen(quota.to_owned()))?;
        match (charges.iter().min(), charges.iter().max()) {
            // Where it is not known which port is meant, all must say the same.
            (Some(least), Some(most)) if least != most && self.port.is_none() => {
                Err(Reason::Chosen(quota.to_owned()))
            }
            (_, most) => Ok(most.copied().unwrap_or(0)),
        }
    }
}

fn found(name: &str, cases: &Cases<'_>) -> Result<Found, Reason> {
    if cases.absent != Matcher::Never {
        return Err(Reason::Dimension(name.to_owned()));
    }
    if let [(Matcher::Always, term)] = cases.values.as_slice() {
        match term {
            Term::Known(value) => return Ok(Found::Constant(value.to_string())),
            Term::SourceIp => return Ok(Found::Varying(Dimension::SourceIp)),
            Term::Text(_) => {}
        }
    }
    let mut values = Vec::new();
    for (when, term) in &cases.values {
        let value = match term {
            // Only told apart by, not shown: so with its scheme it is as good.
            Term::Text(Subject::Principal) => HeaderText::Fact(Fact::PeerUri),
            term => HeaderText::of(term)?,
        };
        values.push((when.clone(), value));
    }
    // One of them holds for every request.
    if let Some((when, _)) = values.last_mut() {
        *when = Matcher::Always;
    }
    Ok(Found::Varying(Dimension::Value(Values(values))))
}

/// The first override that holds, else the quota's own limit.
fn limit(
    quota: &QuotaLimit,
    constant: &BTreeMap<&str, String>,
    varying: &[(String, Dimension)],
) -> Result<Limit, Reason> {
    for (wanted, limit) in &quota.overrides {
        let varies = |name: &str| varying.iter().any(|(other, _)| other == name);
        let never = wanted
            .iter()
            .any(|(name, value)| !varies(name) && constant.get(name.as_str()) != Some(value));
        match wanted.keys().find(|name| varies(name)) {
            _ if never => {}
            Some(name) => return Err(Reason::Override(name.clone())),
            None => return Ok(*limit),
        }
    }
    Ok(quota.limit)
}
