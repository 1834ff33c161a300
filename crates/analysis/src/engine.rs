//! Analysis of objects that change: keeps what each analyzer has said of which object, and looks again only where something
//! has changed that it has read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::{Finding, Kind, Object, ObjectKey, Status};

use crate::analyzer::Check;
use crate::ledger::{Ledger, Look, Subject};
use crate::listed::Listed;
use crate::store::Change;
use crate::term::{Term, TermId};
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
    /// Names of the analyzers that looked at something for this version.
    pub ran: Vec<&'static str>,
    /// How many looks at objects, namespaces or the whole mesh that took.
    pub looks: usize,
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
    /// All objects, each key once. What is the same `Arc` as in the state before costs a comparison of pointers where states
    /// are in the order of their keys.
    pub objects: &'a [Arc<Object>],
    /// What controllers have written about them.
    pub statuses: &'a BTreeMap<ObjectKey, Status>,
    /// What validation says of single objects.
    pub findings: &'a [Finding],
    /// Kinds that the source cannot see, which is not the same as that there are none: who reads them is not asked.
    pub unseen: &'a [Kind],
}

/// Analyses a mesh again and again. A change costs what it concerns: the looks of analyzers at the changed objects, and those
/// that have read something that it touches.
#[derive(Debug, Default)]
pub struct Engine {
    store: Store,
    /// What the store holds, as it was told.
    listed: Listed,
    ledger: Ledger,
    /// What validation of single objects has said.
    findings: Vec<Finding>,
    /// The objects that it has said something of.
    validated: BTreeSet<ObjectKey>,
    unseen: Vec<Kind>,
    current: Arc<Analysis>,
    /// How many looks the last change took.
    looks: usize,
}

/// What has to be looked at again.
#[derive(Debug, Default)]
struct Work {
    looks: BTreeSet<Look>,
    /// Objects whose messages have to be put together anew.
    touched: BTreeSet<ObjectKey>,
}

impl Engine {
    /// What was found last.
    pub fn analysis(&self) -> Arc<Analysis> {
        self.current.clone()
    }

    /// How many looks the last change took, whether it gave another analysis or not: what it cost.
    pub fn looks(&self) -> usize {
        self.looks
    }

    /// Takes a new complete state. `now` is in seconds since 1970. Gives the new analysis when it differs.
    pub fn replace(&mut self, input: Input<'_>, now: i64) -> Option<Arc<Analysis>> {
        let changes = match self.listed.replace(input.objects) {
            Some(difference) => self.change(difference.news, &difference.gone),
            None => {
                self.store.mark();
                let mut changes = self.change(input.objects.iter().cloned(), &[]);
                changes.extend(self.store.sweep());
                changes
            }
        };
        let statuses = self.statuses(input.statuses);
        let mut work = self.work(&changes, &statuses);
        self.see(input.unseen, &mut work);
        self.validate(input.findings, &mut work);
        self.run(work, now)
    }

    /// Takes single changes: objects that are new or different, and those that are gone.
    pub fn apply(
        &mut self,
        objects: impl IntoIterator<Item = Arc<Object>>,
        gone: &[ObjectKey],
        now: i64,
    ) -> Option<Arc<Analysis>> {
        self.listed.forget();
        let changes = self.change(objects, gone);
        let work = self.work(&changes, &[]);
        self.run(work, now)
    }

    fn change(&mut self, news: impl IntoIterator<Item = Arc<Object>>, gone: &[ObjectKey]) -> Vec<Change> {
        let news = news.into_iter();
        let mut changes: Vec<Change> = news.filter_map(|object| self.store.put(object)).collect();
        changes.extend(gone.iter().filter_map(|key| self.store.take(key)));
        changes
    }

    /// Takes facts about the cluster.
    pub fn facts(&mut self, facts: Facts, now: i64) -> Option<Arc<Analysis>> {
        match self.store.set_facts(facts) {
            true => self.run(self.readers([Term::Facts.id()]), now),
            false => None,
        }
    }

    /// Time has passed: certificates may have expired.
    pub fn tick(&mut self, now: i64) -> Option<Arc<Analysis>> {
        self.run(self.readers([Term::Clock.id()]), now)
    }

    /// Takes the statuses; the objects whose status is another one.
    fn statuses(&mut self, statuses: &BTreeMap<ObjectKey, Status>) -> Vec<ObjectKey> {
        let store = &mut self.store;
        let news = statuses
            .iter()
            .filter(|(key, status)| store.set_status(key, Some(status)));
        let mut changed: Vec<ObjectKey> = news.map(|(key, _)| key.clone()).collect();
        changed.extend(self.store.retain_statuses(|key| statuses.contains_key(key)));
        changed
    }

    fn readers(&self, terms: impl IntoIterator<Item = TermId>) -> Work {
        Work {
            looks: self.ledger.readers(terms).cloned().collect(),
            touched: BTreeSet::new(),
        }
    }

    /// What follows from changes of objects and of statuses.
    fn work(&self, changes: &[Change], statuses: &[ObjectKey]) -> Work {
        let mut terms: Vec<TermId> = changes.iter().flat_map(Change::terms).collect();
        terms.sort_unstable();
        terms.dedup();
        let mut work = self.readers(terms);
        // An annotation may say that the object is not to be told of.
        let changed = changes.iter().filter_map(Change::object).map(Object::key);
        work.touched.extend(changed);
        for key in work.touched.iter().chain(statuses) {
            work.looks.extend(looks_at(key));
        }
        work
    }

