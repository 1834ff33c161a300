//! Which names of one type a client has asked for (xDS protocol, "How the client specifies what resources to return").

use std::collections::HashSet;
use std::sync::Arc;

/// The name that stands for all resources.
const WILDCARD: &str = "*";

/// The names that a client subscribed to.
#[derive(Debug, Default)]
pub(super) struct Subscription {
    /// All resources of the type.
    pub(super) wildcard: bool,
    /// Names asked for by name, with the wildcard or without.
    pub(super) names: HashSet<Arc<str>>,
    /// A name was given once on this stream, so an empty list no longer means "all".
    explicit: bool,
}

/// What one request changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// The wildcard was added.
    pub(super) widened: bool,
    /// The wildcard was removed.
    pub(super) narrowed: bool,
    /// Names asked for, newly or (in delta) again.
    pub(super) asked: Vec<Arc<str>>,
    /// Names no longer asked for.
    pub(super) dropped: Vec<Arc<str>>,
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
        for name in add {
            self.explicit = true;
            if name == WILDCARD {
                self.wildcard = true;
            } else {
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
    pub(super) fn replace(&mut self, list: Vec<String>, legacy: bool) -> Changed {
        let before = self.wildcard;
        self.explicit |= !list.is_empty();
        self.wildcard = list.iter().any(|name| name == WILDCARD) || (legacy && !self.explicit);
        let new: HashSet<Arc<str>> = list
            .into_iter()
            .filter(|name| name != WILDCARD)
            .map(Arc::from)
            .collect();
        let changed = Changed {
            widened: self.wildcard && !before,
            narrowed: before && !self.wildcard,
            asked: new.difference(&self.names).cloned().collect(),
            dropped: self.names.difference(&new).cloned().collect(),
        };
        self.names = new;
        changed
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
            subscription.replace(list(request), true);
            assert_eq!(seen(&subscription), expected, "after {request:?}");
        }
        let mut named = Subscription::default();
        named.replace(vec![], false);
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
            subscription.change(list(add), list(remove), at == 0, true);
            assert_eq!(seen(&subscription), expected, "after +{add:?} -{remove:?}");
        }
    }

    #[test]
    fn a_name_asked_for_again_is_reported_in_delta_alone() {
        let mut delta = Subscription::default();
        delta.change(list("A"), vec![], true, true);
        assert_eq!(delta.change(list("A"), vec![], false, true).asked, ["A".into()]);
        let mut sotw = Subscription::default();
        sotw.replace(list("A"), true);
        assert_eq!(sotw.replace(list("A B"), true).asked, ["B".into()]);
    }
}
