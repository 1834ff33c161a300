//! The objects that get a status, and what is known of each: Galley's state, analysis and Pilots' reports brought together.
//!
//! Pure.

use std::collections::BTreeMap;

use analysis::{Analysis, Message};
use config::{Kind, Object, ObjectKey};

use super::progress::Distribution;
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
) -> BTreeMap<ObjectKey, Subject> {
    let messages = |key: &ObjectKey| analysis.of(key).iter().map(said).collect();
    let served = |object: &Object| {
        let (key, meta) = (object.key(), &object.meta);
        let wanted = Wanted {
            generation: meta.generation,
            served: true,
            progress: distribution.progress(&key, &meta.uid, meta.generation),
            messages: messages(&key),
        };
        let uid = meta.uid.clone();
        (key, Subject { uid, wanted })
    };
    let objects = state.objects.iter().filter(|object| has_status(object.kind));
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

    use super::*;

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
            objects: parsed.objects.into_iter().map(Arc::new).collect(),
            findings: parsed.findings,
            ..State::default()
        };
        let subjects = subjects(&state, &Analysis::default(), &Distribution::default());
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
