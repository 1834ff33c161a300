//! Which names of one type a client has asked for (xDS protocol, "How the client specifies what resources to return").

use super::names::{Names, Pool, Set};
use std::sync::Arc;

/// The name that stands for all resources.
const WILDCARD: &str = "*";

/// The names that a client subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// All resources of the type.
    pub(super) wildcard: bool,
    /// Names asked for by name, with the wildcard or without.
    pub(super) names: Names,
    /// A name was given once on this stream, so an empty list no longer means "all".
    explicit: bool,
}

/// What one request changed.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The wildcard was added.
    pub(super) widened: bool,
    /// The wildcard was removed.
    pub(super) narrowed: bool,
    /// Names asked for, newly or (in delta) again.
    pub(super) asked: Vec<Arc<str>>,
    /// Names asked for when there were none before; they are not in `asked`.
    pub(super) began: Option<Arc<Set>>,
    /// Names no longer asked for.
    pub(super) dropped: Vec<Arc<str>>,
}

impl Changed {
    /// Whether the request changed anything.
    pub(super) fn is_news(&self) -> bool {
        self.widened
            || self.narrowed
            || !self.asked.is_empty()
            || self.began.is_some()
            || !self.dropped.is_empty()
    }
}

impl Subscription {
    /// Whether resources of that name are to be sent.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// A delta request: names added and removed. `legacy`: the type knows the wildcard by an empty first request.
    pub(super) fn change(
        &mut self,
        add: Vec<String>,
        remove: Vec<String>,
        first: bool,
        legacy: bool,
        pool: &Pool,
    ) -> Changed {
        let before = self.wildcard;
        if first && add.is_empty() && legacy {
            self.wildcard = true;
        }
        let mut changed = Changed::default();
        for name in remove {
            if name == WILDCARD {
                self.wildcard = false;
            } else if let Some(known) = self.names.take(name.as_str()) {
                changed.dropped.push(known);
            }
        }
        self.explicit |= !add.is_empty();
        let add = self.take_wildcard(add);
        if self.names.is_empty() && !add.is_empty() {
            changed.began = Some(self.begin(add, pool));
        } else {
            for name in add {
                let name: Arc<str> = name.into();
                self.names.insert(name.clone());
                changed.asked.push(name);
            }
        }
        changed.widened = self.wildcard && !before;
        changed.narrowed = before && !self.wildcard;
        changed
    }

    /// A state-of-the-world request: the whole list.
    pub(super) fn replace(&mut self, list: Vec<String>, legacy: bool, pool: &Pool) -> Changed {
        let before = self.wildcard;
        self.explicit |= !list.is_empty();
        self.wildcard = legacy && !self.explicit;
        let list = self.take_wildcard(list);
        let mut changed = Changed {
            widened: self.wildcard && !before,
            narrowed: before && !self.wildcard,
            ..Changed::default()
        };
        let set = pool.set(list);
        if self.names.only_shared().is_some_and(|own| Arc::ptr_eq(own, &set)) {
            return changed;
        }
        if self.names.is_empty() {
            changed.began = (set.len() > 0).then(|| set.clone());
        } else {
            let new = set.iter().filter(|name| !self.names.contains(name));
            changed.asked = new.cloned().collect();
            let gone = self.names.iter().filter(|name| !set.contains(name));
            changed.dropped = gone.cloned().collect();
        }
        self.names.begin(set);
        changed
    }

    fn begin(&mut self, names: Vec<String>, pool: &Pool) -> Arc<Set> {
        let set = pool.set(names);
        self.names.begin(set.clone());
        set
    }

    /// Notes the wildcard if it is among the names; gives the others.
    fn take_wildcard(&mut self, mut names: Vec<String>) -> Vec<String> {
        let all = names.len();
        names.retain(|name| name != WILDCARD);
        self.wildcard |= names.len() < all;
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn seen(subscription: &Subscription) -> String {
        let mut names: Vec<_> = subscription.names.iter().map(ToString::to_string).collect();
        names.sort();
        if subscription.wildcard {
            names.insert(0, WILDCARD.into());
        }
        names.join(" ")
    }

    #[test]
    fn state_of_the_world_lists_follow_the_protocol() {
        let mut subscription = Subscription::default();
        for (request, expected) in [
            ("", "*"),
            ("* A", "* A"),
            ("A", "A"),
            ("", ""),
            ("*", "*"),
            ("", ""),
            ("B A", "A B"),
        ] {
            subscription.replace(list(request), true, &Pool::default());
            assert_eq!(seen(&subscription), expected, "after {request:?}");
        }
        let mut named = Subscription::default();
        named.replace(vec![], false, &Pool::default());
        assert_eq!(seen(&named), "", "endpoints have no wildcard by an empty list");
    }

    #[test]
    fn delta_requests_follow_the_protocol() {
        let mut subscription = Subscription::default();
        let steps = [
            ("", "", "*"),
            ("A", "", "* A"),
            ("", "*", "A"),
            ("", "A", ""),
            ("*", "", "*"),
        ];
        for (at, (add, remove, expected)) in steps.into_iter().enumerate() {
            subscription.change(list(add), list(remove), at == 0, true, &Pool::default());
            assert_eq!(seen(&subscription), expected, "after +{add:?} -{remove:?}");
        }
    }

    #[test]
    fn a_name_asked_for_again_is_reported_in_delta_alone() {
        let pool = Pool::default();
        let mut delta = Subscription::default();
        let began = delta.change(list("A"), vec![], true, true, &pool).began;
        assert_eq!(began.map(|set| set.len()), Some(1));
        let again = delta.change(list("A"), vec![], false, true, &pool);
        assert_eq!(again.asked, ["A".into()]);
        let mut sotw = Subscription::default();
        sotw.replace(list("A"), true, &pool);
        assert!(!sotw.replace(list("A"), true, &pool).is_news());
        assert_eq!(sotw.replace(list("A B"), true, &pool).asked, ["B".into()]);
    }
}
