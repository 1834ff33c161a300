//! What has to change in a webhook's configuration so that the API server trusts this webhook and relies on it.
//!
//! Pure. The configuration is the installer's (Helm's); the service's own are `clientConfig.caBundle` of each webhook and, where
//! it validates, `failurePolicy`. They are set by server-side apply under a field manager of the service's own, so neither
//! fights the other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runtime::spiffe::SYSTEM_NAMESPACE;
use serde_json::{Value, json};

use super::certificate::{Source, Trust};

/// The label by which Kubernetes names each namespace.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// The two sorts of admission webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Refuses objects. While nobody can answer, objects pass: bad ones are left out later.
    Validating,
    /// Changes objects. Its failure policy is the installer's: a pod without its proxy would be outside of the mesh unseen.
    Mutating,
}

impl Sort {
    /// The configuration's kind.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Validating => "ValidatingWebhookConfiguration",
            Self::Mutating => "MutatingWebhookConfiguration",
        }
    }
}

/// The Kubernetes Service before the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl std::str::FromStr for Service {
    type Err = String;

    /// `NAME.NAMESPACE`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('.') {
            Some((name, namespace))
                if !name.is_empty() && !namespace.is_empty() && !namespace.contains('.') =>
            {
                Ok(Self {
                    name: name.to_owned(),
                    namespace: namespace.to_owned(),
                })
            }
            _ => Err("write NAME.NAMESPACE".to_owned()),
        }
    }
}

impl std::fmt::Display for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.name, self.namespace)
    }
}

/// How the API server reaches the webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By a Service of the cluster.
    Service(Service),
    /// By a URL with this host: the service runs outside of the cluster.
    Host(String),
}

impl Target {
    /// The name that the API server expects in the certificate.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Service(service) => format!("{service}.svc"),
            Self::Host(host) => host.clone(),
        }
    }

    fn is_of(&self, webhook: &Value) -> bool {
        let Some(client) = webhook.get("clientConfig") else {
            return false;
        };
        match self {
            Self::Service(service) => {
                let field = |name: &str| client.get("service")?.get(name)?.as_str();
                field("name") == Some(&service.name) && field("namespace") == Some(&service.namespace)
            }
            Self::Host(host) => {
                let url = client.get("url").and_then(Value::as_str).unwrap_or_default();
                let rest = url
                    .strip_prefix("https://")
                    .and_then(|rest| rest.strip_prefix(host.as_str()));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
            }
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(service) => write!(f, "the service {service}"),
            Self::Host(host) => write!(f, "https://{host}"),
        }
    }
}

/// What is to be done about a configuration.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// The object to apply; `None` when all is as it should be.
    pub apply: Option<Value>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Compares a configuration with what this webhook needs. `ready` says that the service can answer; before that a failure policy
/// of a validating webhook stays as it is. A mutating webhook's configuration is written with Citadel's roots alone, which all
/// replicas have: its replicas elect no leader, and would take turns in writing their own.
#[must_use]
pub fn plan(live: &Value, sort: Sort, target: &Target, trust: &Trust, ready: bool) -> Plan {
    let mut plan = Plan::default();
    if sort == Sort::Mutating && trust.source == Source::SelfSigned {
        return plan;
    }
    let bundle = STANDARD.encode(&trust.roots);
    let (mut entries, mut differs) = (Vec::new(), false);
    let webhooks = live.get("webhooks").and_then(Value::as_array);
    for webhook in webhooks.into_iter().flatten().filter(|each| target.is_of(each)) {
        let is = webhook
            .get("failurePolicy")
            .and_then(Value::as_str)
            .unwrap_or("Fail");
        let policy = match (trust.source, ready) {
            _ if sort == Sort::Mutating => is,
            // Other replicas' certificates would not be trusted.
            (Source::SelfSigned, _) => "Ignore",
            (Source::Citadel, false) => is,
            (Source::Citadel, true) if spares(webhook, SYSTEM_NAMESPACE) => "Fail",
            (Source::Citadel, true) => {
                plan.warnings.push(unsafe_selector(webhook));
                "Ignore"
            }
        };
        let known = webhook.pointer("/clientConfig/caBundle").and_then(Value::as_str);
        differs |= known != Some(&bundle) || is != policy;
        let mut entry = json!({ "name": webhook.get("name"), "clientConfig": { "caBundle": bundle } });
        if let (Sort::Validating, Some(entry)) = (sort, entry.as_object_mut()) {
            entry.insert("failurePolicy".to_owned(), policy.into());
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        plan.warnings.push(format!(
            "no webhook of the {} calls {target}; set its clientConfig, or --webhook-service or --webhook-host",
            sort.kind()
        ));
    }
    plan.apply = differs.then(|| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": sort.kind(),
            "metadata": { "name": live.pointer("/metadata/name") },
            "webhooks": entries,
        })
    });
    plan
}

