//! What a request owes to quotas, and what the stores' answers mean for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::ObjectKey;
use expr::{Use, Value};

use crate::backend::BackendHandler;
use crate::check::Asked;
use crate::descriptor::DescriptorFacts;
use crate::instance::InstanceValue;
use crate::request::{ReporterKind, Request};
use crate::rules::{QuotaAction, Rule, Rules};
use crate::sampling::Aspect;
use crate::window::{Charge, Units, Windows};
use config::adapters::{Algorithm, Code, Limit, RedisServer};

/// A quota that refused a request.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaDenial {
    /// The quota: the instance's name.
    pub quota: String,
    /// The rule by which it applies.
    pub rule: ObjectKey,
    /// `RESOURCE_EXHAUSTED`; `INTERNAL` when a dimension could not be evaluated, `UNAVAILABLE` when the store did not answer.
    pub code: Code,
    /// Shown to the client: `RESOURCE_EXHAUSTED:Quota is exhausted for: NAME`, as Istio 1.4 has it.
    pub body: String,
    /// Nanoseconds until units come back, when known.
    pub retry_after: Option<i64>,
}

/// Units of a quota that a request has to be granted.
#[derive(Clone, Debug)]
pub struct Due {
    /// Where the quota is counted.
    pub store: Store,
    /// The quota, by handler and instance.
    pub counted: String,
    /// Whose units of it: equal keys share them. As long as the request's values are.
    pub key: String,
    /// How many there are.
    pub limit: Limit,
    /// How many are wanted, all or none.
    pub amount: u64,
    /// Whether the request passes when the store cannot be asked, as its rule says.
    pub fail_open: bool,
    algorithm: Algorithm,
    quota: String,
    rule: ObjectKey,
}

/// Where a quota is counted.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// In Mixer's memory, by [`Windows`].
    Memory,
    /// In a Redis, shared by all who ask it.
    Redis(Arc<RedisServer>, Algorithm),
    /// By an adapter outside of the process, which is asked about the instance.
    Adapter(Arc<BackendHandler>, Box<InstanceValue>),
}

impl Due {
    /// The rule by which it is charged: `NAME.NAMESPACE`.
    pub fn rule(&self) -> String {
        format!("{}.{}", self.rule.name, self.rule.namespace)
    }

    /// What the store's answer means for the request.
    ///
    /// # Errors
    /// The refusal, when the units were not granted.
    pub fn answer(&self, charge: Charge) -> Result<(), Box<QuotaDenial>> {
        match charge.granted {
            true => Ok(()),
            false => Err(exhausted(&self.rule, &self.quota, charge.reset)),
        }
    }

    /// What a grant of so many units comes to.
    pub fn granted(&self, units: u64) -> Charge {
        Charge {
            granted: units >= self.amount,
            remaining: 0,
            reset: None,
        }
    }

    /// What it means that the store did not answer.
    ///
    /// # Errors
    /// The refusal, when the rule fails closed.
    pub fn unanswered(&self, why: &str) -> Result<(), Box<QuotaDenial>> {
        match self.fail_open {
            true => Ok(()),
            false => Err(Box::new(QuotaDenial {
                quota: self.quota.clone(),
                rule: self.rule.clone(),
                code: Code::UNAVAILABLE,
                body: format!("UNAVAILABLE:Quota cannot be asked: {}: {why}", self.quota),
                retry_after: None,
            })),
        }
    }

    /// Charges it in memory. `now` is in nanoseconds.
    ///
    /// # Errors
    /// The refusal, when the units are not granted.
    pub fn charge(&self, windows: &mut Windows, now: i64) -> Result<(), Box<QuotaDenial>> {
        self.answer(self.grant(windows, now))
    }

    /// The same, as the windows have it.
    pub fn grant(&self, windows: &mut Windows, now: i64) -> Charge {
        let units = Units {
            limit: self.limit,
            fixed: self.algorithm == Algorithm::FixedWindow,
            amount: self.amount,
        };
        windows.charge(&self.counted, &self.key, units, now)
    }
}

impl Rules {
    /// What one rule (`NAME.NAMESPACE`) charges the request. A rule that does not exist any more, or has no quota, charges
    /// nothing. The charges are to be made in order until one refuses; those before it stay charged, as in Istio.
    ///
    /// # Errors
    /// When a quota refuses without being asked: its dimensions cannot be evaluated, or it grants nothing.
    pub fn due(&self, rule: &str, request: &Request<'_>) -> Result<Vec<Due>, Box<QuotaDenial>> {
        let namespace = request.destination.workload.map(|w| w.namespace.as_str());
        let mut due = Vec::new();
        if let Some(rule) = self.of(namespace).find(|known| known.is_named(rule)) {
            self.told(request, |request| self.due_of(rule, request, &mut due))?;
        }
        Ok(due)
    }

