//! From objects to the sources that they name, and back: objects with the keys in them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use config::security::{JwtRule, RequestAuthentication};
use config::{Finding, Kind, Object, ObjectKey, Spec};

use super::schedule::Schedule;
use crate::store::State;

/// Longest wait for an answer where the rule says nothing (Istio, "JWTRule").
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait that a rule may ask for.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Where keys are fetched: for an issuer, at a URI or, without one, where the issuer says.
#[derive(Debug, Clone)]
pub struct Source {
    /// As tokens name it.
    pub issuer: String,
    /// Empty where the issuer is asked.
    pub uri: String,
    /// Longest wait; it is no part of what a source is.
    pub timeout: Duration,
}

impl Source {
    fn id(&self) -> (&str, &str) {
        (&self.issuer, &self.uri)
    }

    /// What a rule names; none where the keys stand in it.
    fn of(rule: &JwtRule) -> Option<Self> {
        let timeout = rule.timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.0);
        rule.jwks.is_empty().then(|| Self {
            issuer: rule.issuer.clone(),
            uri: rule.jwks_uri.clone(),
            timeout: timeout.min(MAX_TIMEOUT),
        })
    }
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for Source {}

impl PartialOrd for Source {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Source {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id().cmp(&other.id())
    }
}

impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id().hash(state);
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = if self.uri.is_empty() {
            &self.issuer
        } else {
            &self.uri
        };
        f.write_str(at)
    }
}

/// The sources that a state's objects name.
pub(super) fn sources(state: &State) -> BTreeSet<Source> {
    let specs = objects(state).filter_map(|(_, object)| spec(object));
    specs
        .flat_map(|spec| &spec.jwt_rules)
        .filter_map(Source::of)
        .collect()
}

/// The RequestAuthentications, with their places among all objects.
fn objects(state: &State) -> impl Iterator<Item = (usize, &Arc<Object>)> {
    let start = state
        .objects
        .partition_point(|object| object.kind < Kind::RequestAuthentication);
    let own = state.objects.iter().enumerate().skip(start);
    own.take_while(|(_, object)| object.kind == Kind::RequestAuthentication)
}

fn spec(object: &Object) -> Option<&RequestAuthentication> {
    match &object.spec {
        Spec::RequestAuthentication(spec) => Some(spec),
        _ => None,
    }
}

/// An object and the keys that were put into it.
#[derive(Debug)]
struct Filled {
    from: Arc<Object>,
    keys: Vec<Option<Arc<str>>>,
    object: Arc<Object>,
}

/// Puts keys into objects; what did not change is the same `Arc` as before.
#[derive(Debug, Default)]
pub(super) struct Filler {
    filled: BTreeMap<ObjectKey, Filled>,
}

impl Filler {
    /// The state with the keys that are known in it, and with what there is to say of those that are not.
    pub(super) fn fill(&mut self, state: &Arc<State>, schedule: &Schedule) -> Arc<State> {
        let mut old = std::mem::take(&mut self.filled);
        let mut changed = Vec::new();
        let mut findings = Vec::new();
        for (at, object) in objects(state) {
            let rules = spec(object)
                .map(|spec| spec.jwt_rules.as_slice())
                .unwrap_or_default();
            let sources: Vec<Option<Source>> = rules.iter().map(Source::of).collect();
            if sources.iter().all(Option::is_none) {
                continue;
            }
            findings.extend(told(object, &sources, schedule));
            let keys: Vec<Option<Arc<str>>> = sources
                .iter()
                .map(|source| schedule.keys(source.as_ref()?).cloned())
                .collect();
            if keys.iter().all(Option::is_none) {
                continue;
            }
            let key = object.key();
            let same = |filled: &Filled| Arc::ptr_eq(&filled.from, object) && filled.keys == keys;
            let filled = old.remove(&key).filter(same).unwrap_or_else(|| Filled {
                object: with_keys(object, &keys),
                from: object.clone(),
                keys: keys.clone(),
            });
            changed.push((at, filled.object.clone()));
            self.filled.insert(key, filled);
        }
        if changed.is_empty() && findings.is_empty() {
            return state.clone();
        }
        let mut out = State::clone(state);
        for (at, object) in changed {
            if let Some(slot) = Arc::make_mut(&mut out.objects).get_mut(at) {
                *slot = object;
            }
        }
        out.findings.extend(findings);
        Arc::new(out)
    }
}

fn with_keys(object: &Arc<Object>, keys: &[Option<Arc<str>>]) -> Arc<Object> {
    let mut out = Object::clone(object);
    if let Spec::RequestAuthentication(spec) = &mut out.spec {
        for (rule, keys) in spec.jwt_rules.iter_mut().zip(keys) {
            if let Some(keys) = keys {
                rule.jwks = keys.to_string();
                rule.jwks_uri.clear();
            }
        }
    }
    Arc::new(out)
}

/// What a person should know of an object's keys.
fn told(object: &Object, sources: &[Option<Source>], schedule: &Schedule) -> Vec<Finding> {
    let one = |(index, source): (usize, &Option<Source>)| {
        let source = source.as_ref()?;
        let failure = schedule.failure(source)?;
        let effect = match schedule.keys(source) {
            Some(_) => "the keys fetched before stay in use",
            None => "all tokens of the issuer are refused",
        };
        let field = if source.uri.is_empty() {
            "issuer"
        } else {
            "jwksUri"
        };
        let finding = Finding::warning(format!("keys cannot be fetched: {failure}; {effect}"))
            .at(format!("spec.jwtRules[{index}].{field}"))
            .of(object.key())
            .from(object.origin.clone())
            .help("make the address answer with a JSON Web Key Set, or give the keys inline in jwks");
        Some(finding)
    };
    sources.iter().enumerate().filter_map(one).collect()
}
