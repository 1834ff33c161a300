//! Analysis of objects that change: keeps what each analyzer has said, and reruns those only that read what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Finding, Kind, Object, ObjectKey, Status};

use crate::{ALL, Analyzer, Code, Facts, Message, Report, Set, Store, of_findings, run};

/// What analysis says of a mesh at one time. Cheap to clone and to compare by its version.
#[derive(Clone, Debug, Default)]
pub struct Analysis {
    /// Messages by the object that they are about, the worst first; none about the cluster as a whole is among them.
    pub objects: BTreeMap<ObjectKey, Arc<[Message]>>,
    /// How many messages there are of each code.
    pub counts: BTreeMap<Code, usize>,
    /// Counts the changes; 0 before the first run.
    pub version: u64,
    /// Names of the analyzers that ran for this version.
    pub ran: Vec<&'static str>,
    /// Names of the analyzers that cannot run, since the source does not show them what they read.
    pub skipped: Vec<&'static str>,
}

impl Analysis {
    /// All messages, the worst first.
    pub fn messages(&self) -> Vec<&Message> {
        let mut all: Vec<&Message> = self
            .objects
            .values()
            .flat_map(|messages| messages.iter())
            .collect();
        all.sort_by(|a, b| a.by_severity(b));
        all
    }

    /// What is said of one object.
    pub fn of(&self, object: &ObjectKey) -> &[Message] {
        self.objects.get(object).map_or(&[], |messages| messages)
    }
}

/// The state of a mesh as a source tells it: complete, not what has changed.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// All objects.
    pub objects: &'a [Arc<Object>],
    /// What controllers have written about them.
    pub statuses: &'a BTreeMap<ObjectKey, Status>,
    /// What validation says of single objects.
    pub findings: &'a [Finding],
    /// Kinds that the source cannot see, which is not the same as that there are none: who reads them is not asked.
    pub unseen: &'a [Kind],
}

/// Analyses a mesh again and again.
#[derive(Debug, Default)]
pub struct Engine {
    store: Store,
    /// What validation of single objects has said.
    findings: Vec<Finding>,
    unseen: Vec<Kind>,
    /// What each of [`ALL`] has said, and last what validation has, each by object.
    said: Vec<Vec<Message>>,
    current: Arc<Analysis>,
}

impl Engine {
    /// What was found last.
    pub fn analysis(&self) -> Arc<Analysis> {
        self.current.clone()
    }

    /// Takes a new complete state. `now` is in seconds since 1970. Gives the new analysis when it differs.
    pub fn replace(&mut self, input: Input<'_>, now: i64) -> Option<Arc<Analysis>> {
        let mut changed: BTreeSet<Kind> = BTreeSet::new();
        self.store.mark();
        for object in input.objects {
            if self.store.insert(object.clone()) {
                changed.insert(object.kind);
            }
        }
        changed.extend(self.store.sweep());
        for (key, status) in input.statuses {
            if self.store.set_status(key, Some(status)) {
                changed.insert(key.kind);
            }
        }
        changed.extend(self.store.retain_statuses(|key| input.statuses.contains_key(key)));
        let findings = self.findings != input.findings;
        if findings {
            self.findings = input.findings.to_vec();
        }
        if self.unseen != input.unseen {
            changed.extend(self.unseen.iter().chain(input.unseen));
            self.unseen = input.unseen.to_vec();
        }
        self.rerun(
            |analyzer| reads(analyzer, &changed),
            findings || !changed.is_empty(),
            now,
        )
    }

    /// Takes single changes: objects that are new or different, and those that are gone.
    pub fn apply(
        &mut self,
        objects: impl IntoIterator<Item = Arc<Object>>,
        gone: &[ObjectKey],
        now: i64,
    ) -> Option<Arc<Analysis>> {
        let mut changed: BTreeSet<Kind> = BTreeSet::new();
        for object in objects {
            let kind = object.kind;
            if self.store.insert(object) {
                changed.insert(kind);
            }
        }
        changed.extend(
            gone.iter()
                .filter(|key| self.store.remove(key))
                .map(|key| key.kind),
        );
        self.rerun(|analyzer| reads(analyzer, &changed), !changed.is_empty(), now)
    }

    /// Takes facts about the cluster.
    pub fn facts(&mut self, facts: Facts, now: i64) -> Option<Arc<Analysis>> {
        match self.store.set_facts(facts) {
            true => self.rerun(|analyzer| analyzer.facts, false, now),
            false => None,
        }
    }

    /// Time has passed: certificates may have expired.
    pub fn tick(&mut self, now: i64) -> Option<Arc<Analysis>> {
        self.rerun(|analyzer| analyzer.clock, false, now)
    }