    /// What a descriptor charges: what the rule that it names does. A rule that is not there (any more) may have got another name of
    /// which the proxy does not know yet. Instead of it each rule is charged of which the descriptor tells all that it reads, and
    /// which `asked` (`NAME.NAMESPACE`) does not have: those are charged by descriptors of their own. Quotas that each proxy may
    /// count for itself are left to the proxies.
    ///
    /// # Errors
    /// As [`Rules::due`].
    pub fn due_by(
        &self,
        facts: &DescriptorFacts,
        asked: impl Fn(&str) -> bool,
        request: &Request<'_>,
    ) -> Result<Vec<Due>, Box<QuotaDenial>> {
        let own = request.destination.workload;
        let namespace = own.map(|own| own.namespace.as_str());
        let mut due = Vec::new();
        let Some(own) = own.filter(|_| !self.of(namespace).any(|known| known.is_named(&facts.rule))) else {
            return self.due(&facts.rule, request);
        };
        for rule in self.of(namespace).filter(|rule| rule.remote_quota.is_none()) {
            let by_mixer = rule.quotas.iter().any(|action| !action.per_proxy);
            if !by_mixer || asked(&rule.full_name()) {
                continue;
            }
            let entries = self.entries(rule, own).unwrap_or_default();
            if !entries.is_empty() && entries.iter().all(|entry| facts.carries(&entry.key)) {
                self.told(request, |request| self.due_of(rule, request, &mut due))?;
            }
        }
        Ok(due)
    }

    /// What a check charges: of what arrives those quotas that rate limit descriptors cannot express, of what a gateway sends
    /// those of the rules that it asks for.
    ///
    /// # Errors
    /// As [`Rules::due`].
    pub fn check_due(&self, request: &Request<'_>, asked: &Asked<'_>) -> Result<Vec<Due>, Box<QuotaDenial>> {
        let sent = request.reporter == ReporterKind::Outbound;
        // The names of what is asked for are about checks, unless a gateway asks.
        let asked = match sent {
            true => asked.known(self, request),
            false => Asked {
                fail_open: asked.fail_open,
                rules: None,
            },
        };
        let mut due = Vec::new();
        for rule in self.about(request).filter(|rule| asked.includes(rule)) {
            if sent || rule.remote_quota.is_some() {
                self.told(request, |request| self.due_of(rule, request, &mut due))?;
            }
        }
        Ok(due)
    }

    /// What a caller charges that names the quota and the amount itself, as callers of Istio's Mixer API do: the quota as in
    /// a QuotaSpec, by the instance's name, alone or with its kind and namespace. Nothing when no rule has it for this
    /// request, and the quota then is without limit.
    ///
    /// # Errors
    /// As [`Rules::due`].
    pub fn wanted(
        &self,
        quota: &str,
        amount: u64,
        request: &Request<'_>,
    ) -> Result<Vec<Due>, Box<QuotaDenial>> {
        self.told(request, |request| self.wanted_of(quota, amount, request))
    }

    fn wanted_of(
        &self,
        quota: &str,
        amount: u64,
        request: &Request<'_>,
    ) -> Result<Vec<Due>, Box<QuotaDenial>> {
        let short = quota.split('.').next().unwrap_or_default();
        let namespace = request.destination.workload.map(|w| w.namespace.as_str());
        let mut due = Vec::new();
        for rule in self.of(namespace) {
            for action in rule.quotas.iter().filter(|action| action.quota == short) {
                if !applies(rule, action, request)? {
                    break;
                }
                due.push(charge_of(rule, action, amount, request)?);
            }
        }
        Ok(due)
    }

    /// What [`Rules::wanted`] reads to decide.
    pub fn quota_reads(&self, quota: &str, namespace: Option<&str>) -> BTreeSet<Use> {
        let short = quota.split('.').next().unwrap_or_default();
        let named = |rule: &&Arc<Rule>| rule.quotas.iter().any(|action| action.quota == short);
        let rules = self.of(namespace).filter(named);
        let mut uses = rules.flat_map(|rule| rule.quota_uses()).collect();
        self.api_specs.expand(&mut uses, None);
        uses
    }

    /// What [`Rules::check`] reads to decide on requests to a namespace.
    pub fn check_reads(&self, namespace: Option<&str>) -> BTreeSet<Use> {
        let rules = self.of(namespace).filter(|rule| rule.has_check());
        let mut uses = rules.flat_map(|rule| rule.check_uses()).collect();
        self.api_specs.expand(&mut uses, None);
        uses
    }