    /// Takes the kinds that cannot be seen: analyzers that read them fall silent, and others begin to look.
    fn see(&mut self, unseen: &[Kind], work: &mut Work) {
        if self.unseen == unseen {
            return;
        }
        for (number, analyzer) in ALL.iter().enumerate() {
            if analyzer.is_blind(&self.unseen) != analyzer.is_blind(unseen) {
                work.looks.extend(self.ledger.of(number).cloned());
                work.looks.extend(all_looks(&self.store, number, analyzer));
            }
        }
        self.unseen = unseen.to_vec();
    }

    /// Takes what validation says. It is kept like what one more analyzer says.
    fn validate(&mut self, findings: &[Finding], work: &mut Work) {
        if self.findings == findings {
            return;
        }
        self.findings = findings.to_vec();
        let mut said: BTreeMap<ObjectKey, Vec<Message>> = BTreeMap::new();
        for message in of_findings(findings) {
            if let Some(key) = message.object.clone() {
                said.entry(key).or_default().push(message);
            }
        }
        let before = std::mem::replace(&mut self.validated, said.keys().cloned().collect());
        let over = before.into_iter().filter(|key| !self.validated.contains(key));
        let over: Vec<_> = over.map(|key| (key, Vec::new())).collect();
        for (key, messages) in over.into_iter().chain(said) {
            let look = Look {
                analyzer: ALL.len(),
                subject: Subject::Object(key),
            };
            self.ledger.write(look, Vec::new(), messages, &mut work.touched);
        }
    }

    fn run(&mut self, mut work: Work, now: i64) -> Option<Arc<Analysis>> {
        let (mut ran, mut looks) = (BTreeSet::new(), 0);
        let is_first = self.current.version == 0;
        if is_first {
            for (number, analyzer) in ALL.iter().enumerate() {
                ran.insert(number);
                work.looks.extend(all_looks(&self.store, number, analyzer));
            }
        }
        let set = Set::new(&self.store, now);
        for look in work.looks {
            let Some(analyzer) = ALL.get(look.analyzer) else {
                continue;
            };
            let (mut report, mut reads) = (Report::default(), Vec::new());
            if !analyzer.is_blind(&self.unseen) {
                ran.insert(look.analyzer);
                looks += 1;
                reads = set.show(analyzer, &look.subject, &mut report);
            }
            let touched = &mut work.touched;
            self.ledger.write(look, reads, report.messages, touched);
        }
        self.looks = looks;
        let told = self.told(work.touched);
        let blind = ALL.iter().filter(|analyzer| analyzer.is_blind(&self.unseen));
        let skipped: Vec<&str> = blind.map(|analyzer| analyzer.name).collect();
        if !is_first && told.is_empty() && skipped == self.current.skipped {
            return None;
        }
        let ran = ran.into_iter().filter_map(|number| Some(ALL.get(number)?.name));
        let mut next = (*self.current).clone();
        next.version += 1;
        (next.skipped, next.ran, next.looks) = (skipped, ran.collect(), looks);
        for (key, messages) in told {
            tell(&mut next, key, messages);
        }
        self.current = Arc::new(next);
        Some(self.current.clone())
    }

    /// What is said of the touched objects, as far as it is another thing than before.
    fn told(&self, touched: BTreeSet<ObjectKey>) -> Vec<(ObjectKey, Vec<Message>)> {
        let set = Set::new(&self.store, 0);
        let told = touched.into_iter().map(|key| {
            let said = self.ledger.said_of(&key);
            let said = said.filter(|message| !run::is_suppressed(&set, message));
            let mut messages: Vec<Message> = said.cloned().collect();
            messages.sort_by(Message::by_severity);
            messages.dedup_by(|a, b| a.repeats(b));
            (key, messages)
        });
        told.filter(|(key, messages)| self.current.of(key) != messages.as_slice())
            .collect()
    }
}

/// The looks that are at an object itself, or at its namespace.
fn looks_at(key: &ObjectKey) -> impl Iterator<Item = Look> {
    let looks = ALL.iter().enumerate().filter_map(|(analyzer, each)| {
        let subject = match each.check {
            Check::Each(kinds, _) if kinds.contains(&key.kind) => Subject::Object(key.clone()),
            Check::Namespace(kind, _) if kind == key.kind => Subject::Namespace(key.namespace.clone()),
            _ => return None,
        };
        Some(Look { analyzer, subject })
    });
    looks.collect::<Vec<_>>().into_iter()
}

/// The looks of one analyzer at everything.
fn all_looks(store: &Store, number: usize, analyzer: &Analyzer) -> impl Iterator<Item = Look> {
    let subjects = Set::new(store, 0).subjects(analyzer).into_iter();
    subjects.map(move |subject| Look {
        analyzer: number,
        subject,
    })
}

/// Puts an object's messages in place of those before.
fn tell(analysis: &mut Analysis, key: ObjectKey, messages: Vec<Message>) {
    let Analysis { objects, counts, .. } = analysis;
    for message in objects.get(&key).into_iter().flat_map(|before| before.iter()) {
        count(counts, message.code, -1);
    }
    for message in &messages {
        count(counts, message.code, 1);
    }
    match messages.is_empty() {
        true => objects.remove(&key),
        false => objects.insert(key, messages.into()),
    };
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
