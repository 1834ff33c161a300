//! What each look of an analyzer has read and said: who has to look again when something changes, and what is said of an
//! object by all together. It knows nothing of analyzers but their numbers.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use config::ObjectKey;

use crate::Message;
use crate::term::TermId;

/// What an analyzer looks at in one go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Subject {
    /// Everything.
    Mesh,
    /// The objects of a namespace.
    Namespace(String),
    /// An object.
    Object(ObjectKey),
}

/// One analyzer, by its number, at one subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Look {
    pub(crate) analyzer: usize,
    pub(crate) subject: Subject,
}

#[derive(Debug, Default)]
struct Record {
    reads: Vec<TermId>,
    /// In the order of the objects that they are about.
    said: Vec<Message>,
}

/// The looks that have read or said something.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    records: HashMap<Arc<Look>, Record>,
    readers: HashMap<TermId, HashSet<Arc<Look>>>,
    speakers: HashMap<ObjectKey, BTreeSet<Arc<Look>>>,
}

impl Ledger {
    /// The looks that have read one of the terms.
    pub(crate) fn readers(&self, terms: impl IntoIterator<Item = TermId>) -> impl Iterator<Item = &Look> {
        let read = terms.into_iter().filter_map(|term| self.readers.get(&term));
        read.flatten().map(|look| &**look)
    }

    /// The looks of one analyzer.
    pub(crate) fn of(&self, analyzer: usize) -> impl Iterator<Item = &Look> {
        let all = self.records.keys().map(|look| &**look);
        all.filter(move |look| look.analyzer == analyzer)
    }

    /// Writes down a look in place of the one before, and adds to `touched` the objects of which it says something else now.
    /// Messages about the cluster as a whole are not kept.
    pub(crate) fn write(
        &mut self,
        look: Look,
        reads: Vec<TermId>,
        mut said: Vec<Message>,
        touched: &mut BTreeSet<ObjectKey>,
    ) {
        said.retain(|message| message.object.is_some());
        said.sort_by(|a, b| a.object.cmp(&b.object).then_with(|| a.by_severity(b)));
        let (look, old) = match self.records.remove_entry(&look) {
            Some(known) => known,
            None if reads.is_empty() && said.is_empty() => return,
            None => (Arc::new(look), Record::default()),
        };
        for term in old.reads.iter().filter(|term| !reads.contains(term)) {
            if let Some(readers) = self.readers.get_mut(term) {
                readers.remove(&look);
                if readers.is_empty() {
                    self.readers.remove(term);
                }
            }
        }
        for term in reads.iter().filter(|term| !old.reads.contains(term)) {
            self.readers.entry(*term).or_default().insert(look.clone());
        }
        for key in subjects(&old.said).chain(subjects(&said)) {
            if about(&old.said, key) == about(&said, key) {
                continue;
            }
            touched.insert(key.clone());
            if !about(&said, key).is_empty() {
                let speakers = self.speakers.entry(key.clone()).or_default();
                speakers.insert(look.clone());
            } else if let Some(speakers) = self.speakers.get_mut(key) {
                speakers.remove(&look);
                if speakers.is_empty() {
                    self.speakers.remove(key);
                }
            }
        }
        if !reads.is_empty() || !said.is_empty() {
            self.records.insert(look, Record { reads, said });
        }
    }

    /// What is said of an object.
    pub(crate) fn said_of(&self, key: &ObjectKey) -> impl Iterator<Item = &Message> {
        let looks = self.speakers.get(key).into_iter().flatten();
        let records = looks.filter_map(|look| self.records.get(look));
        records.flat_map(move |record| about(&record.said, key))
    }
}

/// The objects that messages are about, each once.
fn subjects(said: &[Message]) -> impl Iterator<Item = &ObjectKey> {
    let groups = said.chunk_by(|a, b| a.object == b.object);
    groups.filter_map(|group| group.first()?.object.as_ref())
}

/// The messages about one object among messages that are in the order of their objects.
fn about<'a>(said: &'a [Message], key: &ObjectKey) -> &'a [Message] {
    let start = said.partition_point(|message| message.object.as_ref() < Some(key));
    let rest = said.get(start..).unwrap_or_default();
    let len = rest.partition_point(|message| message.object.as_ref() == Some(key));
    rest.get(..len).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use config::{Kind, Origin};

    use super::*;
    use crate::Code;
    use crate::term::Term;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::Service, "shop", name)
    }

    fn look(name: &str) -> Look {
        Look {
            analyzer: 1,
            subject: Subject::Object(key(name)),
        }
    }

    fn message(name: &str, text: &str) -> Message {
        Message {
            code: Code::Deprecated,
            object: Some(key(name)),
            path: String::new(),
            text: text.to_owned(),
            origin: Origin::default(),
        }
    }

    #[test]
    fn who_reads_and_who_speaks_is_known_as_long_as_it_is_so() {
        let mut ledger = Ledger::default();
        let (host, other) = (Term::Host("a").id(), Term::Host("b").id());
        let mut touched = BTreeSet::new();
        let said = vec![message("b", "two"), message("a", "one")];
        ledger.write(look("a"), vec![host], said.clone(), &mut touched);
        assert_eq!(touched, BTreeSet::from([key("a"), key("b")]));
        assert_eq!(ledger.readers([host]).collect::<Vec<_>>(), [&look("a")]);
        assert_eq!(ledger.said_of(&key("b")).count(), 1);

        touched.clear();
        ledger.write(look("a"), vec![other], said, &mut touched);
        assert!(touched.is_empty(), "the same is said");
        assert_eq!(
            (ledger.readers([host]).count(), ledger.readers([other]).count()),
            (0, 1)
        );

        ledger.write(look("a"), vec![other], vec![message("a", "one")], &mut touched);
        assert_eq!(touched, BTreeSet::from([key("b")]));
        ledger.write(look("a"), Vec::new(), Vec::new(), &mut touched);
        let Ledger {
            records,
            readers,
            speakers,
        } = ledger;
        assert!(records.is_empty() && readers.is_empty() && speakers.is_empty());
    }
}
