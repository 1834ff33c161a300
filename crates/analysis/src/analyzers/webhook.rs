//! Injection webhooks that overlap, or that no Service serves.

use std::collections::{BTreeMap, BTreeSet};

use config::kube::{Webhook, WebhookConfiguration};
use config::selector::LabelSelector;
use config::{Kind, Object};

use crate::analyzer::Check;
use crate::selector::{Labels, matches};
use crate::workload::{INJECT, INJECTION, REVISION, label};
use crate::{Analyzer, Code, Report, Set};

/// Whether each pod is injected once, by a control plane that is there.
pub(crate) const WEBHOOKS: Analyzer = Analyzer::new(
    "webhook.Analyzer",
    "Injection webhooks that overlap, or that no Service serves",
    &[Code::InvalidWebhook],
    &[Kind::MutatingWebhookConfiguration, Kind::Service],
    Check::Mesh(run),
);

/// A webhook by its full name, `CONFIGURATION/WEBHOOK`.
type Named<'a> = BTreeMap<String, (&'a Object, &'a Webhook)>;

fn run(set: &Set<'_>, report: &mut Report) {
    let mut webhooks = Named::new();
    let mut revisions = BTreeSet::new();
    for (object, configuration) in set.injectors() {
        let own = revisions_of(object, configuration);
        let istio = configuration
            .webhooks
            .iter()
            .any(|webhook| webhook.name.ends_with("istio.io"));
        if own.is_empty() && !istio {
            continue;
        }
        revisions.extend(own);
        for webhook in &configuration.webhooks {
            let name = format!("{}/{}", object.meta.name, webhook.name);
            webhooks.insert(name, (object, webhook));
        }
    }
    overlaps(&webhooks, &revisions, report);
    for (object, webhook) in webhooks.values() {
        let Some(service) = &webhook.client_config.service else {
            continue;
        };
        if set
            .get(Kind::Service, &service.namespace, &service.name)
            .is_none()
        {
            let what = format!("there is no Service {}/{}", service.namespace, service.name);
            report.say(Code::InvalidWebhook, object, "webhooks", &[&what]);
        }
    }
}

/// Tries each kind of namespace with each kind of pod; not more than one webhook may select them.
fn overlaps(webhooks: &Named<'_>, revisions: &BTreeSet<&str>, report: &mut Report) {
    let namespaces = variants(INJECTION, ["enabled", "disabled"], revisions);
    let pods = variants(INJECT, ["true", "false"], revisions);
    let mut said = BTreeSet::new();
    for namespace in &namespaces {
        // Which webhooks a namespace's labels leave does not depend on the pod.
        let left: Vec<_> = webhooks
            .iter()
            .filter(|(_, (_, webhook))| matches(webhook.namespace_selector.as_ref(), namespace))
            .collect();
        for pod in &pods {
            let selecting: Vec<_> = left
                .iter()
                .filter(|(_, (_, webhook))| matches(webhook.object_selector.as_ref(), pod))
                .collect();
            if selecting.len() < 2 {
                continue;
            }
            for (name, (object, _)) in &selecting {
                let others: Vec<&str> = selecting
                    .iter()
                    .map(|(other, _)| other.as_str())
                    .filter(|other| other != name)
                    .collect();
                let what = format!(
                    "pods may be injected twice: {} selects them too",
                    others.join(", ")
                );
                if said.insert((*name, what.clone())) {
                    report.say(Code::InvalidWebhook, object, "webhooks", &[&what]);
                }
            }
        }
    }
}

/// Sets of labels: the key absent or with either value, without a revision and with each.
fn variants(key: &str, values: [&str; 2], revisions: &BTreeSet<&str>) -> Vec<Labels> {
    let one = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut base = vec![Labels::new()];
    base.extend(values.map(|value| Labels::from([one(key, value)])));
    let of_revision = revisions.iter().flat_map(|revision| {
        base.iter().map(|labels| {
            let mut labels = labels.clone();
            labels.extend([one(REVISION, revision)]);
            labels
        })
    });
    let of_revision: Vec<Labels> = of_revision.collect();
    base.extend(of_revision);
    base
}

/// The revisions that a configuration is labelled with or selects.
fn revisions_of<'a>(object: &'a Object, configuration: &'a WebhookConfiguration) -> BTreeSet<&'a str> {
    let mut found: BTreeSet<&str> = label(object, REVISION).into_iter().collect();
    let webhooks = configuration.webhooks.iter();
    let selectors = webhooks.flat_map(|webhook| [&webhook.namespace_selector, &webhook.object_selector]);
    for selector in selectors.flatten() {
        found.extend(selected_revisions(selector));
    }
    found
}

fn selected_revisions(selector: &LabelSelector) -> impl Iterator<Item = &str> {
    let exact = selector.match_labels.get(REVISION);
    let expressions = selector.match_expressions.iter().filter(|e| e.key == REVISION);
    exact
        .into_iter()
        .chain(expressions.flat_map(|expression| &expression.values))
        .map(String::as_str)
}
