//! What Mixer would say of its rules if it were given these objects: references to what is not there, parameters and expressions that
//! do not fit where they stand. It knows no messages.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::{Finding, Kind, Object, ObjectKey, Severity, Spec};
use policy::Rules;

/// What rules refer to; where one of these was not read, nothing can be said to be missing.
pub(super) const READ: [Kind; 4] = [Kind::Rule, Kind::Handler, Kind::Instance, Kind::QuotaSpec];

/// What is wrong with objects that are right each for itself; later objects replace earlier ones of their name.
pub(super) fn findings(objects: &[Object], told: &[Finding]) -> Vec<Finding> {
    let broken: BTreeSet<&ObjectKey> = told
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .filter_map(|finding| finding.object.as_ref())
        .collect();
    let mut mesh = None;
    let mut newest = std::collections::BTreeMap::new();
    for object in objects {
        match &object.spec {
            Spec::MeshConfig(spec) => mesh = Some((**spec).clone()),
            _ => _ = newest.insert(object.key(), object),
        }
    }
    let objects: Vec<Arc<Object>> = newest
        .into_iter()
        .filter(|(key, _)| !broken.contains(key))
        .map(|(_, object)| Arc::new(object.clone()))
        .collect();
    let (_, mut findings) = Rules::build(&objects, &mesh.unwrap_or_default());
    let known: BTreeSet<String> = told.iter().map(ToString::to_string).collect();
    findings.retain(|finding| !known.contains(&finding.to_string()));
    findings
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests may fail loudly")]
mod tests {
    use super::*;

    const RULE: &str = "apiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {name: r, namespace: shop}\n\
                        spec: {actions: [{handler: doorman, instances: [visit]}]}\n";
    const HANDLER: &str = "apiVersion: config.istio.io/v1alpha2\nkind: handler\nmetadata: {name: doorman, namespace: shop}\n\
                           spec: {compiledAdapter: denier}\n";
    const INSTANCE: &str = "apiVersion: config.istio.io/v1alpha2\nkind: instance\nmetadata: {name: visit, namespace: shop}\n\
                            spec: {compiledTemplate: checknothing}\n";

    fn check(texts: &[&str], expected: &[&str]) {
        let mut objects = Vec::new();
        let mut told = Vec::new();
        for text in texts {
            let parsed = config::parse("x.yaml", text.as_bytes(), "default");
            objects.extend(parsed.objects);
            objects.extend(parsed.invalid);
            told.extend(parsed.findings);
        }
        let found: Vec<String> = findings(&objects, &told)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} has no {expected:?}");
        }
    }

    #[test]
    fn references_to_what_is_not_there_are_told() {
        check(&[RULE, HANDLER, INSTANCE], &[]);
        check(&[RULE, INSTANCE], &["doorman"]);
        check(&[RULE, HANDLER], &["visit"]);
    }
}
