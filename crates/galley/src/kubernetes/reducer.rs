//! What a cluster holds, as far as watches have told: one table a kind, fed by the events of its watch.
//!
//! Pure: it knows no API server and no time. Whatever was lost, repeated or late, the next list of a kind makes its table
//! right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Finding, Kind, Object, ObjectKey, Severity, Status};

use crate::store::{Objects, State, set, still_served};

/// Most deletions remembered of a kind.
const MAX_GONE: usize = 10_000;

/// Namespace (empty for kinds of the whole cluster) and name.
pub(super) type Name = (String, String);

/// A version of an object as a watch told it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: Name,
    pub(super) uid: String,
    /// Kubernetes' resourceVersion.
    pub(super) version: String,
    /// The object, unless something is wrong with it.
    pub(super) object: Option<Object>,
    pub(super) findings: Vec<Finding>,
    pub(super) status: Option<Status>,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A list begins.
    Init,
    /// An object of the list.
    InitApply(Seen),
    /// The list is complete: what it did not hold is gone.
    InitDone,
    /// An object is new or changed.
    Apply(Seen),
    /// An object is gone; with the resourceVersion of its deletion.
    Delete(Name, String),
    /// The watch or the list failed, and is tried again.
    Failed(Failure),
    /// It has not failed for a while.
    Recovered,
}

/// Why a kind cannot be read at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// For people.
    pub(super) reason: String,
    /// RBAC refuses it.
    pub(super) is_forbidden: bool,
    /// It has failed often enough to be told of.
    pub(super) is_lasting: bool,
}

/// The tables of all kinds that there are.
#[derive(Debug, Default)]
pub(super) struct Reducer {
    tables: BTreeMap<Kind, Table>,
    /// What is served: the objects of all entries, in order of keys.
    objects: Objects,
    /// Entries that something is to be said of.
    spoken_of: BTreeSet<(Kind, Name)>,
    statuses: Arc<BTreeMap<ObjectKey, Status>>,
    /// Objects of the run before, to serve where the cluster's version is refused.
    remembered: BTreeMap<ObjectKey, Arc<Object>>,
}

#[derive(Debug, Default)]
struct Table {
    entries: BTreeMap<Name, Entry>,
    /// What the list that is being read has held so far.
    listing: Option<BTreeSet<Name>>,
    /// Whether a list was complete once.
    is_listed: bool,
    /// The newest version that the last list held: what is not newer, and was not in it, is gone.
    floor: u64,
    /// Versions of deletions, so that what is late does not come back.
    gone: BTreeMap<Name, u64>,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Entry {
    version: String,
    uid: String,
    /// What is served: the last good version.
    object: Option<Arc<Object>>,
    findings: Vec<Finding>,
    status: Option<Status>,
}

impl Reducer {
    /// A reducer that knows what was served before a restart.
    pub(super) fn remembering(objects: impl IntoIterator<Item = Arc<Object>>) -> Self {
        Self {
            remembered: objects.into_iter().map(|object| (object.key(), object)).collect(),
            ..Self::default()
        }
    }

    /// Which kinds there are: a kind that is new is waited for, what is held of one that went is dropped. Says whether what
    /// is served may have changed.
    pub(super) fn expect(&mut self, kinds: &BTreeSet<Kind>) -> bool {
        let gone: Vec<Kind> = self
            .tables
            .keys()
            .filter(|kind| !kinds.contains(kind))
            .copied()
            .collect();
        for kind in &gone {
            self.tables.remove(kind);
            Arc::make_mut(&mut self.objects).retain(|object| object.kind != *kind);
            self.spoken_of.retain(|(of, _)| of != kind);
            if self.statuses.keys().any(|key| key.kind == *kind) {
                Arc::make_mut(&mut self.statuses).retain(|key, _| key.kind != *kind);
            }
        }
        for kind in kinds {
            self.tables.entry(*kind).or_default();
        }
        !gone.is_empty()
    }

    /// Takes an event of a kind's watch; of a kind that is not expected it means nothing. Says whether [`Self::state`] is
    /// another now.
    pub(super) fn apply(&mut self, kind: Kind, event: Event) -> bool {
        let Some(table) = self.tables.get_mut(&kind) else {
            return false;
        };
        let remembered = &self.remembered;
        let recall = |name: &Name| remembered.get(&ObjectKey::new(kind, &*name.0, &*name.1)).cloned();
        let Outcome {
            changed,
            touched,
            statuses,
        } = table.apply(event, recall);
        for name in touched {
            let entry = table.entries.get(&name);
            let key = ObjectKey::new(kind, &*name.0, &*name.1);
            set(
                &mut self.objects,
                &key,
                entry.and_then(|entry| entry.object.as_ref()),
            );
            match entry.is_some_and(|entry| !entry.findings.is_empty()) {
                true => _ = self.spoken_of.insert((kind, name)),
                false => _ = self.spoken_of.remove(&(kind, name)),
            }
        }
        for (name, status) in statuses {
            let key = ObjectKey::new(kind, name.0, name.1);
            let all = Arc::make_mut(&mut self.statuses);
            match status {
                Some(status) => _ = all.insert(key, status),
                None => _ = all.remove(&key),
            }
        }
        if changed && !self.remembered.is_empty() && self.awaited().is_empty() {
            // Each object was met once, so what is not held by now has no use.
            self.remembered.clear();
        }
        changed
    }

