//! Whether JSON has a kind's structure: known fields, right types, one choice of exclusive fields. All that is wrong is
//! reported, with the nearest known name. What values mean is `validate`'s matter.

mod conform;
#[cfg(test)]
mod generate;
mod nearest;
mod shape;

use std::sync::OnceLock;

use serde_json::Value;

use crate::path::At;
use crate::{Kind, Spec};

pub(crate) use conform::object as conform;
pub(crate) use nearest::nearest;
pub(crate) use shape::{Shape, choices, type_name};

/// The shape of a kind's body, made from its Rust type once.
fn shape(kind: Kind) -> &'static Shape {
    static SHAPES: OnceLock<Vec<OnceLock<Shape>>> = OnceLock::new();
    let shapes = SHAPES.get_or_init(|| Kind::ALL.iter().map(|_| OnceLock::new()).collect());
    match shapes.get(kind as usize) {
        Some(slot) => slot.get_or_init(|| Shape::of(&Spec::schema(kind), kind.is_kubernetes())),
        None => &Shape::Any,
    }
}

/// The body in its normal form: fields in camelCase, nulls and unknown fields left out. What is wrong is reported.
pub(crate) fn normalise(kind: Kind, body: Value, at: &At<'_>) -> Value {
    conform::object(shape(kind), body, at)
}
