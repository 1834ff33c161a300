//! Whether the proxy can serve, and if not, why.

use std::sync::Arc;

use parking_lot::Mutex;
use runtime::Readiness;
use tokio::sync::watch;

use crate::{
    envoy::{AdminClient, State},
    forward::Link,
};

/// The proxy as it is known so far; its parts come as the agent starts. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct View(Arc<Mutex<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    link: Option<Arc<Link>>,
    envoy: Option<Envoy>,
}

#[derive(Debug, Clone)]
struct Envoy {
    state: watch::Receiver<State>,
    admin: AdminClient,
}

impl View {
    /// The way to Pilot is known.
    pub fn set_link(&self, link: Arc<Link>) {
        self.0.lock().link = Some(link);
    }

    /// Envoy is supervised, its admin interface known.
    pub fn set_envoy(&self, state: watch::Receiver<State>, admin: AdminClient) {
        self.0.lock().envoy = Some(Envoy { state, admin });
    }

    /// A client of Envoy's admin interface.
    pub fn envoy_admin(&self) -> Option<AdminClient> {
        self.0.lock().envoy.as_ref().map(|envoy| envoy.admin.clone())
    }

    /// What keeps the proxy from serving, a line each; empty when it is ready.
    pub async fn missing(&self, readiness: &Readiness) -> Vec<String> {
        let conditions = readiness.missing().into_iter();
        let mut missing: Vec<String> = conditions
            .map(|missing| format!("{}: {}", missing.condition, missing.reason))
            .collect();
        if let Some(reason) = self.envoy().await {
            missing.push(format!("envoy: {reason}"));
            let away = self.0.lock().link.as_ref().and_then(|link| link.away());
            missing.extend(away.map(|reason| format!("pilot: {reason}")));
        }
        missing
    }

    async fn envoy(&self) -> Option<String> {
        let Some(envoy) = self.0.lock().envoy.clone() else {
            return Some("not started: it waits for the certificate and the workload".to_owned());
        };
        let state = envoy.state.borrow().clone();
        match state {
            State::Running { .. } => match envoy.admin.serving().await {
                Ok(serving) => serving.err(),
                Err(error) => Some(error.to_string()),
            },
            State::NotStarted => Some("not started yet".to_owned()),
            State::Waiting { why } => Some(format!("will be started again. {why}")),
            State::Draining => Some("draining".to_owned()),
            State::Ended => Some("ended".to_owned()),
        }
    }
}
