//! What proxies do for Mixer's rules by themselves, as a condition of each rule's status. `argosy explain rule` says the same in full,
//! workload by workload.
//!
//! Who decides is `policy`; here it is put into words, behind the feed and never before it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::{Finding, Kind, Object, ObjectKey};
use model::Snapshot;
use policy::{Place, Placement, Rules, WorkloadView};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::lease::Leader;
use super::wanted::Condition;
use crate::report::States;
use crate::store::State;

/// Whether proxies carry a rule out without a call.
pub const COMPILED: &str = "Compiled";
/// Shortest time between two looks at all rules and workloads.
const REST: Duration = Duration::from_secs(3);
/// What rules are compiled for, beside Mixer's own kinds.
const MESH: [Kind; 6] = [
    Kind::MeshConfig,
    Kind::Service,
    Kind::ServiceEntry,
    Kind::WorkloadEntry,
    Kind::Pod,
    Kind::EndpointSlice,
];

/// The conditions, by rule.
pub type Compiled = BTreeMap<ObjectKey, Condition>;

/// What the status of each rule says.
#[must_use]
pub fn compiled(objects: &[Arc<Object>]) -> Compiled {
    let snapshot = Snapshot::build(objects.iter().cloned());
    let (rules, findings) = Rules::build(snapshot.objects().values(), snapshot.mesh());
    let workloads = snapshot.workloads().iter();
    let placements = rules.placements(workloads.map(|workload| WorkloadView::of(&snapshot, workload)));
    let all = objects.iter().filter(|object| object.kind == Kind::Rule);
    let said = all.map(|object| {
        let key = object.key();
        let errors = findings
            .iter()
            .filter(|finding| finding.is_error() && finding.object.as_ref() == Some(&key));
        let condition = condition(placements.get(&key), &errors.collect::<Vec<_>>());
        (key, condition)
    });
    said.collect()
}

/// What is said of a rule; one of which nothing can be carried out has no placement.
fn condition(placement: Option<&Placement>, errors: &[&Finding]) -> Condition {
    let nowhere = Placement::default();
    let is_usable = placement.is_some();
    let placement = placement.unwrap_or(&nowhere);
    let places = |wanted: fn(&Place) -> bool| placement.parts.keys().any(|part| wanted(&part.place));
    let in_proxy = places(|place| *place == Place::Proxy);
    let in_mixer = places(|place| matches!(place, Place::Mixer(_)));
    let (status, reason) = match (errors.is_empty(), in_proxy, in_mixer) {
        (false, ..) => ("False", "ErrorsFound"),
        (true, true, false) => ("True", "InProxies"),
        (true, true, true) => ("False", "InPart"),
        (true, false, true) => ("False", "InMixer"),
        (true, false, false) if is_usable && placement.workloads == 0 => ("Unknown", "NoWorkloads"),
        (true, false, false) => ("False", "NothingToDo"),
    };
    let mut said = vec![match placement.workloads {
        _ if !is_usable => "it has nothing that can be carried out".to_owned(),
        0 => "it can never apply to a workload of the mesh".to_owned(),
        1 => "at 1 workload".to_owned(),
        many => format!("at {many} workloads"),
    }];
    said.extend(errors.iter().map(ToString::to_string));
    said.extend(placement.parts.iter().map(|(part, count)| match count {
        count if *count == placement.workloads => part.to_string(),
        count => format!("{part} (at {count})"),
    }));
    Condition {
        r#type: COMPILED,
        status,
        reason,
        message: said.join("; "),
    }
}

/// Looks at each state that comes while `leader` says that this process leads, until `shutdown`.
pub async fn run(
    mut states: States,
    mut leader: watch::Receiver<Leader>,
    found: watch::Sender<Arc<Compiled>>,
    shutdown: CancellationToken,
) {
    let mut seen: Vec<Arc<Object>> = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
            changed = leader.changed() => if changed.is_err() { return },
        }
        if !leader.borrow_and_update().is_me {
            continue;
        }
        let Some(state) = states.borrow_and_update().clone() else {
            continue;
        };
        let concerned = concerned(&state);
        if is_same(&seen, &concerned) {
            continue;
        }
        seen = concerned;
        let objects = seen.clone();
        match tokio::task::spawn_blocking(move || compiled(&objects)).await {
            Ok(compiled) => _ = found.send_replace(Arc::new(compiled)),
            Err(error) => tracing::error!(%error, "the rules' conditions could not be made"),
        }
        _ = shutdown.run_until_cancelled(tokio::time::sleep(REST)).await;
    }
}

