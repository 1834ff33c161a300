//! The complete list that was told last, and what another one changes in it: where both hold the same object, pointers are
//! compared and nothing is looked at.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use config::{Object, ObjectKey};

use crate::store::by_key;

/// The last list; none before the first, and after changes that were no list.
#[derive(Debug, Default)]
pub(crate) struct Listed(Option<Vec<Arc<Object>>>);

/// What a list changes in the one before.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Difference {
    /// Objects that are not the same in memory as before.
    pub(crate) news: Vec<Arc<Object>>,
    /// Keys that the list lacks.
    pub(crate) gone: Vec<ObjectKey>,
}

impl Listed {
    /// Takes a list, which holds each key once. `None` when the one before is not known. It is cheapest where lists are in the
    /// order of their keys; in another order more is news than has to be.
    pub(crate) fn replace(&mut self, list: &[Arc<Object>]) -> Option<Difference> {
        let Some(old) = &mut self.0 else {
            self.0 = Some(list.to_vec());
            return None;
        };
        let same = |pair: &(&Arc<Object>, &Arc<Object>)| Arc::ptr_eq(pair.0, pair.1);
        let start = old.iter().zip(list).take_while(same).count();
        let most = old.len().min(list.len()) - start;
        let backwards = old.iter().rev().zip(list.iter().rev());
        let end = backwards.take(most).take_while(same).count();
        let replaced = start..old.len() - end;
        let new = list.get(start..list.len() - end).unwrap_or_default();
        let difference = difference(old.get(replaced.clone()).unwrap_or_default(), new);
        // Only what differs is counted anew: a clone of each of ten thousand objects would touch all of them.
        old.splice(replaced, new.iter().cloned()).for_each(drop);
        Some(difference)
    }

    /// Objects have come or gone without a list.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }
}

fn difference(old: &[Arc<Object>], new: &[Arc<Object>]) -> Difference {
    let (mut news, mut gone) = (Vec::new(), Vec::new());
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) if Arc::ptr_eq(was, is) => Ordering::Equal,
            (Some(was), Some(is)) => by_key(was, is),
        };
        let was = left.next_if(|_| order.is_le());
        let is = right.next_if(|_| order.is_ge());
        match (was, is) {
            (Some(was), Some(is)) if Arc::ptr_eq(was, is) => {}
            (_, Some(is)) => news.push(is.clone()),
            (Some(was), None) => gone.push(was.key()),
            (None, None) => {}
        }
    }
    if !gone.is_empty() {
        // In lists that are not in order a key may have moved.
        let stays: BTreeSet<ObjectKey> = news.iter().map(|object| object.key()).collect();
        gone.retain(|key| !stays.contains(key));
    }
    Difference { news, gone }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str) -> Arc<Object> {
        let yaml = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        let mut objects = config::parse("x.yaml", yaml.as_bytes(), "default").objects;
        Arc::new(objects.remove(0))
    }

    fn check(old: &[&Arc<Object>], new: &[&Arc<Object>], news: &[&str], gone: &[&str]) {
        let list = |objects: &[&Arc<Object>]| objects.iter().copied().cloned().collect::<Vec<_>>();
        let mut listed = Listed::default();
        assert_eq!(listed.replace(&list(old)), None, "nothing is known of before");
        let found = listed.replace(&list(new)).expect("a difference");
        let named: Vec<&str> = found
            .news
            .iter()
            .map(|object| object.meta.name.as_str())
            .collect();
        assert_eq!(named, news);
        let named: Vec<&str> = found.gone.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(named, gone);
        assert_eq!(listed.replace(&list(new)), Some(Difference::default()), "taken");
        listed.forget();
        assert_eq!(listed.replace(&list(new)), None);
    }

    #[test]
    fn differences() {
        let [a, b, c, d] = ["a", "b", "c", "d"].map(object);
        let other = object("b");
        check(&[], &[&a], &["a"], &[]);
        check(&[&a], &[], &[], &["a"]);
        check(&[&a, &b, &c], &[&a, &b, &c], &[], &[]);
        check(&[&a, &b, &c], &[&a, &other, &c], &["b"], &[]);
        check(&[&a, &c], &[&a, &b, &c, &d], &["b", "d"], &[]);
        check(&[&a, &b, &c, &d], &[&b, &c], &[], &["a", "d"]);
        check(&[&a, &b, &d], &[&b, &c], &["c"], &["a", "d"]);
    }

    #[test]
    fn what_moves_in_a_list_is_not_gone() {
        let [a, b, c] = ["a", "b", "c"].map(object);
        check(&[&a, &b, &c], &[&c, &a, &b], &["a", "b"], &[]);
        check(&[&c, &a, &b], &[&a, &b], &[], &["c"]);
    }
}