    /// Kinds without which the state is not complete, with what is known of why.
    pub(super) fn awaited(&self) -> Vec<(Kind, Option<&str>)> {
        let waiting = self
            .tables
            .iter()
            .filter(|(kind, table)| !table.is_settled(**kind));
        waiting
            .map(|(kind, table)| (*kind, table.failure.as_ref().map(|failure| &*failure.reason)))
            .collect()
    }

    /// What is served; objects in order of keys. Complete only when nothing is awaited. It costs what there is to say, however
    /// many objects there are.
    pub(super) fn state(&self) -> State {
        let entry = |(kind, name): &(Kind, Name)| self.tables.get(kind)?.entries.get(name);
        let spoken_of = self.spoken_of.iter().filter_map(entry);
        let mut findings: Vec<Finding> = spoken_of.flat_map(|entry| &entry.findings).cloned().collect();
        findings.extend(self.outages());
        let unseen = self.tables.iter().filter(|(_, table)| !table.is_listed);
        State {
            objects: self.objects.clone(),
            findings,
            statuses: self.statuses.clone(),
            unseen: unseen.map(|(kind, _)| *kind).chain([Kind::Secret]).collect(),
        }
    }

    /// One finding for each reason that kinds cannot be read for.
    fn outages(&self) -> Vec<Finding> {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, table) in &self.tables {
            if let Some(failure) = table.failure.as_ref().filter(|failure| failure.is_lasting) {
                reasons.entry(&failure.reason).or_default().push(kind.as_str());
            }
        }
        let finding = |(reason, kinds): (&str, Vec<&str>)| {
            let message = format!("the Kubernetes API does not give {}: {reason}", kinds.join(", "));
            let help = "what was known before is still served; Galley tries on (see docs/galley.md for the rights it needs)";
            Finding::new(Severity::Warning, message).help(help)
        };
        reasons.into_iter().map(finding).collect()
    }
}

/// What an event did.
#[derive(Default)]
struct Outcome {
    /// The state is another.
    changed: bool,
    /// Names whose entries are new, different or gone.
    touched: Vec<Name>,
    /// Statuses that are new, changed or gone.
    statuses: Vec<(Name, Option<Status>)>,
}

impl From<bool> for Outcome {
    fn from(changed: bool) -> Self {
        Self {
            changed,
            ..Self::default()
        }
    }
}

