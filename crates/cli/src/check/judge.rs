//! What the facts say of an installation. Pure: facts in, rows out.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// Oldest minor version of Kubernetes 1 that the charts install on.
const OLDEST: u32 = 27;

/// What became of a question to the API server.
#[derive(Debug, Clone)]
pub(super) enum Seen {
    /// The object, or a list.
    There(Value),
    /// There is none.
    Absent,
    /// The caller may not read it; the API server's words.
    Refused(String),
}

/// What was read.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) version: (String, String),
    pub(super) definitions: Seen,
    pub(super) deployments: Seen,
    pub(super) mesh: Seen,
    pub(super) roots: Seen,
    pub(super) validating: Seen,
    pub(super) mutating: Seen,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Well,
    /// Worth knowing; nothing fails by it.
    Unknown,
    Wrong,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Well => "ok",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) object: String,
    pub(super) state: State,
    pub(super) message: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8} {:44} {}", self.state.name(), self.object, self.message)
    }
}

pub(super) fn row(object: impl Into<String>, verdict: Result<String, String>) -> Row {
    let (state, message) = match verdict {
        Ok(message) => (State::Well, message),
        Err(message) => (State::Wrong, message),
    };
    Row {
        object: object.into(),
        state,
        message,
    }
}

/// All rows.
pub(super) fn judge(facts: &Facts, namespace: &str) -> Vec<Row> {
    let mut rows = vec![row("Kubernetes", version(&facts.version))];
    rows.push(look(
        "definitions of kinds",
        &facts.definitions,
        "install the chart base",
        definitions,
    ));
    rows.extend(deployments(&facts.deployments, namespace));
    let map = |name: &str| format!("ConfigMap {namespace}/{name}");
    rows.push(look(map("istio"), &facts.mesh, "install the chart base", mesh));
    let help = "Citadel writes it once it runs; see its log";
    rows.push(look(map("istio-ca-root-cert"), &facts.roots, help, roots));
    let name = "ValidatingWebhookConfiguration argosy-galley";
    rows.push(look(
        name,
        &facts.validating,
        "install the chart galley, webhook.enabled",
        validating,
    ));
    rows.extend(mutating(&facts.mutating));
    rows
}

fn look(
    object: impl Into<String>,
    seen: &Seen,
    help: &str,
    judge: fn(&Value) -> Result<String, String>,
) -> Row {
    match seen {
        Seen::There(value) => row(object, judge(value)),
        Seen::Absent => row(object, Err(format!("is not there; {help}"))),
        Seen::Refused(words) => Row {
            object: object.into(),
            state: State::Unknown,
            message: words.clone(),
        },
    }
}

pub(super) fn version((major, minor): &(String, String)) -> Result<String, String> {
    let number: String = minor.chars().take_while(char::is_ascii_digit).collect();
    let text = format!("{major}.{minor}");
    match number.parse::<u32>() {
        Ok(minor) if major == "1" && minor < OLDEST => {
            Err(format!("{text} is older than 1.{OLDEST}; upgrade the cluster"))
        }
        _ => Ok(text),
    }
}

pub(super) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.get("items").and_then(Value::as_array).into_iter().flatten()
}

pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn has_condition(value: &Value, kind: &str) -> bool {
    let conditions = value.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|one| text(one, "/type") == kind && text(one, "/status") == "True")
}

fn definitions(list: &Value) -> Result<String, String> {
    let established: BTreeSet<&str> = items(list)
        .filter(|one| has_condition(one, "Established"))
        .map(|one| text(one, "/metadata/name"))
        .collect();
    let ours = config::crd::all();
    let missing: Vec<&str> = ours
        .iter()
        .map(|one| text(one, "/metadata/name"))
        .filter(|name| !established.contains(name))
        .collect();
    match missing.as_slice() {
        [] => Ok(format!("all {} are established", ours.len())),
        [first, rest @ ..] => Err(format!(
            "{first} and {} others are missing; install or upgrade the chart base",
            rest.len()
        )),
    }
}

fn deployments(seen: &Seen, namespace: &str) -> Vec<Row> {
    let list = match seen {
        Seen::There(list) if items(list).next().is_some() => list,
        Seen::There(_) | Seen::Absent => {
            let help = "has no Deployment of Argosy; install the chart argosy there";
            return vec![row(format!("namespace {namespace}"), Err(help.to_owned()))];
        }
        Seen::Refused(_) => return vec![look("Deployments", seen, "", |_| Ok(String::new()))],
    };
    items(list)
        .map(|one| {
            row(
                format!("Deployment {namespace}/{}", text(one, "/metadata/name")),
                deployment(one),
            )
        })
        .collect()
}

fn deployment(one: &Value) -> Result<String, String> {
    let number = |pointer: &str| one.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let (wanted, ready) = (number("/spec/replicas"), number("/status/readyReplicas"));
    let updated = number("/status/updatedReplicas");
    let current = number("/metadata/generation") == number("/status/observedGeneration");
    match current && updated >= wanted && ready >= wanted {
        true => Ok(format!("{ready}/{wanted} ready")),
        false => Err(format!(
            "{ready}/{wanted} ready, {updated} of the newest version; kubectl describe pods and /readyz say what they wait for"
        )),
    }
}

fn mesh(map: &Value) -> Result<String, String> {
    match text(map, "/data/mesh") {
        "" => Err("has no key mesh; set meshConfig in the values of the chart base".to_owned()),
        _ => Ok("there".to_owned()),
    }
}

