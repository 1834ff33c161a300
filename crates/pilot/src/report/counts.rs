//! How many proxies have accepted what comes from each object.
//!
//! Pure, and cheap with thousands of proxies: an object is counted once for each list of objects that proxies share, and
//! only proxies that are behind, or reject something, are looked at one by one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use config::ObjectKey;

/// The objects behind one part of a table; the same list for all proxies that share the part.
pub type Objects = Arc<HashSet<ObjectKey>>;

/// What is known of one proxy.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// The objects that its table comes from, by the table's parts.
    pub parts: Vec<Objects>,
    /// Objects of the table that it has not accepted yet.
    pub behind: Option<Objects>,
    /// Objects behind resources that it rejects, with its words.
    pub rejects: Vec<(ObjectKey, Arc<str>)>,
}

/// How far one object has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Count {
    /// Proxies whose table depends on it.
    pub proxies: u32,
    /// Those that have accepted all that comes from it.
    pub accepted: u32,
    /// Those that reject something that comes from it.
    pub rejected: u32,
    /// The words of one of them.
    pub reason: Option<Arc<str>>,
}

/// Adds proxies up. An object that no proxy's table depends on is not in the result.
#[must_use]
pub fn count(proxies: &[Proxy]) -> BTreeMap<ObjectKey, Count> {
    let mut scopes: HashMap<Vec<*const HashSet<ObjectKey>>, (&[Objects], u32)> = HashMap::new();
    let mut behind: HashMap<*const HashSet<ObjectKey>, (&Objects, u32)> = HashMap::new();
    let mut counts = BTreeMap::new();
    for proxy in proxies {
        let scope = proxy.parts.iter().map(Arc::as_ptr).collect();
        scopes.entry(scope).or_insert((&proxy.parts, 0)).1 += 1;
        if proxy.rejects.is_empty() {
            if let Some(objects) = &proxy.behind {
                behind.entry(Arc::as_ptr(objects)).or_insert((objects, 0)).1 += 1;
            }
        } else {
            one_by_one(proxy, &mut counts);
        }
    }
    totals(scopes.values(), &mut counts);
    let mut late: HashMap<&ObjectKey, u32> = HashMap::new();
    for (objects, proxies) in behind.values() {
        for object in objects.iter() {
            *late.entry(object).or_default() += proxies;
        }
    }
    for (object, count) in &mut counts {
        let waiting = late.get(object).copied().unwrap_or_default() + count.accepted;
        count.accepted = count
            .proxies
            .saturating_sub(count.rejected)
            .saturating_sub(waiting);
    }
    counts
}

/// A proxy that rejects something: what it rejects counts as that, and not as behind too. Until the end `accepted` holds how
/// many of these proxies are behind.
fn one_by_one(proxy: &Proxy, counts: &mut BTreeMap<ObjectKey, Count>) {
    let rejects: BTreeMap<&ObjectKey, &Arc<str>> =
        proxy.rejects.iter().map(|(key, words)| (key, words)).collect();
    let has = |object: &ObjectKey| proxy.parts.iter().any(|part| part.contains(object));
    for (object, words) in rejects.iter().filter(|(object, _)| has(object)) {
        let count: &mut Count = counts.entry((*object).clone()).or_default();
        count.rejected += 1;
        count.reason.get_or_insert_with(|| (*words).clone());
    }
    let behind = proxy.behind.iter().flat_map(|objects| objects.iter());
    for object in behind.filter(|object| !rejects.contains_key(object) && has(object)) {
        counts.entry(object.clone()).or_default().accepted += 1;
    }
}

/// Adds how many proxies depend on each object. The parts of a table overlap; an object in two of them is one.
fn totals<'a>(
    scopes: impl Iterator<Item = &'a (&'a [Objects], u32)>,
    counts: &mut BTreeMap<ObjectKey, Count>,
) {
    let mut shared: HashMap<*const HashSet<ObjectKey>, (&Objects, u32)> = HashMap::new();
    for (parts, proxies) in scopes {
        let Some((first, others)) = parts.split_first() else {
            continue;
        };
        shared.entry(Arc::as_ptr(first)).or_insert((first, 0)).1 += proxies;
        for (at, part) in others.iter().enumerate() {
            let before = |object: &ObjectKey| parts.iter().take(at + 1).any(|part| part.contains(object));
            for object in part.iter().filter(|object| !before(object)) {
                counts.entry(object.clone()).or_default().proxies += proxies;
            }
        }
    }
    for (objects, proxies) in shared.values() {
        for object in objects.iter() {
            counts.entry(object.clone()).or_default().proxies += proxies;
        }
    }
}

