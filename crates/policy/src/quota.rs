//! Charges quotas.

use config::ObjectKey;
use expr::Value;

use crate::request::Request;
use crate::rules::{QuotaAction, Rule, Rules};
use crate::status::Code;
use crate::window::{Charge, Limit, Windows};

/// A quota that refused a request.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaDenial {
    /// The quota: the instance's name.
    pub quota: String,
    /// The rule by which it applies.
    pub rule: ObjectKey,
    /// `RESOURCE_EXHAUSTED`, or `INTERNAL` when a dimension could not be evaluated.
    pub code: Code,
    /// Shown to the client: `RESOURCE_EXHAUSTED:Quota is exhausted for: NAME`, as Istio 1.4 has it.
    pub body: String,
    /// Nanoseconds until units come back, when known.
    pub retry_after: Option<i64>,
}

impl Rules {
    /// Charges the quotas of one rule (`NAME.NAMESPACE`) that apply to the request. A rule that does not exist any more,
    /// or has no quota, charges nothing. `now` is in nanoseconds.
    ///
    /// # Errors
    /// The first quota that refuses; those before it stay charged, as in Istio.
    pub fn quota(
        &self,
        rule: &str,
        request: &Request<'_>,
        windows: &mut Windows,
        now: i64,
    ) -> Result<(), Box<QuotaDenial>> {
        let namespace = request.destination.workload.map(|w| w.namespace.as_str());
        match self.of(namespace).find(|known| known.is_named(rule)) {
            Some(rule) => self.charge_rule(rule, request, windows, now),
            None => Ok(()),
        }
    }

    /// Charges the quotas that rate limit descriptors cannot express and that a check therefore answers for.
    ///
    /// # Errors
    /// The first quota that refuses.
    pub fn remote_quotas(
        &self,
        request: &Request<'_>,
        fail_open: Option<bool>,
        windows: &mut Windows,
        now: i64,
    ) -> Result<(), Box<QuotaDenial>> {
        let namespace = request.destination.workload.map(|w| w.namespace.as_str());
        for rule in self.of(namespace).filter(|rule| rule.remote_quota.is_some()) {
            if fail_open.is_none_or(|fail_open| rule.fail_open == fail_open) {
                self.charge_rule(rule, request, windows, now)?;
            }
        }
        Ok(())
    }

    /// Whether [`Rules::remote_quotas`] has anything to do for destinations in `namespace`.
    pub fn has_remote_quotas(&self, namespace: Option<&str>) -> bool {
        self.of(namespace).any(|rule| rule.remote_quota.is_some())
    }

    fn charge_rule(
        &self,
        rule: &Rule,
        request: &Request<'_>,
        windows: &mut Windows,
        now: i64,
    ) -> Result<(), Box<QuotaDenial>> {
        let Some(service) = request.service else {
            return Ok(());
        };
        for action in &rule.quotas {
            let amount = self.quota_specs.amount(service, &action.quota, request);
            if amount == 0 {
                continue;
            }
            match rule.condition.holds(request) {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                Err(error) => return Err(broken(rule, action, &error.to_string())),
            }
            let charge =
                charge(action, request, amount, windows, now).map_err(|e| broken(rule, action, &e))?;
            if !charge.granted {
                return Err(Box::new(QuotaDenial {
                    quota: action.quota.clone(),
                    rule: rule.key.clone(),
                    code: Code::RESOURCE_EXHAUSTED,
                    body: format!("RESOURCE_EXHAUSTED:Quota is exhausted for: {}", action.quota),
                    retry_after: charge.reset,
                }));
            }
        }
        Ok(())
    }
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

fn charge(
    action: &QuotaAction,
    request: &Request<'_>,
    amount: u64,
    windows: &mut Windows,
    now: i64,
) -> Result<Charge, String> {
    let mut dimensions: Vec<(&str, String)> = Vec::with_capacity(action.dimensions.len());
    for (name, expression) in &action.dimensions {
        let value: Value<'_> = expression
            .eval(request)
            .map_err(|e| format!("dimension {name}: {e}"))?;
        dimensions.push((name, value.to_string()));
    }
    let Some(limit) = limit(action, &dimensions) else {
        return Ok(Charge {
            granted: false,
            remaining: 0,
            reset: None,
        });
    };
    Ok(windows.charge(&key(action, &dimensions), limit, amount, now))
}

/// The first override whose dimensions all match, else the quota's own limit.
fn limit(action: &QuotaAction, dimensions: &[(&str, String)]) -> Option<Limit> {
    let quota = action.limit.as_ref()?;
    let matches = |wanted: &std::collections::BTreeMap<String, String>| {
        wanted
            .iter()
            .all(|(name, value)| dimensions.iter().any(|(n, v)| n == name && v == value))
    };
    let found = quota.overrides.iter().find(|(wanted, _)| matches(wanted));
    Some(found.map_or(quota.limit, |(_, limit)| *limit))
}

/// Handler, quota and dimensions; lengths keep made-up values apart.
fn key(action: &QuotaAction, dimensions: &[(&str, String)]) -> String {
    let mut key = format!("{}\n{}", action.handler, action.quota);
    for (name, value) in dimensions {
        key.push_str(&format!("\n{name}={}:{value}", value.len()));
    }
    key
}