impl Table {
    fn apply(&mut self, event: Event, recall: impl Fn(&Name) -> Option<Arc<Object>>) -> Outcome {
        match event {
            Event::Init => {
                self.listing = Some(BTreeSet::new());
                false.into()
            }
            Event::InitApply(seen) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(seen.name.clone());
                }
                // The list is the truth, even where a cluster was restored and its versions count from an earlier number.
                self.take(seen, recall)
            }
            Event::InitDone => self.listed(),
            Event::Apply(seen) if self.is_late(&seen.name, &seen.version) => self.recovered().into(),
            Event::Apply(seen) => {
                let recovered = self.recovered();
                let mut outcome = self.take(seen, recall);
                outcome.changed |= recovered;
                outcome
            }
            Event::Delete(name, version) => {
                let recovered = self.recovered();
                let mut outcome = self.delete(name, &version);
                outcome.changed |= recovered;
                outcome
            }
            Event::Failed(failure) => {
                let told = |failure: &Option<Failure>| failure.clone().filter(|failure| failure.is_lasting);
                let before = told(&self.failure);
                self.failure = Some(failure);
                (told(&self.failure) != before).into()
            }
            Event::Recovered => self.recovered().into(),
        }
    }

    /// Forgets the failure. Says whether people were told of it.
    fn recovered(&mut self) -> bool {
        self.failure.take().is_some_and(|failure| failure.is_lasting)
    }

    fn listed(&mut self) -> Outcome {
        let Some(listing) = self.listing.take() else {
            return false.into();
        };
        let gone: Vec<Name> = self
            .entries
            .keys()
            .filter(|name| !listing.contains(*name))
            .cloned()
            .collect();
        let recovered = self.recovered();
        let first = !std::mem::replace(&mut self.is_listed, true);
        let mut outcome = Outcome::from(first || recovered || !gone.is_empty());
        for name in gone {
            if self
                .entries
                .remove(&name)
                .is_some_and(|entry| entry.status.is_some())
            {
                outcome.statuses.push((name.clone(), None));
            }
            outcome.touched.push(name);
        }
        self.floor = self
            .entries
            .values()
            .filter_map(|entry| number(&entry.version))
            .max()
            .unwrap_or(0);
        self.gone.retain(|name, _| !listing.contains(name));
        outcome
    }

    /// Whether something newer is known already of the object.
    fn is_late(&self, name: &Name, version: &str) -> bool {
        let Some(version) = number(version) else {
            return false;
        };
        let known = match self.entries.get(name) {
            Some(entry) => number(&entry.version),
            None => Some(self.floor.max(self.gone.get(name).copied().unwrap_or(0))),
        };
        known.is_some_and(|known| version <= known)
    }

    fn delete(&mut self, name: Name, version: &str) -> Outcome {
        let version = number(version);
        let held = self.entries.get(&name).and_then(|entry| number(&entry.version));
        if version.zip(held).is_some_and(|(version, held)| version < held) {
            // It has been made anew since.
            return false.into();
        }
        if let Some(version) = version {
            if self.gone.len() >= MAX_GONE {
                self.gone.clear();
            }
            let known = self.gone.entry(name.clone()).or_default();
            *known = version.max(*known);
        }
        match self.entries.remove(&name) {
            Some(entry) => Outcome {
                changed: true,
                statuses: entry.status.map(|_| (name.clone(), None)).into_iter().collect(),
                touched: vec![name],
            },
            None => false.into(),
        }
    }

    /// Takes a version of an object. It is a change when it means something new.
    fn take(&mut self, seen: Seen, recall: impl Fn(&Name) -> Option<Arc<Object>>) -> Outcome {
        let old = self.entries.remove(&seen.name);
        let is_new = old.is_none();
        let same_one = old.as_ref().is_none_or(|old| old.uid == seen.uid);
        let (was_object, was_findings, was_status) = old.map_or((None, Vec::new(), None), |old| {
            (old.object, old.findings, old.status)
        });
        let mut findings = seen.findings;
        let object = match seen.object {
            Some(object) => Some(match &was_object {
                Some(was) if means_the_same(was, &object) => was.clone(),
                _ => Arc::new(object),
            }),
            None => {
                let good = was_object.clone().filter(|_| same_one);
                let good = good.or_else(|| recall(&seen.name).filter(|known| known.meta.uid == seen.uid));
                findings.extend(good.as_ref().map(|good| still_served(&good.key(), good)));
                good
            }
        };
        let same_object = match (&was_object, &object) {
            (Some(was), Some(is)) => Arc::ptr_eq(was, is),
            (None, None) => true,
            _ => false,
        };
        let statuses = match was_status == seen.status {
            true => Vec::new(),
            false => vec![(seen.name.clone(), seen.status.clone())],
        };
        let is_other = is_new || !same_object || was_findings != findings;
        let touched = is_other.then(|| seen.name.clone()).into_iter().collect();
        let changed = is_other || !statuses.is_empty();
        let entry = Entry {
            version: seen.version,
            uid: seen.uid,
            object,
            findings,
            status: seen.status,
        };
        self.entries.insert(seen.name, entry);
        Outcome {
            changed,
            touched,
            statuses,
        }
    }

    /// Whether all of the kind is known that is going to be.
    fn is_settled(&self, kind: Kind) -> bool {
        let refused = self.failure.as_ref().is_some_and(|failure| failure.is_forbidden);
        self.is_listed || (refused && super::kinds::is_optional(kind))
    }
}

/// Kubernetes compares resourceVersions as numbers (its API concepts, "Resource versions"); another server's may be none.
fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// Whether nobody can tell the two apart: they differ in nothing but bookkeeping and, for kinds that are distributed, in
/// annotations that nobody reads.
fn means_the_same(a: &Object, b: &Object) -> bool {
    let read = |object: &Object| {
        let all = object.kind.is_for_analysis();
        let annotations = object.meta.annotations.clone().into_iter();
        annotations
            .filter(|(key, _)| all || feed::is_read(key))
            .collect::<Vec<_>>()
    };
    a.kind == b.kind
        && a.meta.labels == b.meta.labels
        && a.meta.generation == b.meta.generation
        && a.meta.created == b.meta.created
        && a.meta.uid == b.meta.uid
        && a.meta.controller == b.meta.controller
        && a.origin == b.origin
        && read(a) == read(b)
        && a.spec == b.spec
}

#[cfg(test)]
#[path = "reducer_tests.rs"]
mod tests;