#[cfg(test)]
mod tests {
    use config::Kind;
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::VirtualService, "shop", name)
    }

    fn objects(names: &[&str]) -> Objects {
        Arc::new(names.iter().map(|name| key(name)).collect())
    }

    #[track_caller]
    fn check(proxies: &[Proxy], expected: &[(&str, u32, u32, u32)]) {
        let counts = count(proxies);
        let seen: Vec<_> = counts
            .iter()
            .map(|(key, c)| (key.name.as_str(), c.proxies, c.accepted, c.rejected))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn proxies_are_counted_by_what_they_depend_on_and_have() {
        let (outbound, inbound) = (objects(&["a", "b"]), objects(&["b", "c"]));
        let synced = Proxy {
            parts: vec![outbound.clone(), inbound],
            ..Proxy::default()
        };
        let gateway = Proxy {
            parts: vec![outbound],
            ..Proxy::default()
        };
        let late = Proxy {
            behind: Some(objects(&["a"])),
            ..synced.clone()
        };
        let refusing = Proxy {
            behind: Some(objects(&["a", "c"])),
            rejects: vec![
                (key("a"), "bad".into()),
                (key("a"), "worse".into()),
                (key("gone"), "x".into()),
            ],
            ..synced.clone()
        };
        check(&[], &[]);
        check(
            &[synced.clone(), gateway],
            &[("a", 2, 2, 0), ("b", 2, 2, 0), ("c", 1, 1, 0)],
        );
        check(
            &[synced, late, refusing.clone()],
            &[("a", 3, 1, 1), ("b", 3, 3, 0), ("c", 3, 2, 0)],
        );
        assert_eq!(count(&[refusing])[&key("a")].reason.as_deref(), Some("worse"));
    }

    fn names() -> impl Strategy<Value = HashSet<ObjectKey>> {
        proptest::collection::hash_set("[a-e]".prop_map(|name| key(&name)), 0..4)
    }

    proptest! {
        /// Against counting each object for each proxy.
        #[test]
        fn shared_lists_count_as_single_ones(
            lists in proptest::collection::vec(names(), 1..5),
            proxies in proptest::collection::vec((proptest::collection::vec(0..5usize, 0..3), proptest::option::of(0..5usize), names()), 0..12),
        ) {
            let lists: Vec<Objects> = lists.into_iter().map(Arc::new).collect();
            let list = |at: usize| lists[at % lists.len()].clone();
            let proxy = |(parts, behind, rejects): (Vec<usize>, Option<usize>, HashSet<ObjectKey>)| {
                let parts: Vec<Objects> = parts.into_iter().map(list).collect();
                // What is behind is of the table.
                let behind = behind.map(list).filter(|late| late.iter().all(|object| parts.iter().any(|part| part.contains(object))));
                let rejects = rejects.into_iter().map(|object| (object, "no".into())).collect();
                Proxy { parts, behind, rejects }
            };
            let proxies: Vec<Proxy> = proxies.into_iter().map(proxy).collect();
            let counts = count(&proxies);
            for name in ["a", "b", "c", "d", "e"] {
                let object = key(name);
                let using: Vec<&Proxy> = proxies.iter().filter(|p| p.parts.iter().any(|part| part.contains(&object))).collect();
                let rejects = |p: &&&Proxy| p.rejects.iter().any(|(key, _)| *key == object);
                let rejected = using.iter().filter(rejects).count();
                let accepted = using.iter().filter(|p| !rejects(p) && p.behind.as_ref().is_none_or(|late| !late.contains(&object))).count();
                let seen = counts.get(&object).map_or((0, 0, 0), |c| (c.proxies, c.accepted, c.rejected));
                prop_assert_eq!(seen, (using.len() as u32, accepted as u32, rejected as u32), "{}", name);
            }
        }
    }
}