/// The objects that matter; none where there are no rules.
fn concerned(state: &State) -> Vec<Arc<Object>> {
    let objects = state.objects.iter();
    if !objects.clone().any(|object| object.kind == Kind::Rule) {
        return Vec::new();
    }
    let matters = |kind: Kind| kind.group() == Kind::Rule.group() || MESH.contains(&kind);
    objects.filter(|object| matters(object.kind)).cloned().collect()
}

fn is_same(before: &[Arc<Object>], now: &[Arc<Object>]) -> bool {
    before.len() == now.len() && before.iter().zip(now).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The condition of the rule `r` of namespace shop, beside a service with two instances.
    fn check(condition: &str, actions: &str, expected: &str) {
        let text = format!(
            r#"
{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}
---
{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: web-1, namespace: shop}}, spec: {{address: 127.1.0.1, serviceAccount: web, labels: {{app: web, service.istio.io/workload-name: web}}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: web-2, namespace: shop}}, spec: {{address: 127.1.0.2, serviceAccount: web, labels: {{app: web, service.istio.io/workload-name: web}}}}}}
---
{{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {{name: db, namespace: shop}}, spec: {{address: 127.1.0.3, serviceAccount: db, labels: {{app: db}}}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {{name: deny, namespace: shop}}, spec: {{compiledAdapter: denier}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {{name: all, namespace: shop}}, spec: {{compiledTemplate: checknothing}}}}
---
{{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {{name: r, namespace: shop}}, spec: {{match: '{condition}', actions: [{actions}]}}}}
"#
        );
        let parsed = config::parse("x.yaml", text.as_bytes(), "default");
        assert_eq!(parsed.findings, []);
        let objects: Vec<Arc<Object>> = parsed.objects.into_iter().map(Arc::new).collect();
        let compiled = compiled(&objects);
        let seen: Vec<String> = compiled
            .values()
            .map(|c| {
                format!(
                    "{} {}={} {}: {}",
                    compiled.len(),
                    c.r#type,
                    c.status,
                    c.reason,
                    c.message
                )
            })
            .collect();
        assert_eq!(seen, [format!("1 {expected}")]);
    }

    #[test]
    fn a_rules_condition_says_who_carries_it_out_and_why() {
        const DENY: &str = "{handler: deny, instances: [all]}";
        check(
            r#"destination.labels["app"] == "web" && request.headers["x-a"] == "b""#,
            DENY,
            "Compiled=True InProxies: at 1 workload; check by deny.shop: in the proxy, without a call",
        );
        check(
            r#"source.labels["app"] == "x""#,
            DENY,
            "Compiled=False InMixer: at 2 workloads; check by deny.shop: in Mixer, since it reads source.labels, which Mixer alone knows",
        );
        check(
            r#"destination.labels["app"] == "db" || source.labels["app"] == "x""#,
            DENY,
            "Compiled=False InPart: at 2 workloads; check by deny.shop: in the proxy, without a call (at 1); check by deny.shop: in Mixer, since it reads source.labels, which Mixer alone knows (at 1)",
        );
        check(
            r#"destination.namespace == "elsewhere""#,
            DENY,
            "Compiled=Unknown NoWorkloads: it can never apply to a workload of the mesh",
        );
    }

    #[test]
    fn a_rule_that_lacks_its_handler_is_told_so() {
        let text = "{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: r, namespace: shop}, spec: {actions: [{handler: gone, instances: []}]}}";
        let parsed = config::parse("x.yaml", text.as_bytes(), "default");
        let objects: Vec<Arc<Object>> = parsed.objects.into_iter().map(Arc::new).collect();
        let compiled = compiled(&objects);
        let condition = compiled.values().next().expect("a condition");
        assert_eq!((condition.status, condition.reason), ("False", "ErrorsFound"));
        assert!(condition.message.contains("gone"), "{}", condition.message);
    }

    #[test]
    fn endpoints_of_a_mesh_without_rules_are_not_looked_at() {
        let text = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {ports: [{name: http, port: 80}]}}";
        let parsed = config::parse("x.yaml", text.as_bytes(), "default");
        let state = State {
            objects: Arc::new(parsed.objects.into_iter().map(Arc::new).collect()),
            ..State::default()
        };
        assert!(concerned(&state).is_empty());
    }
}
