//! Brings the sources together: one state of all, complete once each of them has told its first.

use std::sync::Arc;

use futures::future::select_all;
use runtime::Condition;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::merge::{Layer, merge};
use crate::store::State;

/// A source's side: where it tells its states.
#[derive(Debug)]
pub(crate) struct Outlet {
    states: watch::Sender<Option<Arc<State>>>,
    waits: watch::Sender<String>,
}

/// The other side.
#[derive(Debug)]
pub(crate) struct Inlet {
    name: Arc<str>,
    states: watch::Receiver<Option<Arc<State>>>,
    waits: watch::Receiver<String>,
}

/// A source of that name, with what it does until its first state is complete.
pub(crate) fn channel(name: &str, waits: &str) -> (Outlet, Inlet) {
    let (states, seen) = watch::channel(None);
    let (reasons, reason) = watch::channel(waits.to_owned());
    let inlet = Inlet {
        name: name.into(),
        states: seen,
        waits: reason,
    };
    (
        Outlet {
            states,
            waits: reasons,
        },
        inlet,
    )
}

impl Outlet {
    /// Tells a complete state.
    pub(crate) fn publish(&self, state: Arc<State>) {
        self.states.send_replace(Some(state));
    }

    /// Whether a state was told.
    pub(crate) fn has_published(&self) -> bool {
        self.states.borrow().is_some()
    }

    /// Tells why the first state is not complete.
    pub(crate) fn wait_for(&self, what: String) {
        self.waits.send_if_modified(|waits| {
            let news = *waits != what;
            *waits = what;
            news
        });
    }
}

/// Merges until `shutdown`. `layers` gets what each source says, `merged` what comes of it.
pub(crate) async fn run(
    mut inlets: Vec<Inlet>,
    trust_domain: String,
    layers: watch::Sender<Vec<Layer>>,
    merged: watch::Sender<Option<Arc<State>>>,
    ready: Condition,
    shutdown: CancellationToken,
) {
    loop {
        let missing = inlets.iter().find(|inlet| inlet.states.borrow().is_none());
        match missing {
            Some(inlet) => ready.set_not_ready(format!("{}: {}", inlet.name, *inlet.waits.borrow())),
            None => {
                let all: Vec<Layer> = inlets.iter_mut().filter_map(Inlet::layer).collect();
                merged.send_replace(Some(merge(&all, &trust_domain)));
                layers.send_replace(all);
                ready.set_ready();
            }
        }
        let news = select_all(inlets.iter_mut().map(|inlet| Box::pin(inlet.changed())));
        match shutdown.run_until_cancelled(news).await {
            Some((true, ..)) => {}
            Some((false, ..)) if !shutdown.is_cancelled() => {
                tracing::error!("a source of configuration has ended; what it said last is still served");
                return;
            }
            _ => return,
        }
    }
}

impl Inlet {
    #[cfg(test)]
    pub(crate) fn states(&self) -> watch::Receiver<Option<Arc<State>>> {
        self.states.clone()
    }

    fn layer(&mut self) -> Option<Layer> {
        let state = self.states.borrow_and_update().clone()?;
        Some(Layer {
            name: self.name.clone(),
            state,
        })
    }

    /// Waits for news; false when the source has ended.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            state = self.states.changed() => state.is_ok(),
            why = self.waits.changed() => why.is_ok(),
        }
    }
}
