//! What Pilot has told Galley, and what has changed since: the messages of one report stream.
//!
//! Pure.

use std::collections::BTreeMap;

use config::{Kind, Object, ObjectKey};
use feed::distribution::{DistributionReport, ObjectName, ObjectProgress};

use super::counts::Count;

/// Most objects in one message: some 100 bytes each, far below a message's bound.
const MAX_OBJECTS: usize = 2000;

/// Whether Galley keeps a status for objects of this kind. Kubernetes' own have theirs from others, and endpoints would be
/// most of the report.
#[must_use]
pub fn is_told(kind: Kind) -> bool {
    !kind.is_kubernetes() && !matches!(kind, Kind::MeshConfig | Kind::MeshNetworks)
}

/// How far each object of a snapshot has come.
#[must_use]
pub fn progress<'a>(
    objects: impl IntoIterator<Item = &'a Object>,
    counts: &BTreeMap<ObjectKey, Count>,
) -> BTreeMap<ObjectKey, ObjectProgress> {
    let told = objects.into_iter().filter(|object| is_told(object.kind));
    told.map(|object| {
        let key = object.key();
        let count = counts.get(&key).cloned().unwrap_or_default();
        let progress = ObjectProgress {
            object: Some(name(&key)),
            uid: object.meta.uid.clone(),
            generation: object.meta.generation,
            proxies: count.proxies,
            accepted: count.accepted,
            rejected: count.rejected,
            reason: count
                .reason
                .map_or_else(String::new, |reason| reason.chars().take(512).collect()),
        };
        (key, progress)
    })
    .collect()
}

fn name(key: &ObjectKey) -> ObjectName {
    ObjectName {
        type_url: key.kind.type_url().to_owned(),
        name: key.resource_name(),
    }
}

/// What one stream has told.
#[derive(Debug, Default)]
pub struct Told {
    objects: Option<BTreeMap<ObjectKey, ObjectProgress>>,
}

impl Told {
    /// The messages that bring Galley from what it was told to `now`; none when nothing has changed. The first ones of a
    /// stream name this Pilot and end with `complete`.
    pub fn bring(
        &mut self,
        pilot: &str,
        now: BTreeMap<ObjectKey, ObjectProgress>,
    ) -> Vec<DistributionReport> {
        let first = self.objects.is_none();
        let before = self.objects.take().unwrap_or_default();
        let changed: Vec<ObjectProgress> = now
            .iter()
            .filter(|(key, progress)| before.get(key) != Some(progress))
            .map(|(_, progress)| progress.clone())
            .collect();
        let removed = before
            .keys()
            .filter(|key| !now.contains_key(*key))
            .map(name)
            .collect();
        let mut reports: Vec<DistributionReport> = changed
            .chunks(MAX_OBJECTS)
            .map(|chunk| DistributionReport {
                changed: chunk.to_vec(),
                ..DistributionReport::default()
            })
            .collect();
        if reports.is_empty() {
            reports.push(DistributionReport::default());
        }
        if let Some(begin) = reports.first_mut() {
            begin.removed = removed;
            if first {
                pilot.clone_into(&mut begin.pilot);
            }
        }
        if let Some(end) = reports.last_mut() {
            end.complete = first;
        }
        reports.retain(|report| *report != DistributionReport::default());
        self.objects = Some(now);
        reports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pilot, what changed with how many have accepted it, what is gone, whether that is all.
    type Expected<'a> = (&'a str, &'a [(&'a str, u32)], &'a [&'a str], bool);

    fn objects(names: &[&str]) -> Vec<Object> {
        let text: String = names
            .iter()
            .map(|name| format!("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: shop, uid: u, generation: 2}}\nspec: {{egress: [{{hosts: [./*]}}]}}\n---\n"))
            .collect();
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: {ports: [{name: http, port: 80}]}\n";
        config::parse("x.yaml", (text + service).as_bytes(), "default").objects
    }

    fn now(names: &[&str], accepted: u32) -> BTreeMap<ObjectKey, ObjectProgress> {
        let count = Count {
            proxies: 9,
            accepted,
            ..Count::default()
        };
        let counts = BTreeMap::from([(ObjectKey::new(Kind::Sidecar, "shop", "a"), count)]);
        progress(&objects(names), &counts)
    }

    #[test]
    fn only_what_changed_is_told_after_all_has_been() {
        let mut told = Told::default();
        let check = |reports: Vec<DistributionReport>, expected: &[Expected<'_>]| {
            assert_eq!(reports.len(), expected.len(), "{reports:?}");
            for (report, (pilot, changed, removed, complete)) in reports.iter().zip(expected) {
                let seen: Vec<_> = report
                    .changed
                    .iter()
                    .map(|p| (p.object.as_ref().unwrap().name.as_str(), p.accepted))
                    .collect();
                let gone: Vec<_> = report.removed.iter().map(|name| name.name.as_str()).collect();
                assert_eq!(
                    (report.pilot.as_str(), &seen[..], &gone[..], report.complete),
                    (*pilot, *changed, *removed, *complete)
                );
            }
        };
        check(
            told.bring("p", now(&["a", "b"], 3)),
            &[("p", &[("shop/a", 3), ("shop/b", 0)], &[], true)],
        );
        check(told.bring("p", now(&["a", "b"], 3)), &[]);
        check(
            told.bring("p", now(&["a"], 4)),
            &[("", &[("shop/a", 4)], &["shop/b"], false)],
        );
        check(
            Told::default().bring("p", BTreeMap::new()),
            &[("p", &[], &[], true)],
        );
    }

    #[test]
    fn many_objects_are_several_messages() {
        let names: Vec<String> = (0..MAX_OBJECTS + 1).map(|number| format!("s{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let reports = Told::default().bring("p", now(&names, 0));
        let seen: Vec<_> = reports
            .iter()
            .map(|r| (r.pilot.as_str(), r.changed.len(), r.complete))
            .collect();
        assert_eq!(seen, [("p", MAX_OBJECTS, false), ("", 1, true)]);
        assert_eq!(reports[0].changed[0].generation, 2);
    }
}