fn roots(map: &Value) -> Result<String, String> {
    match text(map, "/data/root-cert.pem")
        .matches("BEGIN CERTIFICATE")
        .count()
    {
        0 => Err("has no certificate; see Citadel's log".to_owned()),
        count => Ok(format!("{count} trusted")),
    }
}

pub(super) fn hooks(configuration: &Value) -> impl Iterator<Item = &Value> {
    configuration
        .get("webhooks")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn certified(configuration: &Value) -> Result<(), String> {
    match hooks(configuration).find(|hook| text(hook, "/clientConfig/caBundle").is_empty()) {
        None => Ok(()),
        Some(hook) => Err(format!(
            "{} has no caBundle yet; its service writes it once it has a certificate",
            text(hook, "/name")
        )),
    }
}

fn validating(configuration: &Value) -> Result<String, String> {
    certified(configuration)?;
    match hooks(configuration).all(|hook| text(hook, "/failurePolicy") == "Fail") {
        true => Ok("refuses what is wrong".to_owned()),
        false => Err("failurePolicy is still Ignore; Galley's log says what it waits for".to_owned()),
    }
}

/// There may be none: not every mesh injects.
fn mutating(seen: &Seen) -> Vec<Row> {
    let name = |one: &Value| format!("MutatingWebhookConfiguration {}", text(one, "/metadata/name"));
    match seen {
        Seen::There(list) => items(list)
            .map(|one| row(name(one), certified(one).map(|()| "injects".to_owned())))
            .collect(),
        Seen::Absent => Vec::new(),
        Seen::Refused(_) => vec![look("MutatingWebhookConfigurations", seen, "", |_| {
            Ok(String::new())
        })],
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole() -> Facts {
        let definitions: Vec<Value> = config::crd::all()
            .iter()
            .map(|one| json!({"metadata": one["metadata"], "status": {"conditions": [{"type": "Established", "status": "True"}]}}))
            .collect();
        let deployment = json!({
            "metadata": {"name": "pilot", "generation": 2}, "spec": {"replicas": 2},
            "status": {"observedGeneration": 2, "readyReplicas": 2, "updatedReplicas": 2},
        });
        let hook = json!({"name": "h", "failurePolicy": "Fail", "clientConfig": {"caBundle": "eA=="}});
        Facts {
            version: ("1".to_owned(), "34+".to_owned()),
            definitions: Seen::There(json!({"items": definitions})),
            deployments: Seen::There(json!({"items": [deployment]})),
            mesh: Seen::There(json!({"data": {"mesh": "{}"}})),
            roots: Seen::There(json!({"data": {"root-cert.pem": "-----BEGIN CERTIFICATE-----"}})),
            validating: Seen::There(json!({"webhooks": [hook]})),
            mutating: Seen::There(
                json!({"items": [{"metadata": {"name": "argosy-injector"}, "webhooks": [hook]}]}),
            ),
        }
    }

    /// What is wrong after the change, as `object: message`.
    fn check(change: impl FnOnce(&mut Facts), expected: &[&str]) {
        let mut facts = whole();
        change(&mut facts);
        let rows = judge(&facts, "argosy-system");
        let wrong: Vec<String> = rows
            .iter()
            .filter(|row| row.state == State::Wrong)
            .map(|row| format!("{}: {}", row.object, row.message))
            .collect();
        assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
        for (wrong, expected) in wrong.iter().zip(expected) {
            assert!(wrong.contains(expected), "{wrong} has no {expected:?}");
        }
    }

    fn edit(seen: &mut Seen, pointer: &str, to: Value) {
        let Seen::There(value) = seen else { return };
        *value.pointer_mut(pointer).unwrap() = to;
    }

    #[test]
    fn an_installation_that_is_whole_has_nothing_wrong() {
        check(|_| {}, &[]);
    }

    #[test]
    fn each_missing_part_is_named_with_the_way_out() {
        check(|f| f.version.1 = "26".to_owned(), &["1.26 is older than 1.27"]);
        check(
            |f| f.deployments = Seen::Absent,
            &["no Deployment of Argosy; install the chart argosy"],
        );
        check(
            |f| edit(&mut f.deployments, "/items/0/status/readyReplicas", json!(1)),
            &["pilot: 1/2 ready"],
        );
        check(
            |f| edit(&mut f.deployments, "/items/0/status/observedGeneration", json!(1)),
            &["pilot: 2/2 ready"],
        );
        check(
            |f| edit(&mut f.definitions, "/items/0/status", json!({})),
            &["and 0 others are missing"],
        );
        check(
            |f| edit(&mut f.roots, "/data", json!({})),
            &["has no certificate"],
        );
        check(|f| f.mesh = Seen::Absent, &["istio: is not there"]);
        check(
            |f| edit(&mut f.validating, "/webhooks/0/failurePolicy", json!("Ignore")),
            &["still Ignore"],
        );
        check(
            |f| edit(&mut f.mutating, "/items/0/webhooks/0/clientConfig", json!({})),
            &["argosy-injector: h has no caBundle"],
        );
    }

    #[test]
    fn what_may_not_be_read_is_no_fault() {
        check(|f| f.definitions = Seen::Refused("forbidden".to_owned()), &[]);
        check(|f| f.mutating = Seen::Refused("forbidden".to_owned()), &[]);
    }
}
