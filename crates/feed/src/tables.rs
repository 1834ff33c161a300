//! The table that Galley serves, kept in step with its objects: what is not new is neither encoded nor hashed again.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use config::{Kind, Object};
use xds::Table;

use crate::message::{encode, type_url};

/// The newest table and the objects that it was made of.
#[derive(Debug, Default)]
pub struct Tables {
    objects: Arc<Vec<Arc<Object>>>,
    table: Arc<Table>,
}

/// What happened to the resources of one kind.
#[derive(Default)]
struct Edits {
    upserts: Vec<(Arc<str>, bytes::Bytes)>,
    removed: Vec<String>,
}

impl Tables {
    /// The table of these objects, which are in order of their keys, each key once. An object that is the same `Arc` as in
    /// the call before costs a comparison of pointers; the list itself is shared, not copied.
    pub fn update(&mut self, objects: &Arc<Vec<Arc<Object>>>) -> Arc<Table> {
        let edits = edits(&self.objects, objects);
        if !edits.is_empty() {
            let mut table = Arc::clone(&self.table);
            for (kind, edits) in edits {
                table = Arc::new(table.with(&type_url(kind), edits.upserts, &edits.removed));
            }
            self.table = table;
        }
        self.objects = objects.clone();
        self.table.clone()
    }
}

fn edits(old: &[Arc<Object>], new: &[Arc<Object>]) -> BTreeMap<Kind, Edits> {
    let mut edits: BTreeMap<Kind, Edits> = BTreeMap::new();
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return edits,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) if Arc::ptr_eq(was, is) => Ordering::Equal,
            (Some(was), Some(is)) => by_key(was, is),
        };
        let was = left.next_if(|_| order.is_le());
        let is = right.next_if(|_| order.is_ge());
        let travels = |object: &&Arc<Object>| !object.kind.is_for_analysis();
        match (was, is) {
            (Some(was), Some(is)) if Arc::ptr_eq(was, is) => {}
            (_, Some(is)) if travels(&is) => {
                let resource = (is.key().resource_name().into(), encode(is));
                edits.entry(is.kind).or_default().upserts.push(resource);
            }
            (Some(was), None) if travels(&was) => {
                let name = was.key().resource_name();
                edits.entry(was.kind).or_default().removed.push(name);
            }
            _ => {}
        }
    }
}

/// The order of objects' keys.
fn by_key(a: &Object, b: &Object) -> Ordering {
    (a.kind.cmp(&b.kind))
        .then_with(|| a.meta.namespace.cmp(&b.meta.namespace))
        .then_with(|| a.meta.name.cmp(&b.meta.name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::table;

    /// Objects of two kinds by name and content.
    fn objects(model: &BTreeMap<(bool, char), u16>, before: &[Arc<Object>]) -> Arc<Vec<Arc<Object>>> {
        let make = |((entry, name), port): (&(bool, char), &u16)| {
            let text = match entry {
                false => format!(
                    "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  ports: [{{name: http, port: {port}}}]\n"
                ),
                true => format!(
                    "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\ndata: {{port: '{port}'}}\n"
                ),
            };
            let object = config::parse("x.yaml", text.as_bytes(), "default")
                .objects
                .remove(0);
            let same = before.iter().find(|old| ***old == object);
            same.cloned().unwrap_or_else(|| Arc::new(object))
        };
        let mut objects: Vec<_> = model.iter().map(make).collect();
        objects.sort_by(|a, b| by_key(a, b));
        Arc::new(objects)
    }

    fn models() -> impl Strategy<Value = Vec<BTreeMap<(bool, char), u16>>> {
        let model =
            proptest::collection::btree_map((any::<bool>(), proptest::char::range('a', 'e')), 1..4u16, 0..8);
        proptest::collection::vec(model, 1..6)
    }

    proptest! {
        #[test]
        fn a_table_kept_in_step_is_the_table_made_anew(history in models()) {
            let (mut tables, mut before) = (Tables::default(), Arc::<Vec<Arc<Object>>>::default());
            for model in history {
                before = objects(&model, &before);
                let kept = tables.update(&before);
                let fresh = table(&before, None);
                prop_assert_eq!(kept.version(), fresh.version());
                prop_assert_eq!(&*kept, &fresh);
            }
        }
    }

    #[test]
    fn the_same_objects_give_the_same_table() {
        let mut tables = Tables::default();
        let objects = objects(&BTreeMap::from([((false, 'a'), 80)]), &[]);
        let first = tables.update(&objects);
        assert!(Arc::ptr_eq(&first, &tables.update(&objects)));
    }
}
