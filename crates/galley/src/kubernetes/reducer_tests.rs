//! The reducer against a model: a cluster whose events are lost, repeated, late, and whose lists break off.

use std::collections::VecDeque;

use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};

use super::*;

const KIND: Kind = Kind::Service;

fn template() -> &'static Object {
    static TEMPLATE: std::sync::OnceLock<Object> = std::sync::OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec:\n  ports: [{name: http, port: 80}]\n";
        config::parse("", text.as_bytes(), "default").objects.remove(0)
    })
}

fn name(name: char) -> Name {
    ("shop".to_owned(), name.to_string())
}

/// An object as the cluster holds it. `content` tells good versions apart.
#[derive(Clone, Debug, PartialEq)]
struct Held {
    uid: u32,
    version: u64,
    content: u8,
    good: bool,
}

fn seen(of: char, held: &Held) -> Seen {
    let mut object = template().clone();
    object.origin = config::Origin::default();
    object.meta.name = of.to_string();
    object.meta.uid = held.uid.to_string();
    object.meta.resource_version = held.version.to_string();
    object.meta.labels = BTreeMap::from([("content".to_owned(), held.content.to_string())]);
    let finding = Finding::error("is refused").of(object.key());
    Seen {
        name: name(of),
        uid: held.uid.to_string(),
        version: held.version.to_string(),
        object: held.good.then_some(object),
        findings: (!held.good).then_some(finding).into_iter().collect(),
        status: (held.content == 0).then(|| Status {
            addresses: vec!["1".to_owned()],
            ..Status::default()
        }),
    }
}