fn unsafe_selector(webhook: &Value) -> String {
    let name = webhook.get("name").and_then(Value::as_str).unwrap_or_default();
    format!(
        "the webhook {name} stays at failurePolicy Ignore: with Fail, Galley's own namespace could not be repaired while Galley is away; add a namespaceSelector with {NAMESPACE_LABEL} NotIn [{SYSTEM_NAMESPACE}]"
    )
}

/// Whether a webhook's namespaceSelector leaves out a namespace, as far as its name tells.
fn spares(webhook: &Value, namespace: &str) -> bool {
    let Some(selector) = webhook.get("namespaceSelector") else {
        return false;
    };
    let label = selector
        .get("matchLabels")
        .and_then(|labels| labels.get(NAMESPACE_LABEL));
    if label.is_some_and(|label| label != namespace) {
        return true;
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array);
    expressions
        .into_iter()
        .flatten()
        .filter(|expression| expression.get("key").is_some_and(|key| key == NAMESPACE_LABEL))
        .any(|expression| {
            let values = expression.get("values").and_then(Value::as_array);
            let listed = values.is_some_and(|values| values.iter().any(|value| value == namespace));
            match expression.get("operator").and_then(Value::as_str) {
                Some("NotIn") => listed,
                Some("In") => !listed,
                Some("DoesNotExist") => true,
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(service: &str) -> Target {
        Target::Service(service.parse().unwrap())
    }

    fn trust(source: Source) -> Trust {
        Trust {
            source,
            roots: "PEM".to_owned(),
        }
    }

    fn live(policy: &str, bundle: Option<&str>, selector: Option<Value>) -> Value {
        let mut live = json!({
            "metadata": {"name": "argosy-galley"},
            "webhooks": [
                {"name": "other.example.com", "clientConfig": {"service": {"name": "x", "namespace": "argosy-system"}}},
                {"name": "validation.argosy.io", "failurePolicy": policy,
                 "clientConfig": {"service": {"name": "galley", "namespace": "argosy-system", "path": "/validate"}}},
            ],
        });
        if let Some(bundle) = bundle {
            live["webhooks"][1]["clientConfig"]["caBundle"] = json!(STANDARD.encode(bundle));
        }
        if let Some(selector) = selector {
            live["webhooks"][1]["namespaceSelector"] = selector;
        }
        live
    }

    fn sparing() -> Option<Value> {
        Some(
            json!({"matchExpressions": [{"key": NAMESPACE_LABEL, "operator": "NotIn", "values": ["argosy-system", "kube-system"]}]}),
        )
    }

    /// The failure policy applied; `None` when nothing is.
    #[track_caller]
    fn check(live: &Value, source: Source, ready: bool, expected: Option<&str>) {
        let target = target("galley.argosy-system");
        let plan = plan(live, Sort::Validating, &target, &trust(source), ready);
        let entry = plan.apply.as_ref().map(|apply| {
            assert_eq!(
                apply["webhooks"].as_array().unwrap().len(),
                1,
                "others are left alone"
            );
            assert_eq!(
                apply["webhooks"][0]["clientConfig"],
                json!({"caBundle": STANDARD.encode("PEM")})
            );
            apply["webhooks"][0]["failurePolicy"].as_str().unwrap()
        });
        assert_eq!(entry, expected, "{:?}", plan.warnings);
    }

    #[test]
    fn requests_are_refused_without_galley_only_when_it_was_ready_and_spares_its_own_namespace() {
        use Source::{Citadel, SelfSigned};
        check(&live("Ignore", None, sparing()), SelfSigned, true, Some("Ignore"));
        check(&live("Ignore", None, sparing()), Citadel, false, Some("Ignore"));
        check(&live("Ignore", Some("PEM"), sparing()), Citadel, false, None);
        check(
            &live("Fail", Some("OLD"), sparing()),
            Citadel,
            false,
            Some("Fail"),
        );
        check(
            &live("Ignore", Some("PEM"), sparing()),
            Citadel,
            true,
            Some("Fail"),
        );
        check(&live("Fail", Some("PEM"), sparing()), Citadel, true, None);
        check(&live("Fail", Some("PEM"), None), Citadel, true, Some("Ignore"));
        check(
            &live("Fail", Some("PEM"), sparing()),
            SelfSigned,
            true,
            Some("Ignore"),
        );
    }

    #[test]
    fn a_mutating_webhook_keeps_its_failure_policy_and_is_told_of_citadels_roots_alone() {
        let check = |bundle: Option<&str>, source: Source, expected: Option<Value>| {
            let live = live("Fail", bundle, None);
            let target = target("galley.argosy-system");
            let plan = plan(&live, Sort::Mutating, &target, &trust(source), true);
            assert_eq!(plan.warnings, [""; 0]);
            assert_eq!(plan.apply.map(|apply| apply["webhooks"].clone()), expected);
        };
        let bundle = json!({"caBundle": STANDARD.encode("PEM")});
        let entry = json!([{"name": "validation.argosy.io", "clientConfig": bundle}]);
        check(None, Source::Citadel, Some(entry));
        check(Some("PEM"), Source::Citadel, None);
        check(None, Source::SelfSigned, None);
    }

    #[test]
    fn selectors_spare_a_namespace_by_its_name() {
        let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": NAMESPACE_LABEL, "operator": operator, "values": values}]});
        for (selector, expected) in [
            (json!({}), false),
            (expression("NotIn", json!(["argosy-system"])), true),
            (expression("NotIn", json!(["kube-system"])), false),
            (expression("In", json!(["shop"])), true),
            (expression("In", json!(["shop", "argosy-system"])), false),
            (json!({"matchLabels": {NAMESPACE_LABEL: "shop"}}), true),
            (json!({"matchLabels": {"team": "shop"}}), false),
        ] {
            let webhook = json!({"namespaceSelector": selector});
            assert_eq!(spares(&webhook, "argosy-system"), expected, "{webhook}");
        }
    }

    #[test]
    fn a_configuration_for_another_service_is_left_alone_and_told() {
        let plan = plan(
            &live("Fail", None, None),
            Sort::Validating,
            &target("galley.elsewhere"),
            &trust(Source::Citadel),
            true,
        );
        assert_eq!(plan.apply, None);
        assert!(
            plan.warnings[0].contains("galley.elsewhere"),
            "{:?}",
            plan.warnings
        );
    }

    #[test]
    fn outside_of_the_cluster_the_urls_host_counts() {
        let target = Target::Host("galley.example.com".to_owned());
        for (url, expected) in [
            ("https://galley.example.com:15017/validate", true),
            ("https://galley.example.com/validate", true),
            ("https://galley.example.community/validate", false),
            ("https://other.example.com/validate", false),
        ] {
            assert_eq!(
                target.is_of(&json!({"clientConfig": {"url": url}})),
                expected,
                "{url}"
            );
        }
        assert!(!target.is_of(&json!({"clientConfig": {"service": {"name": "galley.example.com"}}})));
    }

    #[test]
    fn service_names() {
        assert_eq!(target("galley.argosy-system").name(), "galley.argosy-system.svc");
        for bad in ["galley", "galley.", ".x", "a.b.svc"] {
            assert!(bad.parse::<Service>().is_err(), "{bad}");
        }
    }
}
