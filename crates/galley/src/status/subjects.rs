//! The objects that get a status, and what is known of each: Galley's state, analysis and Pilots' reports brought together.
//! What was made by translation is in no cluster: its progress counts for the objects that it was made from.
//!
//! Pure.

use std::collections::{BTreeMap, HashMap};

use analysis::{Analysis, Message};
use config::{Kind, Object, ObjectKey, legacy};

use super::compiled::Compiled;
use super::progress::{Distribution, Progress};
use super::wanted::{Said, Wanted};
use crate::store::State;

/// An object of which a version is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Which object of that name.
    pub uid: String,
    /// What its status should say.
    pub wanted: Wanted,
}

/// Whether Galley writes a status for objects of this kind: those of the mesh's own API. Others' statuses are theirs.
#[must_use]
pub fn has_status(kind: Kind) -> bool {
    !kind.is_kubernetes() && !matches!(kind, Kind::MeshConfig | Kind::MeshNetworks)
}

/// What the status of each object should say. Of a version with errors the uid and generation are not known, and left empty:
/// it is not served.
#[must_use]
pub fn subjects(
    state: &State,
    analysis: &Analysis,
    distribution: &Distribution,
    compiled: &Compiled,
) -> BTreeMap<ObjectKey, Subject> {
    let messages = |key: &ObjectKey| analysis.of(key).iter().map(said).collect();
    let translated = translated(state, distribution);
    let served = |object: &Object| {
        let (key, meta) = (object.key(), &object.meta);
        let own = distribution.progress(&key, &meta.uid, meta.generation);
        let of_made = || translated.get(&key.to_string()).cloned();
        let wanted = Wanted {
            generation: meta.generation,
            served: true,
            progress: own.or_else(of_made),
            messages: messages(&key),
            compiled: compiled.get(&key).cloned(),
        };
        let uid = meta.uid.clone();
        (key, Subject { uid, wanted })
    };
    let objects = state.objects.iter();
    let objects = objects.filter(|object| has_status(object.kind) && origins(object).is_none());
    let mut subjects: BTreeMap<ObjectKey, Subject> = objects.map(|object| served(object)).collect();
    let errors = state.findings.iter().filter(|finding| finding.is_error());
    for key in errors
        .filter_map(|finding| finding.object.as_ref())
        .filter(|key| has_status(key.kind))
    {
        let wanted = Wanted {
            messages: messages(key),
            ..Wanted::default()
        };
        let uid = String::new();
        subjects.insert(key.clone(), Subject { uid, wanted });
    }
    subjects
}

/// Of an object that was made by translation, the keys of those that it was made from.
fn origins(object: &Object) -> Option<impl Iterator<Item = &str>> {
    let listed = object.meta.annotations.get(legacy::ANNOTATION)?;
    Some(listed.split(", "))
}

/// How far objects have come that are translated, by key: as far as the last of what was made from each.
fn translated(state: &State, distribution: &Distribution) -> HashMap<String, Progress> {
    let mut all: HashMap<String, Progress> = HashMap::new();
    for object in state.objects.iter() {
        let Some(origins) = origins(object) else {
            continue;
        };
        let meta = &object.meta;
        let Some(progress) = distribution.progress(&object.key(), &meta.uid, meta.generation) else {
            continue;
        };
        for origin in origins {
            let known = all.entry(origin.to_owned()).or_insert_with(|| progress.clone());
            if progress.is_behind(known) {
                known.clone_from(&progress);
            }
        }
    }
    all
}

fn said(message: &Message) -> Said {
    let text = match message.path.as_str() {
        "" => message.text.clone(),
        path => format!("{path}: {}", message.text),
    };
    Said {
        code: message.code.id().to_owned(),
        name: message.code.name().to_owned(),
        severity: message.severity(),
        url: message.code.url(),
        text,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use feed::distribution::{DistributionReport, ObjectName, ObjectProgress};

    use super::*;

    #[test]
    fn what_was_made_by_translation_counts_for_its_origin() {
        let text = "
apiVersion: rbac.istio.io/v1alpha1
kind: ClusterRbacConfig
metadata: {name: default}
spec: {mode: 'ON'}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
";
        let parsed = config::parse("x.yaml", text.as_bytes(), "default");
        let mut objects: Vec<Arc<Object>> = parsed.objects.into_iter().map(Arc::new).collect();
        let (made, _) = legacy::translate(&objects, legacy::Mesh::default());
        let changed = made.iter().map(|object| ObjectProgress {
            object: Some(ObjectName {
                type_url: object.kind.type_url().to_owned(),
                name: object.key().resource_name(),
            }),
            uid: object.meta.uid.clone(),
            generation: object.meta.generation,
            proxies: 5,
            accepted: 4,
            ..ObjectProgress::default()
        });
        let report = DistributionReport {
            pilot: "p".to_owned(),
            changed: changed.collect(),
            complete: true,
            ..DistributionReport::default()
        };
        assert!(!report.changed.is_empty());
        let mut told = Distribution::default();
        let stream = told.begin("p").unwrap();
        told.take("p", stream, report).unwrap();
        objects.extend(made.into_iter().map(Arc::new));
        let state = State {
            objects: Arc::new(objects),
            ..State::default()
        };
        let subjects = subjects(&state, &Analysis::default(), &told, &Compiled::new());
        let seen: Vec<_> = subjects
            .iter()
            .map(|(key, subject)| {
                let progress = subject.wanted.progress.as_ref();
                (key.to_string(), progress.map(|p| (p.proxies, p.accepted)))
            })
            .collect();
        assert_eq!(seen, [("ClusterRbacConfig default".to_owned(), Some((5, 4)))]);
    }

    #[test]
    fn versions_with_errors_are_subjects_too_and_kubernetes_objects_are_not() {
        let text = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: good, namespace: shop, uid: u, generation: 4}
spec: {egress: [{hosts: [./*]}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: bad, namespace: shop, uid: v, generation: 5}
spec: {egress: [{hosts: [no-slash]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
";
        let parsed = config::parse("x.yaml", text.as_bytes(), "default");
        let state = State {
            objects: Arc::new(parsed.objects.into_iter().map(Arc::new).collect()),
            findings: parsed.findings,
            ..State::default()
        };
        let subjects = subjects(
            &state,
            &Analysis::default(),
            &Distribution::default(),
            &Compiled::new(),
        );
        let seen: Vec<_> = subjects
            .iter()
            .map(|(key, each)| {
                (
                    key.name.as_str(),
                    each.uid.as_str(),
                    each.wanted.generation,
                    each.wanted.served,
                )
            })
            .collect();
        assert_eq!(seen, [("bad", "", 0, false), ("good", "u", 4, true)]);
    }
}
