//! The tables of one snapshot: generated once for each scope, however many proxies share it, with the objects behind
//! each resource. What a change does not touch is taken over from the snapshot before, and where endpoints alone moved
//! their sets alone are made anew.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use config::{Finding, Kind, Object, ObjectKey};
use envoygen::{Generator, Inbound, Outbound, Proxy, Scope, Settings};
use model::{Diff, Seen, Snapshot};
use parking_lot::Mutex;
use xds::{Table, TypeUrl};

pub use crate::part::Part;

/// What a proxy should have.
#[derive(Debug, Clone)]
pub struct ProxyTable {
    /// The resources.
    pub table: Arc<Table>,
    shared: Arc<Merged>,
    /// Its own workload's object, in `table` too.
    own: Option<Arc<Object>>,
}

impl ProxyTable {
    /// The objects that a resource came from; none for one that is not in the table.
    #[must_use]
    pub fn origins(&self, type_url: &TypeUrl, name: &str) -> Vec<ObjectKey> {
        let known = |part: &Arc<Part>| part.origins(type_url.as_str(), name).map(<[ObjectKey]>::to_vec);
        self.parts().iter().find_map(known).unwrap_or_default()
    }

    /// The parts that the table was made of; proxies share them.
    #[must_use]
    pub fn parts(&self) -> &[Arc<Part>] {
        &self.shared.parts
    }

    /// What could not be generated for this proxy.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.parts().iter().flat_map(|part| part.findings.iter())
    }
}

/// The parts of a scope as one table.
#[derive(Debug)]
struct Merged {
    parts: Vec<Arc<Part>>,
    table: Arc<Table>,
}

impl Merged {
    fn new(parts: Vec<Arc<Part>>) -> Self {
        let table = Arc::new(Table::merge(parts.iter().map(|part| &part.table)));
        Self { parts, table }
    }