    fn rerun(
        &mut self,
        wanted: impl Fn(&Analyzer) -> bool,
        findings: bool,
        now: i64,
    ) -> Option<Arc<Analysis>> {
        let first = self.said.is_empty();
        self.said.resize_with(ALL.len() + 1, Vec::new);
        let set = Set::new(&self.store, now);
        let mut touched: BTreeSet<ObjectKey> = BTreeSet::new();
        let mut ran = Vec::new();
        let (by_analyzer, by_validation) = self.said.split_at_mut(ALL.len());
        for (analyzer, said) in ALL.iter().zip(by_analyzer) {
            if first || wanted(analyzer) {
                let mut report = Report::default();
                if !is_blind(analyzer, &self.unseen) {
                    set.show(analyzer, &mut report);
                }
                exchange(said, sorted(&set, report.messages), &mut touched);
                ran.push(analyzer.name);
            }
        }
        if first || findings {
            for said in by_validation {
                exchange(said, sorted(&set, of_findings(&self.findings)), &mut touched);
            }
        }
        if !first && touched.is_empty() {
            return None;
        }
        self.current = Arc::new(self.merged(touched, ran));
        Some(self.current.clone())
    }

    /// The last analysis with the touched objects' messages put together anew.
    fn merged(&self, touched: BTreeSet<ObjectKey>, ran: Vec<&'static str>) -> Analysis {
        let mut next = (*self.current).clone();
        next.version += 1;
        let blind = ALL.iter().filter(|analyzer| is_blind(analyzer, &self.unseen));
        next.skipped = blind.map(|analyzer| analyzer.name).collect();
        next.ran = ran;
        for key in touched {
            let mut messages: Vec<Message> = self
                .said
                .iter()
                .flat_map(|said| about(said, &key))
                .cloned()
                .collect();
            messages.sort_by(Message::by_severity);
            messages.dedup_by(|a, b| a.repeats(b));
            for message in next.of(&key).to_vec() {
                count(&mut next.counts, message.code, -1);
            }
            for message in &messages {
                count(&mut next.counts, message.code, 1);
            }
            match messages.is_empty() {
                true => next.objects.remove(&key),
                false => next.objects.insert(key, messages.into()),
            };
        }
        next
    }
}

fn reads(analyzer: &Analyzer, changed: &BTreeSet<Kind>) -> bool {
    analyzer.inputs.iter().any(|kind| changed.contains(kind))
}

/// Whether an analyzer would take what cannot be seen for absent.
fn is_blind(analyzer: &Analyzer, unseen: &[Kind]) -> bool {
    analyzer.inputs.iter().any(|kind| unseen.contains(kind))
}

fn count(counts: &mut BTreeMap<Code, usize>, code: Code, by: isize) {
    let now = counts
        .get(&code)
        .copied()
        .unwrap_or_default()
        .saturating_add_signed(by);
    match now {
        0 => counts.remove(&code),
        now => counts.insert(code, now),
    };
}

/// Messages by object, without those that are suppressed.
fn sorted(set: &Set<'_>, mut messages: Vec<Message>) -> Vec<Message> {
    messages.retain(|message| message.object.is_some() && !run::is_suppressed(set, message));
    messages.sort_by(|a, b| a.object.cmp(&b.object).then_with(|| a.by_severity(b)));
    messages
}

/// The messages about one object among messages that are in the order of their objects.
fn about<'a>(messages: &'a [Message], key: &ObjectKey) -> &'a [Message] {
    let start = messages.partition_point(|message| message.object.as_ref() < Some(key));
    let rest = messages.get(start..).unwrap_or_default();
    let len = rest.partition_point(|message| message.object.as_ref() == Some(key));
    rest.get(..len).unwrap_or_default()
}

/// Puts `new` in place of `old`, and adds to `touched` the objects of which they say different things.
fn exchange(old: &mut Vec<Message>, new: Vec<Message>, touched: &mut BTreeSet<ObjectKey>) {
    let differ = |a: &[Message], b: &[Message], touched: &mut BTreeSet<ObjectKey>| {
        let mut rest = b;
        for group in a.chunk_by(|a, b| a.object == b.object) {
            let Some(key) = group.first().and_then(|message| message.object.as_ref()) else {
                continue;
            };
            // Both are in the order of objects, so each is walked once.
            while rest
                .first()
                .is_some_and(|message| message.object.as_ref() < Some(key))
            {
                rest = rest.get(1..).unwrap_or_default();
            }
            let len = rest
                .iter()
                .take_while(|message| message.object.as_ref() == Some(key))
                .count();
            if rest.get(..len) != Some(group) {
                touched.insert(key.clone());
            }
        }
    };
    differ(old, &new, touched);
    differ(&new, old, touched);
    *old = new;
}