/// What happens to the cluster, and to what it tells.
#[derive(Clone, Debug)]
enum Step {
    Write {
        name: char,
        content: u8,
        good: bool,
    },
    Remove(char),
    /// The next event arrives.
    Deliver,
    /// It is lost.
    Lose,
    /// It arrives after the one behind it.
    Delay,
    /// One that arrived does so again.
    Repeat,
    /// A list is read whole.
    Relist,
    /// A list breaks off after so many objects.
    Break(usize),
    /// Galley ends and starts anew with what it had kept.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let names = || proptest::char::range('a', 'd');
    let step = prop_oneof![
        5 => (names(), 0..4u8, proptest::bool::weighted(0.7)).prop_map(|(name, content, good)| Step::Write { name, content, good }),
        2 => names().prop_map(Step::Remove),
        8 => Just(Step::Deliver),
        1 => Just(Step::Lose),
        1 => Just(Step::Delay),
        1 => Just(Step::Repeat),
        1 => Just(Step::Relist),
        1 => (0..4usize).prop_map(Step::Break),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

#[derive(Default)]
struct World {
    objects: BTreeMap<char, Held>,
    clock: u64,
    uids: u32,
    pending: VecDeque<Event>,
    last: Option<Event>,
    shown: Shown,
    /// What was shown, and what was served, when Galley was last complete: a restart goes back to that.
    kept: (Shown, Objects),
}

/// What Galley has been shown of the objects, by uid.
#[derive(Clone, Default)]
struct Shown {
    /// The newest version, good or not.
    newest: BTreeMap<String, u64>,
    /// The content of the newest good version that was not late: what has to be served while the newest is refused.
    good: BTreeMap<String, String>,
}

impl Shown {
    /// A version is shown; one of a list is never late.
    fn take(&mut self, seen: &Seen, is_listed: bool) {
        let version: u64 = seen.version.parse().unwrap();
        let newest = self.newest.entry(seen.uid.clone()).or_default();
        if version <= *newest && !is_listed {
            return;
        }
        *newest = version;
        if let Some(object) = &seen.object {
            self.good.insert(seen.uid.clone(), content(object));
        }
    }
}

fn content(object: &Object) -> String {
    object.meta.labels["content"].clone()
}

impl World {
    fn write(&mut self, of: char, content: u8, good: bool) {
        self.clock += 1;
        let uid = match self.objects.get(&of) {
            Some(held) => held.uid,
            None => {
                self.uids += 1;
                self.uids
            }
        };
        let held = Held {
            uid,
            version: self.clock,
            content,
            good,
        };
        self.pending.push_back(Event::Apply(seen(of, &held)));
        self.objects.insert(of, held);
    }

    fn remove(&mut self, of: char) {
        if self.objects.remove(&of).is_some() {
            self.clock += 1;
            self.pending
                .push_back(Event::Delete(name(of), self.clock.to_string()));
        }
    }

    /// An event arrives.
    fn tell(&mut self, reducer: &mut Reducer, event: Event) {
        if let Event::Apply(seen) = &event {
            self.shown.take(seen, false);
        }
        reducer.apply(KIND, event);
        self.keep(reducer);
    }

    /// What a Galley that is complete writes down for its next start.
    fn keep(&mut self, reducer: &Reducer) {
        if reducer.awaited().is_empty() {
            self.kept = (self.shown.clone(), reducer.state().objects);
        }
    }

    fn restart(&mut self) -> Reducer {
        self.shown = self.kept.0.clone();
        self.shown.newest.clear();
        let mut reducer = Reducer::remembering(self.kept.1.iter().cloned());
        reducer.expect(&BTreeSet::from([KIND]));
        reducer
    }

    /// Lists the objects; the list breaks off after so many.
    fn relist(&mut self, reducer: &mut Reducer, upto: usize) {
        reducer.apply(KIND, Event::Init);
        for (of, held) in self.objects.iter().take(upto) {
            let seen = seen(*of, held);
            self.shown.take(&seen, true);
            reducer.apply(KIND, Event::InitApply(seen));
        }
        let end = match upto {
            usize::MAX => Event::InitDone,
            _ => Event::Failed(Failure {
                reason: "broken off".to_owned(),
                is_forbidden: false,
                is_lasting: false,
            }),
        };
        reducer.apply(KIND, end);
        self.keep(reducer);
    }

    /// What has to be served of an object: what the cluster holds, or what was good last where that is refused.
    fn due(&self, held: &Held) -> Option<String> {
        match held.good {
            true => Some(held.content.to_string()),
            false => self.shown.good.get(&held.uid.to_string()).cloned(),
        }
    }

    fn check(&self, reducer: &Reducer) -> TestCaseResult {
        let state = reducer.state();
        let served: BTreeMap<&str, &Object> = state
            .objects
            .iter()
            .map(|object| (object.meta.name.as_str(), &**object))
            .collect();
        for (of, held) in &self.objects {
            let object = served.get(of.to_string().as_str());
            prop_assert_eq!(object.map(|object| content(object)), self.due(held), "{}", of);
            let uid = object.map(|object| object.meta.uid.clone());
            prop_assert!(
                uid.is_none_or(|uid| uid == held.uid.to_string()),
                "{} is another",
                of
            );
            let refused = state
                .findings
                .iter()
                .any(|f| f.is_error() && f.object.as_ref().is_some_and(|k| k.name == of.to_string()));
            prop_assert_eq!(refused, !held.good, "{} is told of", of);
            let status = state
                .statuses
                .contains_key(&ObjectKey::new(KIND, "shop", of.to_string()));
            prop_assert_eq!(status, held.content == 0, "status of {}", of);
        }
        let gone = served
            .keys()
            .find(|name| !self.objects.contains_key(&name.chars().next().unwrap()));
        prop_assert_eq!(gone, None);
        prop_assert!(
            state
                .statuses
                .keys()
                .all(|key| self.objects.contains_key(&key.name.chars().next().unwrap()))
        );
        Ok(())
    }
}

fn reducer() -> Reducer {
    let mut reducer = Reducer::default();
    reducer.expect(&BTreeSet::from([KIND]));
    reducer
}

/// Histories that each of these three tests goes through: more than 10,000 in all, however few PROPTEST_CASES asks for.
const HISTORIES: u32 = 3_400;
/// And where it asks for more than those, as `make soak` does: 10,000 for each.
const SOAK: u32 = 10_000;

fn hold(test: impl Fn(Vec<Step>) -> TestCaseResult) {
    let config = ProptestConfig::default();
    let cases = match config.cases > HISTORIES {
        true => config.cases.max(SOAK),
        false => HISTORIES,
    };
    // An own runner: the macro would put PROPTEST_CASES over the number that is asked for here.
    let mut runner = TestRunner::new(ProptestConfig {
        cases,
        source_file: Some(file!()),
        ..config
    });
    if let Err(failure) = runner.run(&steps(), test) {
        panic!("{failure}");
    }
}

#[test]
fn whatever_was_lost_or_late_the_next_list_makes_it_right() {
    hold(|steps| {
        let (mut world, mut reducer) = (World::default(), reducer());
        for step in steps {
            match step {
                Step::Write { name, content, good } => world.write(name, content, good),
                Step::Remove(name) => world.remove(name),
                Step::Deliver => {
                    if let Some(event) = world.pending.pop_front() {
                        world.last = Some(event.clone());
                        world.tell(&mut reducer, event);
                    }
                }
                Step::Lose => drop(world.pending.pop_front()),
                Step::Delay if world.pending.len() > 1 => world.pending.swap(0, 1),
                Step::Delay => {}
                Step::Repeat => {
                    if let Some(event) = world.last.clone() {
                        world.tell(&mut reducer, event);
                    }
                }
                Step::Break(upto) => world.relist(&mut reducer, upto),
                Step::Restart => reducer = world.restart(),
                Step::Relist => {
                    world.relist(&mut reducer, usize::MAX);
                    world.check(&reducer)?;
                }
            }
        }
        world.relist(&mut reducer, usize::MAX);
        world.check(&reducer)
    });
}

#[test]
fn events_in_order_and_repeated_keep_it_right_at_all_times() {
    hold(|steps| {
        let (mut world, mut reducer) = (World::default(), reducer());
        world.relist(&mut reducer, usize::MAX);
        let mut told: Vec<Event> = Vec::new();
        for step in steps {
            match step {
                Step::Write { name, content, good } => world.write(name, content, good),
                Step::Remove(name) => world.remove(name),
                Step::Relist => world.relist(&mut reducer, usize::MAX),
                // Any event from before comes once more.
                Step::Repeat | Step::Delay => {
                    for event in &told {
                        world.tell(&mut reducer, event.clone());
                    }
                }
                _ => {}
            }
            while let Some(event) = world.pending.pop_front() {
                world.tell(&mut reducer, event.clone());
                told.push(event);
            }
            world.check(&reducer)?;
        }
        Ok(())
    });
}

#[test]
fn what_is_no_change_is_told_as_none() {
    hold(|steps| {
        let (mut world, mut reducer) = (World::default(), reducer());
        for step in steps {
            match step {
                Step::Write { name, content, good } => world.write(name, content, good),
                Step::Remove(name) => world.remove(name),
                _ => {}
            }
            while let Some(event) = world.pending.pop_front() {
                let before = reducer.state();
                let changed = reducer.apply(KIND, event);
                let after = reducer.state();
                let same = before.objects.len() == after.objects.len()
                    && before
                        .objects
                        .iter()
                        .zip(after.objects.iter())
                        .all(|(a, b)| Arc::ptr_eq(a, b))
                    && before.findings == after.findings
                    && before.statuses == after.statuses;
                prop_assert!(changed || same, "a change was missed");
            }
        }
        Ok(())
    });
}

fn held(uid: u32, version: u64, content: u8) -> Held {
    Held {
        uid,
        version,
        content,
        good: true,
    }
}

#[test]
fn bookkeeping_is_no_change() {
    let mut reducer = reducer();
    reducer.apply(KIND, Event::Init);
    assert!(reducer.apply(KIND, Event::InitApply(seen('a', &held(1, 1, 1)))));
    assert!(reducer.apply(KIND, Event::InitDone), "the kind is complete");
    let before = reducer.state();
    assert!(
        !reducer.apply(KIND, Event::Apply(seen('a', &held(1, 2, 1)))),
        "another resourceVersion"
    );
    let mut noted = seen('a', &held(1, 3, 1));
    let note = |seen: &mut Seen, key: &str| {
        let object = seen.object.as_mut().unwrap();
        object.meta.annotations.insert(key.to_owned(), "x".to_owned());
    };
    note(&mut noted, "example.com/seen-at");
    assert!(
        !reducer.apply(KIND, Event::Apply(noted.clone())),
        "an annotation that nobody reads"
    );
    assert!(Arc::ptr_eq(&before.objects[0], &reducer.state().objects[0]));
    let mut adopted = noted.clone();
    adopted.version = "4".to_owned();
    let object = adopted.object.as_mut().unwrap();
    object.meta.controller = Some(Box::new(config::Owner::new("apps/v1", "StatefulSet", "mysql")));
    assert!(reducer.apply(KIND, Event::Apply(adopted)), "what made it");
    noted.version = "5".to_owned();
    note(&mut noted, "networking.istio.io/exportTo");
    assert!(reducer.apply(KIND, Event::Apply(noted)));
}

#[test]
fn an_object_made_anew_does_not_fall_back_on_its_predecessor() {
    let mut reducer = reducer();
    World::default().relist(&mut reducer, usize::MAX);
    reducer.apply(KIND, Event::Apply(seen('a', &held(1, 1, 1))));
    let bad = |uid| Held {
        good: false,
        ..held(uid, 2, 1)
    };
    reducer.apply(KIND, Event::Apply(seen('a', &bad(1))));
    assert_eq!(reducer.state().objects.len(), 1, "the last good version stays");
    let told: Vec<String> = reducer.state().findings.iter().map(ToString::to_string).collect();
    assert!(
        told.iter()
            .any(|line| line.contains("last good version is still served")),
        "{told:?}"
    );
    let other = Held { version: 3, ..bad(2) };
    reducer.apply(KIND, Event::Apply(seen('a', &other)));
    assert!(reducer.state().objects.is_empty());
}

#[test]
fn after_a_restart_a_refused_object_is_served_as_before() {
    let good = seen('a', &held(1, 1, 1)).object.map(Arc::new);
    let serves = |uid| {
        let mut reducer = Reducer::remembering(good.clone());
        reducer.expect(&BTreeSet::from([KIND]));
        let bad = Held {
            good: false,
            ..held(uid, 5, 2)
        };
        reducer.apply(KIND, Event::Init);
        reducer.apply(KIND, Event::InitApply(seen('a', &bad)));
        reducer.apply(KIND, Event::InitDone);
        reducer.state().objects.len()
    };
    assert_eq!(serves(1), 1);
    assert_eq!(serves(2), 0, "that was another object");
}

#[test]
fn nothing_is_complete_before_each_kind_was_listed_once() {
    let mut reducer = Reducer::default();
    let kinds = BTreeSet::from([Kind::Service, Kind::Deployment, Kind::Pod]);
    reducer.expect(&kinds);
    let awaited = |reducer: &Reducer| {
        reducer
            .awaited()
            .iter()
            .map(|(kind, _)| *kind)
            .collect::<Vec<_>>()
    };
    let done = |reducer: &mut Reducer, kind| {
        reducer.apply(kind, Event::Init);
        reducer.apply(kind, Event::InitDone);
    };
    done(&mut reducer, Kind::Service);
    assert_eq!(awaited(&reducer), [Kind::Pod, Kind::Deployment]);
    let forbidden = |reason: &str| {
        Event::Failed(Failure {
            reason: reason.to_owned(),
            is_forbidden: true,
            is_lasting: true,
        })
    };
    reducer.apply(Kind::Deployment, forbidden("no Deployments for you"));
    reducer.apply(Kind::Pod, forbidden("no Pods for you"));
    assert_eq!(
        reducer.awaited(),
        [(Kind::Pod, Some("no Pods for you"))],
        "analysis can do without"
    );
    done(&mut reducer, Kind::Pod);
    assert!(reducer.awaited().is_empty());
    let state = reducer.state();
    assert_eq!(state.unseen, [Kind::Deployment, Kind::Secret]);
    let told = state.findings[0].to_string();
    assert!(
        told.contains("does not give Deployment: no Deployments for you"),
        "{told}"
    );
    assert!(reducer.apply(Kind::Deployment, Event::Recovered));
    done(&mut reducer, Kind::Deployment);
    assert!(reducer.state().findings.is_empty());
}

#[test]
fn a_kind_that_is_no_longer_there_takes_its_objects_along() {
    let mut reducer = reducer();
    reducer.apply(KIND, Event::Init);
    reducer.apply(KIND, Event::InitApply(seen('a', &held(1, 1, 0))));
    reducer.apply(KIND, Event::InitDone);
    assert_eq!(
        (reducer.state().objects.len(), reducer.state().statuses.len()),
        (1, 1)
    );
    assert!(reducer.expect(&BTreeSet::from([Kind::Pod])));
    assert_eq!(
        (reducer.state().objects.len(), reducer.state().statuses.len()),
        (0, 0)
    );
    assert!(
        !reducer.apply(KIND, Event::Apply(seen('a', &held(1, 2, 0)))),
        "an event that was on its way"
    );
}