    fn is_of(&self, parts: &[Arc<Part>]) -> bool {
        self.parts.len() == parts.len()
            && self
                .parts
                .iter()
                .zip(parts)
                .all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

/// Values made once for each key.
#[derive(Debug)]
struct Memo<K, V> {
    made: Mutex<HashMap<K, Arc<OnceLock<Arc<V>>>>>,
    before: HashMap<K, Arc<V>>,
}

impl<K: Hash + Eq + Clone, V> Memo<K, V> {
    /// Empty; `before` are the values of the snapshot before.
    fn after(before: Option<&Self>) -> Self {
        let made = before.map(|memo| memo.made.lock().iter().filter_map(finished).collect());
        Self {
            made: Mutex::default(),
            before: made.unwrap_or_default(),
        }
    }

    /// The value, made by the first who asks; others wait for it. `make` is given the value of the snapshot before.
    fn get(&self, key: &K, make: impl FnOnce(Option<&Arc<V>>) -> Arc<V>) -> Arc<V> {
        let known = self.made.lock().get(key).cloned();
        let cell = known.unwrap_or_else(|| self.made.lock().entry(key.clone()).or_default().clone());
        cell.get_or_init(|| make(self.before.get(key))).clone()
    }
}

fn finished<K: Clone, V>((key, cell): (&K, &Arc<OnceLock<Arc<V>>>)) -> Option<(K, Arc<V>)> {
    Some((key.clone(), cell.get()?.clone()))
}

/// How a snapshot differs from the one before.
#[derive(Debug)]
struct Step {
    before: Arc<Snapshot>,
    diff: Diff,
    /// What of it is seen from a namespace, found once for each.
    seen: Mutex<HashMap<String, Arc<Seen>>>,
}

/// The tables of one snapshot.
#[derive(Debug)]
pub struct Tables {
    generator: Generator,
    step: Option<Step>,
    outbound: Memo<Outbound, Part>,
    inbound: Memo<Inbound, Part>,
    merged: Memo<Scope, Merged>,
}

impl Tables {
    /// Tables of a snapshot, none made yet. What equals the tables of `previous` is shared with them.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, settings: &Settings, previous: Option<&Self>) -> Self {
        let step = previous.map(|previous| {
            let before = previous.generator.snapshot().clone();
            Step {
                diff: Diff::between(&before, &snapshot),
                before,
                seen: Mutex::default(),
            }
        });
        let generator = match (previous, &step) {
            (Some(previous), Some(step)) => previous.generator.next(snapshot, &step.diff),
            _ => Generator::new(snapshot, settings.clone()),
        };
        Self {
            generator,
            step,
            outbound: Memo::after(previous.map(|tables| &tables.outbound)),
            inbound: Memo::after(previous.map(|tables| &tables.inbound)),
            merged: Memo::after(previous.map(|tables| &tables.merged)),
        }
    }

    /// The generator, and so the snapshot.
    #[must_use]
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// The scope of a proxy. `before` is the one that it had in the snapshot before, which stays where nothing that it is
    /// made of can have changed.
    #[must_use]
    pub fn scope(&self, proxy: &Proxy, before: Option<&Arc<Scope>>) -> Arc<Scope> {
        before
            .filter(|_| self.keeps_scope(proxy))
            .cloned()
            .unwrap_or_else(|| Arc::new(Scope::of(proxy, &self.generator)))
    }

    /// Whether no workload and no service of the proxy's namespace moved, nor anything else that it sees.
    fn keeps_scope(&self, proxy: &Proxy) -> bool {
        let Some(step) = &self.step else { return false };
        let here = |namespace: &str| namespace == proxy.namespace;
        let untouched = !step.diff.workloads.iter().any(|(namespace, _)| here(namespace))
            && !step.diff.endpoints.iter().any(|id| here(&id.namespace));
        untouched && matches!(*self.seen_from(step, &proxy.namespace), Seen::Endpoints(_))
    }

    fn seen_from(&self, step: &Step, namespace: &str) -> Arc<Seen> {
        let known = step.seen.lock().get(namespace).cloned();
        known.unwrap_or_else(|| {
            let seen = step
                .diff
                .seen_from(&step.before, self.generator.snapshot(), namespace);
            let seen = Arc::new(seen);
            step.seen.lock().insert(namespace.to_owned(), seen.clone());
            seen
        })
    }

    /// What this proxy should have: its outbound and its inbound part, and its own workload's object, from which its
    /// agent learns address and labels.
    #[must_use]
    pub fn of(&self, proxy: &Proxy) -> ProxyTable {
        self.of_scope(&self.scope(proxy, None), proxy, None)
    }

    /// As [`Tables::of`], for a proxy whose scope is known, and what it should have by the snapshot before.
    #[must_use]
    pub fn of_scope(&self, scope: &Scope, proxy: &Proxy, before: Option<&ProxyTable>) -> ProxyTable {
        let shared = self.merged.get(scope, |before| self.merge(scope, before));
        let own = self.own_workload(proxy);
        let same_own = |before: &&ProxyTable| match (&before.own, &own) {
            (Some(before), Some(own)) => Arc::ptr_eq(before, own),
            (before, own) => before.is_none() && own.is_none(),
        };
        match before.filter(same_own) {
            Some(before) if Arc::ptr_eq(&before.shared, &shared) => before.clone(),
            _ => ProxyTable {
                table: with_own(&shared.table, own.as_deref()),
                shared,
                own,
            },
        }
    }

    fn merge(&self, scope: &Scope, before: Option<&Arc<Merged>>) -> Arc<Merged> {
        let outbound = &scope.outbound;
        let outbound = self
            .outbound
            .get(outbound, |before| self.outbound_part(outbound, before));
        let inbound = scope
            .inbound
            .as_ref()
            .map(|scope| self.inbound.get(scope, |before| self.inbound_part(scope, before)));
        let parts: Vec<Arc<Part>> = std::iter::once(outbound).chain(inbound).collect();
        match before.filter(|before| before.is_of(&parts)) {
            Some(before) => before.clone(),
            None => Arc::new(Merged::new(parts)),
        }
    }

    fn outbound_part(&self, scope: &Outbound, before: Option<&Arc<Part>>) -> Arc<Part> {
        let seen = self
            .step
            .as_ref()
            .map(|step| self.seen_from(step, &scope.namespace));
        match (before, seen.as_deref()) {
            (Some(before), Some(Seen::Endpoints(services))) if services.is_empty() => before.clone(),
            (Some(before), Some(Seen::Endpoints(services)))
                if !self.generator.names_follow(scope, services) =>
            {
                Arc::new(before.with(self.generator.endpoints(scope, services)))
            }
            _ => Arc::new(Part::new(
                self.generator.outbound(scope),
                before.map(|before| &**before),
            )),
        }
    }

    /// Where endpoints alone moved the inbound part is what it was: its ports are in its scope.
    fn inbound_part(&self, scope: &Inbound, before: Option<&Arc<Part>>) -> Arc<Part> {
        let seen = self
            .step
            .as_ref()
            .map(|step| self.seen_from(step, &scope.namespace));
        match (before, seen.as_deref()) {
            (Some(before), Some(Seen::Endpoints(_))) => before.clone(),
            _ => Arc::new(Part::new(
                self.generator.inbound(scope),
                before.map(|before| &**before),
            )),
        }
    }

    fn own_workload(&self, proxy: &Proxy) -> Option<Arc<Object>> {
        let snapshot = self.generator.snapshot();
        let workload = proxy.workload(snapshot)?;
        let entry = Some(workload).filter(|workload| workload.key.kind == Kind::WorkloadEntry)?;
        snapshot.objects().get(&entry.key).cloned()
    }
}

fn with_own(table: &Arc<Table>, own: Option<&Object>) -> Arc<Table> {
    let Some(object) = own else {
        return table.clone();
    };
    let resource = (object.key().resource_name().into(), feed::encode(object));
    Arc::new(table.with(&feed::type_url(Kind::WorkloadEntry), [resource], [""; 0]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use xds::types::{CLUSTER, LISTENER};

    use super::*;

    fn sample(edit: impl Fn(String) -> String) -> Arc<Snapshot> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/src/sample");
        let files = [
            "services.yaml",
            "workloads.yaml",
            "sidecars.yaml",
            "traffic.yaml",
            "gateway.yaml",
        ];
        let objects = files.iter().flat_map(|file| {
            let text = edit(std::fs::read_to_string(folder.join(file)).unwrap());
            config::parse(file, text.as_bytes(), "default").objects
        });
        Arc::new(Snapshot::build(objects.map(Arc::new)))
    }

    fn tables(snapshot: Arc<Snapshot>, previous: Option<&Tables>) -> Tables {
        Tables::new(snapshot, &Settings::default(), previous)
    }

    fn proxy() -> Proxy {
        Proxy::parse("sidecar~127.1.0.10~frontend-v1.shop~shop.svc.cluster.local", None).unwrap()
    }

    #[test]
    fn proxies_of_one_scope_share_one_table() {
        let tables = tables(sample(|text| text), None);
        let (first, second) = (tables.of(&proxy()), tables.of(&proxy()));
        assert!(Arc::ptr_eq(
            &first.table.of_type(&CLUSTER),
            &second.table.of_type(&CLUSTER)
        ));
        assert!(first.table.of_type(&LISTENER).len() > 1);
    }

    #[test]
    fn what_a_change_does_not_touch_keeps_its_version() {
        let first = tables(sample(|text| text), None);
        let before = first.of(&proxy()).table;
        let changed = sample(|text| {
            text.replace("weight: 90", "weight: 80")
                .replace("weight: 10", "weight: 20")
        });
        let after = tables(changed, Some(&first)).of(&proxy()).table;
        assert_ne!(before.version(), after.version());
        assert_eq!(
            before.of_type(&CLUSTER).version(),
            after.of_type(&CLUSTER).version()
        );
    }

    #[test]
    fn a_resource_names_the_objects_behind_it() {
        let table = tables(sample(|text| text), None).of(&proxy());
        let origins = table.origins(&CLUSTER, "outbound|7080|v1|catalog.shop.svc.cluster.local");
        let names: Vec<String> = origins.iter().map(ToString::to_string).collect();
        assert!(
            names.contains(&"DestinationRule shop/catalog".to_owned()),
            "{names:?}"
        );
        assert!(table.origins(&CLUSTER, "no such").is_empty());
    }

    #[test]
    fn a_proxy_gets_its_own_workload_and_no_other() {
        let table = tables(sample(|text| text), None).of(&proxy()).table;
        let own = table.of_type(&feed::type_url(Kind::WorkloadEntry));
        let names: Vec<&str> = own.iter().map(|resource| &*resource.name).collect();
        assert_eq!(names, ["shop/frontend-v1"]);
    }
}
