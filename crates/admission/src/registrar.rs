//! Keeps a webhook's configuration current: the shell around [`super::registration`]. The leader alone writes.

use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Client, Error};
use serde_json::Value;
use tokio::sync::watch;

use runtime::Context;

use super::certificate::Trust;
use super::registration::{Plan, Sort, Target, plan};

/// How often readiness is looked at, and a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// Which configuration is this webhook's.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Validating or mutating.
    pub sort: Sort,
    /// The configuration's name.
    pub configuration: String,
    /// The name under which the service owns its fields.
    pub manager: &'static str,
    /// How it reaches this webhook.
    pub target: Target,
}

/// Keeps the configuration current until the context's shutdown.
pub async fn run(
    client: Client,
    registration: Registration,
    mut trust: watch::Receiver<Trust>,
    mut leads: watch::Receiver<bool>,
    context: Context,
) {
    let gvk = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", registration.sort.kind());
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::from_gvk(&gvk));
    let mut watching = Box::pin(
        watch_object(api.clone(), &registration.configuration).backoff(kubernetes::Pauses::default()),
    );
    let mut registrar = Registrar {
        api,
        registration,
        told: Vec::new(),
    };
    // Unknown, until the watch has told.
    let mut live: Option<Option<DynamicObject>> = None;
    let mut ready = false;
    // Whoever tells who leads may go: what was said last stays.
    let mut elections = true;
    loop {
        let mut news = true;
        tokio::select! {
            () = context.shutdown.cancelled() => return,
            seen = watching.next() => match seen {
                Some(Ok(seen)) => live = Some(seen),
                Some(Err(error)) => registrar.tell(vec![format!("cannot watch the webhook's configuration: {error}")]),
                None => return,
            },
            changed = trust.changed() => if changed.is_err() { return },
            changed = leads.changed(), if elections => elections = changed.is_ok(),
            () = tokio::time::sleep(RETRY) => news = false,
        }
        // Once ready it stays so: what a service has read it keeps, and a source that is away is no reason to let all pass.
        let was = ready;
        ready = was || context.readiness.is_ready();
        let leading = *leads.borrow_and_update();
        if let Some(live) = &live
            && leading
            && (news || ready != was || registrar.failed())
        {
            let trust = trust.borrow_and_update().clone();
            registrar.bring(live.as_ref(), &trust, ready).await;
        }
    }
}

struct Registrar {
    api: Api<DynamicObject>,
    registration: Registration,
    /// What is in the log already.
    told: Vec<String>,
}

impl Registrar {
    fn failed(&self) -> bool {
        !self.told.is_empty()
    }

    async fn bring(&mut self, live: Option<&DynamicObject>, trust: &Trust, ready: bool) {
        let name = &self.registration.configuration;
        let Some(live) = live else {
            let text = format!(
                "there is no {} {name}, so nothing asks this webhook; install it",
                self.registration.sort.kind()
            );
            return self.tell(vec![text]);
        };
        let Ok(live) = serde_json::to_value(live) else {
            return;
        };
        let Plan { apply, mut warnings } = self.plan(&live, trust, ready);
        if let Some(apply) = apply {
            match self.apply(name, &apply).await {
                Ok(()) => {
                    tracing::info!(configuration = name, source = ?trust.source, "the webhook's configuration is current")
                }
                Err(error) => warnings.push(format!(
                    "cannot keep the webhook's configuration {name} current: {error}"
                )),
            }
        }
        self.tell(warnings);
    }

    fn plan(&self, live: &Value, trust: &Trust, ready: bool) -> Plan {
        let Registration { sort, target, .. } = &self.registration;
        plan(live, *sort, target, trust, ready)
    }

    async fn apply(&self, name: &str, apply: &Value) -> Result<(), Error> {
        // The fields are the service's, whoever wrote them last.
        let params = PatchParams::apply(self.registration.manager).force();
        self.api
            .patch(name, &params, &Patch::Apply(apply))
            .await
            .map(drop)
    }

    fn tell(&mut self, warnings: Vec<String>) {
        for warning in warnings.iter().filter(|warning| !self.told.contains(warning)) {
            tracing::warn!("{warning}");
        }
        self.told = warnings;
    }
}