    fn due_of(&self, rule: &Rule, request: &Request<'_>, due: &mut Vec<Due>) -> Result<(), Box<QuotaDenial>> {
        for action in &rule.quotas {
            let amount = self.owed(&action.quota, request);
            if amount == 0 {
                continue;
            }
            if !applies(rule, action, request)? {
                return Ok(());
            }
            due.push(charge_of(rule, action, amount, request)?);
        }
        Ok(())
    }
}

impl Rules {
    /// How much of a quota is charged: the most for any service that the workload serves at the port. Which of them is meant the
    /// client says, and could name one without quota.
    fn owed(&self, quota: &str, request: &Request<'_>) -> u64 {
        let (own, port) = (request.destination.workload, request.destination.port);
        let own = own.into_iter().flat_map(|own| own.services_at(port));
        let amounts = own
            .chain(request.service)
            .map(|service| self.quota_specs.amount(service, quota, request));
        amounts.max().unwrap_or(0)
    }
}

fn applies(rule: &Rule, action: &QuotaAction, request: &Request<'_>) -> Result<bool, Box<QuotaDenial>> {
    let holds = rule.holds(Aspect::Quota, request);
    holds.map_err(|error| broken(rule, action, &error.to_string()))
}

fn charge_of(
    rule: &Rule,
    action: &QuotaAction,
    amount: u64,
    request: &Request<'_>,
) -> Result<Due, Box<QuotaDenial>> {
    if let Some((handler, instance)) = &action.outside {
        let instance = instance
            .eval(None, request)
            .map_err(|why| broken(rule, action, &why))?;
        return Ok(Due {
            store: Store::Adapter(handler.clone(), Box::new(instance)),
            counted: String::new(),
            key: String::new(),
            // The adapter knows.
            limit: Limit {
                amount: u64::MAX,
                window: 0,
            },
            amount,
            fail_open: rule.fail_open,
            algorithm: Algorithm::FixedWindow,
            quota: action.quota.clone(),
            rule: rule.key.clone(),
        });
    }
    let dimensions = dimensions(action, request).map_err(|why| broken(rule, action, &why))?;
    let Some((limit, algorithm)) = limit(action, &dimensions) else {
        return Err(exhausted(&rule.key, &action.quota, None));
    };
    Ok(Due {
        store: match &action.redis {
            Some(server) => Store::Redis(server.clone(), algorithm),
            None => Store::Memory,
        },
        counted: format!("{}\n{}", action.handler, action.quota),
        key: key(&dimensions),
        limit,
        amount,
        fail_open: rule.fail_open,
        algorithm,
        quota: action.quota.clone(),
        rule: rule.key.clone(),
    })
}

fn exhausted(rule: &ObjectKey, quota: &str, retry_after: Option<i64>) -> Box<QuotaDenial> {
    Box::new(QuotaDenial {
        quota: quota.to_owned(),
        rule: rule.clone(),
        code: Code::RESOURCE_EXHAUSTED,
        body: format!("RESOURCE_EXHAUSTED:Quota is exhausted for: {quota}"),
        retry_after,
    })
}

fn broken(rule: &Rule, action: &QuotaAction, why: &str) -> Box<QuotaDenial> {
    Box::new(QuotaDenial {
        quota: action.quota.clone(),
        rule: rule.key.clone(),
        code: Code::INTERNAL,
        body: format!("INTERNAL:Quota cannot be evaluated: {}: {why}", action.quota),
        retry_after: None,
    })
}

fn dimensions<'a>(action: &'a QuotaAction, request: &Request<'_>) -> Result<Vec<(&'a str, String)>, String> {
    let mut dimensions: Vec<(&str, String)> = Vec::with_capacity(action.dimensions.len());
    for (name, expression) in &action.dimensions {
        let value: Value<'_> = expression
            .eval(request)
            .map_err(|e| format!("dimension {name}: {e}"))?;
        dimensions.push((name, value.to_string()));
    }
    Ok(dimensions)
}

/// The first override whose dimensions all match, else the quota's own limit.
fn limit(action: &QuotaAction, dimensions: &[(&str, String)]) -> Option<(Limit, Algorithm)> {
    let quota = action.limit.as_ref()?;
    let matches = |wanted: &std::collections::BTreeMap<String, String>| {
        wanted
            .iter()
            .all(|(name, value)| dimensions.iter().any(|(n, v)| n == name && v == value))
    };
    let found = quota.overrides.iter().find(|(wanted, _)| matches(wanted));
    Some((found.map_or(quota.limit, |(_, limit)| *limit), quota.algorithm))
}

/// The dimensions; lengths keep made-up values apart.
fn key(dimensions: &[(&str, String)]) -> String {
    let mut key = String::new();
    for (name, value) in dimensions {
        key.push_str(&format!("\n{name}={}:{value}", value.len()));
    }
    key
}
