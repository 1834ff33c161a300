//! What the Mixer API asks of the engine beyond what Envoy's own APIs do: verdicts on requests that are read already, and
//! grants of quotas that the caller names.

use std::sync::Arc;

use policy::{Charge, Code, Due, QuotaDenial, Request, Store, Verdict};

use super::{Engine, Undecided};
use crate::adapters::Adapters;
use crate::meters::Outcome;
use crate::policies::Policies;

/// What a caller gets of a quota.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grant {
    /// Units.
    pub(crate) amount: u64,
    /// Nanoseconds for which the answer holds, when the quota has a window.
    pub(crate) valid: Option<i64>,
    /// Why it cannot be told how many.
    pub(crate) failure: Option<(Code, String)>,
}

impl Engine {
    /// Decides on a request as far as no adapter must be asked; [`Engine::consulted`] asks them.
    pub(crate) fn weigh(&self, policies: &Policies, request: &Request<'_>) -> Verdict {
        let verdict = policies.rules.check(request, None);
        for (rule, error) in &verdict.errors {
            self.rule_failed(rule, error);
        }
        verdict
    }

    /// The verdict with the answers of the adapters that it waits for. Counts the check.
    pub(crate) async fn consulted(&self, policies: &Arc<Policies>, verdict: Verdict) -> Verdict {
        let verdict = policies.adapters.consult(verdict).await;
        let code = verdict.code.name();
        self.meters.checks.get_or_create(&Outcome { code }).inc();
        verdict
    }

    /// Takes note that a call cannot be decided.
    pub(crate) fn refused(&self, why: Undecided) -> Undecided {
        self.undecided(&why);
        self.meters
            .checks
            .get_or_create(&Outcome { code: "UNAVAILABLE" })
            .inc();
        why
    }

    /// Charges what a caller wants of a quota: of several limits the least counts. With `best_effort` fewer units than wanted
    /// are granted where there are no more.
    pub(crate) async fn grant(
        &self,
        adapters: &Adapters,
        due: Result<Vec<Due>, Box<QuotaDenial>>,
        wanted: u64,
        best_effort: bool,
    ) -> Grant {
        let mut grant = Grant {
            amount: wanted,
            valid: None,
            failure: None,
        };
        let due = match due {
            Ok(due) => due,
            Err(denial) => {
                grant.amount = 0;
                grant.failure = failure(&denial);
                return grant;
            }
        };
        for mut one in due {
            one.amount = grant.amount;
            match self.grant_one(adapters, &mut one, best_effort).await {
                Ok(amount) => grant.amount = amount,
                Err(denial) => {
                    grant.amount = 0;
                    grant.failure = failure(&denial);
                }
            }
            let window = Some(one.limit.window).filter(|window| *window > 0);
            grant.valid = match (grant.valid, window) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if grant.amount == 0 {
                break;
            }
        }
        let code = if grant.amount > 0 {
            "OK"
        } else {
            "RESOURCE_EXHAUSTED"
        };
        self.meters.quotas.get_or_create(&Outcome { code }).inc();
        grant
    }

    async fn grant_one(
        &self,
        adapters: &Adapters,
        due: &mut Due,
        best_effort: bool,
    ) -> Result<u64, Box<QuotaDenial>> {
        if let Store::Adapter(handler, instance) = &due.store {
            let granted = adapters.quota(handler, instance, due.amount, best_effort).await;
            // Of an adapter that is away, what the rule says.
            return granted.or_else(|why| due.unanswered(&why).map(|()| due.amount));
        }
        let Some(charge) = self.charge_once(due).await? else {
            // The store is away, and the rule lets requests pass then.
            return Ok(due.amount);
        };
        if charge.granted {
            return Ok(due.amount);
        }
        if !best_effort || charge.remaining == 0 || charge.remaining >= due.amount {
            return Ok(0);
        }
        due.amount = charge.remaining;
        let again = self.charge_once(due).await?;
        Ok(again.map_or(due.amount, |charge| if charge.granted { due.amount } else { 0 }))
    }

    /// One charge; `None` when its store did not answer and the rule fails open.
    async fn charge_once(&self, due: &Due) -> Result<Option<Charge>, Box<QuotaDenial>> {
        let now = self.clock.now();
        match &due.store {
            // Adapters grant by themselves.
            Store::Memory | Store::Adapter(..) => Ok(Some(due.grant(&mut self.windows.lock(), now))),
            Store::Redis(server, algorithm) => {
                let asked = match self.stores.of(server) {
                    Ok(redis) => redis.charge(*algorithm, due, now).await,
                    Err(away) => Err(away),
                };
                match asked {
                    Ok(charge) => Ok(Some(charge)),
                    Err(away) => self.answered(due, &server.place, Err(away)).map(|()| None),
                }
            }
        }
    }

    /// The engine's clock, in nanoseconds.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now()
    }
}

/// A used-up quota is no failure.
fn failure(denial: &QuotaDenial) -> Option<(Code, String)> {
    (denial.code != Code::RESOURCE_EXHAUSTED).then(|| (denial.code, denial.body.clone()))
}
