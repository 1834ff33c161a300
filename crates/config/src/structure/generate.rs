//! Random bodies of each kind, made from its shape, and what must hold for all of them.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::{Shape, normalise, shape};
use crate::path::{At, Report};
use crate::{Kind, Meta, Object, Origin, Spec, Wire};

/// Values of a shape. Lists and maps are short, and most fields are left out, so that bodies stay small.
fn values(shape: &Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Any => select(vec![json!({"a": [1, "b", null]}), json!("text"), json!(1.5)]).boxed(),
        Shape::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Shape::String(..) => "[a-z0-9./*-]{0,12}".prop_map(Value::from).boxed(),
        Shape::Duration => (0_u64..100_000)
            .prop_map(|ms| Value::from(format!("{ms}ms")))
            .boxed(),
        Shape::Number(low, high) => {
            let (low, high) = (low.max(-1e6), high.min(1e6));
            (0_u32..=100)
                .prop_map(move |step| Value::from(low + (high - low) * f64::from(step) / 100.0))
                .boxed()
        }
        Shape::Integer(low, high) => {
            let (low, high) = ((*low).max(-1_000_000), (*high).min(1_000_000));
            (low..=high)
                .prop_map(|number| Value::from(i64::try_from(number).unwrap()))
                .boxed()
        }
        Shape::IntOrString => prop_oneof![
            (0_u32..70_000).prop_map(Value::from),
            "[a-z]{1,5}".prop_map(Value::from)
        ]
        .boxed(),
        Shape::Enum(choices) => select(choices.to_vec())
            .prop_map(|choice| Value::from(choice.into_string()))
            .boxed(),
        Shape::List(item, _) => vec(values(item), 0..3).prop_map(Value::from).boxed(),
        Shape::Map(value, numbers, _) => {
            let keys = if *numbers {
                "[1-9][0-9]{0,3}"
            } else {
                "[a-zA-Z0-9./-]{0,6}"
            };
            let map = btree_map(keys, values(value), 0..3);
            map.prop_map(|map| Value::Object(map.into_iter().collect()))
                .boxed()
        }
        Shape::Fields(known) => fields(known),
    }
}

fn fields(known: &super::shape::Fields) -> BoxedStrategy<Value> {
    let names: Vec<String> = known.fields.keys().map(|name| name.to_string()).collect();
    let strategies: Vec<BoxedStrategy<Option<Value>>> = known
        .fields
        .values()
        .map(|field| {
            let null = u32::from(!matches!(field, Shape::Enum(_)));
            let value = prop_oneof![20 => values(field), null => Just(Value::Null)];
            proptest::option::weighted(0.4, value).boxed()
        })
        .collect();
    let exclusive = known.exclusive.clone();
    strategies
        .prop_map(move |drawn| {
            let given = names
                .iter()
                .zip(drawn)
                .filter_map(|(name, value)| Some((name.clone(), value?)));
            let mut map: Map<String, Value> = given.collect();
            for group in &exclusive {
                let present: Vec<_> = group
                    .iter()
                    .filter(|name| map.contains_key(&***name))
                    .cloned()
                    .collect();
                for name in present.iter().skip(1) {
                    map.remove(&**name);
                }
            }
            Value::Object(map)
        })
        .boxed()
}

fn bodies() -> impl Strategy<Value = (Kind, Value)> {
    select(Kind::ALL.to_vec()).prop_flat_map(|kind| (Just(kind), values(shape(kind))))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the shape allows, the type takes; and what the feed carries is what was sent.
    #[test]
    fn bodies_survive_the_feed((kind, body) in bodies()) {
        let report = Report::default();
        let normal = normalise(kind, body, &At::root(&report));
        let again = normalise(kind, normal.clone(), &At::root(&Report::default()));
        prop_assert_eq!(&normal, &again);
        let spec = Spec::from_value(kind, normal).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let meta = Meta { namespace: "shop".into(), name: "x".into(), ..Meta::default() };
        let object = Object { kind, meta, spec, origin: Origin::default() };
        let wire: Wire = object.to_feed();
        let body: Value = serde_json::from_slice(&wire.body).unwrap();
        let inner = if kind.under_spec() { body.get("spec").cloned().unwrap() } else { body };
        let back = Spec::from_value(kind, inner).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(object.spec, back);
    }

    /// Rules end, whatever a body holds, and the feed's check is the file's.
    #[test]
    fn any_body_is_judged((kind, body) in bodies()) {
        let mut document = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "metadata": {"name": "x"}});
        match kind.under_spec() {
            true => document["spec"] = body,
            false => document.as_object_mut().unwrap().extend(body.as_object().unwrap().clone()),
        }
        if let Ok((object, _)) = crate::decode(&document) {
            prop_assert_eq!(Object::from_feed(object.to_feed()), Ok(object));
        }
    }
}
