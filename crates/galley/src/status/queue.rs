//! Which objects' statuses are due: what was written last, what should be there now, and how long that may wait.
//!
//! Pure; the time comes in.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use config::ObjectKey;

use super::subjects::Subject;

/// How long an object whose write failed for itself (and not for all) is left alone.
const FAILED: Duration = Duration::from_secs(30);

/// What is known to be in the cluster, and what waits.
#[derive(Debug, Default)]
pub struct Queue {
    written: HashMap<ObjectKey, Subject>,
    due: BTreeMap<ObjectKey, Duration>,
}

impl Queue {
    /// Nothing is known of the cluster any more: everything has to be compared.
    pub fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// Takes up what statuses should say at `now`.
    pub fn want(&mut self, subjects: &BTreeMap<ObjectKey, Subject>, now: Duration) {
        self.written.retain(|key, _| subjects.contains_key(key));
        self.due.retain(|key, _| subjects.contains_key(key));
        for (key, subject) in subjects {
            let patience = match self.written.get(key) {
                Some(written) if written == subject => {
                    self.due.remove(key);
                    continue;
                }
                Some(written) if written.uid == subject.uid => subject.wanted.patience(&written.wanted),
                _ => Duration::ZERO,
            };
            let due = self.due.entry(key.clone()).or_insert(now + patience);
            *due = (*due).min(now + patience);
        }
    }

    /// The next object that is due: the one that became it last, so that what a person has just changed does not wait for
    /// thousands of objects that are compared for the first time.
    #[must_use]
    pub fn next(&self, now: Duration) -> Option<ObjectKey> {
        let due = self.due.iter().filter(|(_, due)| **due <= now);
        due.max_by_key(|(_, due)| **due).map(|(key, _)| key.clone())
    }

    /// How many objects wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.due.len()
    }

    /// The cluster says what the subject wants.
    pub fn done(&mut self, key: &ObjectKey, subject: Subject) {
        self.due.remove(key);
        self.written.insert(key.clone(), subject);
    }

    /// The object could not be written; the others can.
    pub fn failed(&mut self, key: &ObjectKey, now: Duration) {
        self.due.insert(key.clone(), now + FAILED);
    }

    /// The object is not in the cluster any more.
    pub fn gone(&mut self, key: &ObjectKey) {
        self.due.remove(key);
        self.written.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use config::Kind;

    use super::super::progress::Progress;
    use super::super::wanted::Wanted;
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::VirtualService, "shop", name)
    }

    fn subject(uid: &str, generation: i64, proxies: u32, accepted: u32) -> Subject {
        let progress = Progress {
            proxies,
            accepted,
            ..Progress::default()
        };
        Subject {
            uid: uid.to_owned(),
            wanted: Wanted {
                generation,
                served: true,
                progress: Some(progress),
                messages: Vec::new(),
                compiled: None,
            },
        }
    }

    fn one(subject: Subject) -> BTreeMap<ObjectKey, Subject> {
        BTreeMap::from([(key("a"), subject)])
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_written_is_not_due_until_it_changes() {
        let mut queue = Queue::default();
        queue.want(&one(subject("u", 1, 9, 9)), seconds(0));
        assert_eq!(queue.next(seconds(0)), Some(key("a")));
        queue.done(&key("a"), subject("u", 1, 9, 9));
        queue.want(&one(subject("u", 1, 9, 9)), seconds(1));
        assert_eq!(queue.next(seconds(1000)), None);
        queue.want(&one(subject("u", 2, 9, 0)), seconds(2));
        assert_eq!(queue.next(seconds(2)), Some(key("a")));
    }

    #[test]
    fn counts_wait_and_go_when_they_are_as_before_and_news_overtake_them() {
        let mut queue = Queue::default();
        queue.done(&key("a"), subject("u", 1, 9, 9));
        queue.want(&one(subject("u", 1, 10, 10)), seconds(0));
        queue.want(&one(subject("u", 1, 11, 11)), seconds(50));
        assert_eq!(queue.next(seconds(59)), None);
        assert_eq!(
            queue.next(seconds(60)),
            Some(key("a")),
            "the wait does not begin anew"
        );
        queue.want(&one(subject("u", 1, 9, 9)), seconds(60));
        assert_eq!((queue.next(seconds(999)), queue.waiting()), (None, 0));
        queue.want(&one(subject("u", 1, 10, 10)), seconds(100));
        queue.want(&one(subject("u", 2, 10, 0)), seconds(101));
        assert_eq!(queue.next(seconds(101)), Some(key("a")));
        queue.want(&one(subject("other", 1, 9, 9)), seconds(102));
        assert_eq!(
            queue.next(seconds(102)),
            Some(key("a")),
            "another object of that name"
        );
    }

    #[test]
    fn what_changed_last_goes_first() {
        let mut queue = Queue::default();
        let mut all = one(subject("u", 1, 9, 9));
        all.insert(key("b"), subject("v", 1, 9, 9));
        queue.want(&all, seconds(0));
        all.insert(key("a"), subject("u", 2, 9, 9));
        queue.done(&key("a"), subject("u", 1, 9, 9));
        queue.want(&all, seconds(5));
        assert_eq!(queue.next(seconds(5)), Some(key("a")));
    }

    #[test]
    fn a_fault_of_one_object_does_not_hold_up_others_and_what_is_gone_is_forgotten() {
        let mut queue = Queue::default();
        let mut both = one(subject("u", 1, 9, 9));
        both.insert(key("b"), subject("v", 1, 9, 9));
        queue.want(&both, seconds(0));
        queue.failed(&key("a"), seconds(0));
        assert_eq!(queue.next(seconds(0)), Some(key("b")));
        queue.done(&key("b"), subject("v", 1, 9, 9));
        assert_eq!(queue.next(seconds(29)), None);
        assert_eq!(queue.next(seconds(30)), Some(key("a")));
        queue.gone(&key("a"));
        assert_eq!(queue.waiting(), 0);
        queue.want(&BTreeMap::new(), seconds(31));
        queue.want(&both, seconds(32));
        assert_eq!(queue.waiting(), 2);
    }
}
