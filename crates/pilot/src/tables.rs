//! The tables of one snapshot: generated once for each scope, however many proxies share it, with the objects behind
//! each resource. Parts that did not change since the snapshot before keep their bytes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use config::{Finding, Kind, ObjectKey};
use envoygen::{Generator, Inbound, Outbound, Output, Proxy, Scope};
use parking_lot::Mutex;
use xds::{Table, TypeUrl};

/// Resources of one part of a scope, and the objects that they came from.
#[derive(Debug)]
pub struct Part {
    table: Arc<Table>,
    origins: HashMap<(&'static str, String), Vec<ObjectKey>>,
    findings: Vec<Finding>,
}

impl Part {
    fn new(output: Output, previous: Option<&Self>) -> Self {
        let mut table = Table::builder();
        let mut origins = HashMap::with_capacity(output.resources.len());
        for resource in output.resources {
            table.insert(
                TypeUrl::fixed(resource.type_url),
                resource.name.as_str().into(),
                resource.bytes,
            );
            origins.insert((resource.type_url, resource.name), resource.origins);
        }
        let table = Arc::new(table.build(previous.map(|previous| &*previous.table)));
        Self {
            table,
            origins,
            findings: output.findings,
        }
    }
}

/// What a proxy should have.
#[derive(Debug, Clone)]
pub struct ProxyTable {
    /// The resources.
    pub table: Arc<Table>,
    parts: Vec<Arc<Part>>,
}

impl ProxyTable {
    /// The objects that a resource came from; none for one that is not in the table.
    #[must_use]
    pub fn origins(&self, type_url: &TypeUrl, name: &str) -> Vec<ObjectKey> {
        let known = |part: &Arc<Part>| {
            // The map's key owns its name, so a look-up needs one too; this is for people, not for the hot path.
            part.origins
                .iter()
                .find(|((t, n), _)| *t == type_url.as_str() && n == name)
                .map(|(_, o)| o.clone())
        };
        self.parts.iter().find_map(known).unwrap_or_default()
    }

    /// What could not be generated for this proxy.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.parts.iter().flat_map(|part| &part.findings)
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
    fn get(&self, key: &K, make: impl FnOnce(Option<&V>) -> V) -> Arc<V> {
        let cell = self.made.lock().entry(key.clone()).or_default().clone();
        cell.get_or_init(|| Arc::new(make(self.before.get(key).map(|value| &**value))))
            .clone()
    }
}

fn finished<K: Clone, V>((key, cell): (&K, &Arc<OnceLock<Arc<V>>>)) -> Option<(K, Arc<V>)> {
    Some((key.clone(), cell.get()?.clone()))
}

/// The tables of one snapshot.
#[derive(Debug)]
pub struct Tables {
    generator: Generator,
    outbound: Memo<Outbound, Part>,
    inbound: Memo<Inbound, Part>,
    merged: Memo<Scope, Table>,
}

impl Tables {
    /// Tables of a snapshot, none made yet. What equals the tables of `previous` is shared with them.
    #[must_use]
    pub fn new(generator: Generator, previous: Option<&Self>) -> Self {
        Self {
            generator,
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

    /// What this proxy should have: its outbound and its inbound part, and its own workload's object, from which its
    /// agent learns address and labels.
    #[must_use]
    pub fn of(&self, proxy: &Proxy) -> ProxyTable {
        let scope = Scope::of(proxy, &self.generator);
        let outbound = self.outbound.get(&scope.outbound, |before| {
            Part::new(self.generator.outbound(&scope.outbound), before)
        });
        let inbound = scope.inbound.as_ref().map(|scope| {
            self.inbound
                .get(scope, |before| Part::new(self.generator.inbound(scope), before))
        });
        let parts: Vec<Arc<Part>> = std::iter::once(outbound).chain(inbound).collect();
        let merged = self
            .merged
            .get(&scope, |_| Table::merge(parts.iter().map(|part| &part.table)));
        ProxyTable {
            table: self.with_own_workload(merged, proxy),
            parts,
        }
    }

    fn with_own_workload(&self, table: Arc<Table>, proxy: &Proxy) -> Arc<Table> {
        let snapshot = self.generator.snapshot();
        let object = proxy
            .workload(snapshot)
            .filter(|workload| workload.key.kind == Kind::WorkloadEntry)
            .and_then(|workload| snapshot.objects().get(&workload.key));
        let Some(object) = object else { return table };
        let resource = (object.key().resource_name().into(), feed::encode(object));
        Arc::new(table.with(&feed::type_url(Kind::WorkloadEntry), [resource], [""; 0]))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use envoygen::Settings;
    use model::Snapshot;
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
        Tables::new(Generator::new(snapshot, Settings::default()), previous)
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
