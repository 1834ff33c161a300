//! Readiness: named conditions that must all hold before a service says that it is ready.
//!
//! It knows nothing of HTTP; `/readyz` is in [`crate::admin`].

use std::collections::BTreeMap;

use tokio::sync::watch;

/// The conditions of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct Readiness {
    state: watch::Sender<State>,
    prefix: String,
}

#[derive(Debug, Default)]
struct State {
    /// Name to reason; `None` when the condition holds.
    conditions: BTreeMap<String, Option<String>>,
    draining: bool,
}

/// A condition that does not hold, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    /// The condition's name, such as `pilot/feed`.
    pub condition: String,
    /// Why it does not hold.
    pub reason: String,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// No conditions yet: not ready, because the services have still to say what they wait for.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(State::default()),
            prefix: String::new(),
        }
    }

    /// The same readiness, with `NAME/` put before the names of conditions made from it.
    #[must_use]
    pub fn scoped(&self, name: &str) -> Self {
        Self {
            state: self.state.clone(),
            prefix: format!("{}{name}/", self.prefix),
        }
    }

    /// The same readiness without a prefix.
    #[must_use]
    pub fn root(&self) -> Self {
        Self {
            state: self.state.clone(),
            prefix: String::new(),
        }
    }

    /// Adds a condition, which does not hold until [`Condition::set_ready`]. A name given twice is one condition.
    #[must_use]
    pub fn condition(&self, name: &str) -> Condition {
        let condition = Condition {
            state: self.state.clone(),
            name: format!("{}{name}", self.prefix),
        };
        condition.set_not_ready("starting");
        condition
    }

    /// From now on not ready, for good: called when the process begins to shut down.
    pub fn drain(&self) {
        self.state.send_modify(|state| state.draining = true);
    }

    /// Whether the process has begun to shut down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state.borrow().draining
    }

    /// What is missing; empty when ready.
    #[must_use]
    pub fn missing(&self) -> Vec<Missing> {
        missing(&self.state.borrow())
    }

    /// Whether every condition holds.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.missing().is_empty()
    }

    /// Waits until every condition holds.
    pub async fn wait_ready(&self) {
        // The sender is held by self, so this cannot fail.
        let _ = self
            .state
            .subscribe()
            .wait_for(|state| missing(state).is_empty())
            .await;
    }
}

fn missing(state: &State) -> Vec<Missing> {
    let shutdown = state.draining.then(|| Missing {
        condition: "shutdown".into(),
        reason: "the process is shutting down".into(),
    });
    let starting = state.conditions.is_empty().then(|| Missing {
        condition: "start".into(),
        reason: "no service has started".into(),
    });
    let unmet = state.conditions.iter().filter_map(|(name, reason)| {
        reason.as_ref().map(|reason| Missing {
            condition: name.clone(),
            reason: reason.clone(),
        })
    });
    shutdown.into_iter().chain(starting).chain(unmet).collect()
}

/// One condition. Clones are the same condition.
#[derive(Debug, Clone)]
pub struct Condition {
    state: watch::Sender<State>,
    name: String,
}

impl Condition {
    /// It holds.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// It does not hold, and why (one sentence for the operator).
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, reason: Option<String>) {
        self.state.send_if_modified(|state| {
            let old = state.conditions.get(&self.name);
            let changed = old != Some(&reason);
            if changed {
                state.conditions.insert(self.name.clone(), reason);
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_all_conditions_hold_and_never_after_drain() {
        let readiness = Readiness::new();
        assert!(!readiness.is_ready());
        let feed = readiness.scoped("pilot").condition("feed");
        let identity = readiness.scoped("pilot").condition("identity");
        feed.set_ready();
        identity.set_not_ready("no certificate yet");
        let expected = Missing {
            condition: "pilot/identity".into(),
            reason: "no certificate yet".into(),
        };
        assert_eq!(readiness.missing(), [expected]);
        identity.set_ready();
        readiness.wait_ready().await;
        readiness.drain();
        assert_eq!(readiness.missing()[0].condition, "shutdown");
    }
}
