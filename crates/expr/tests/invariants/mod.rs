//! What must hold for any bytes as an expression, in both languages. Run by this crate's tests with random bytes, and by cargo-fuzz.

use expr::{Bag, Expression, Language, STANDARD, Speaking, Value};

fn bag() -> Bag {
    let mut bag = Bag::default();
    bag.set("source.name", "reviews-1")
        .set("request.size", 10i64)
        .set("connection.mtls", true)
        .set("source.ip", Value::Ip([10, 0, 0, 1].into()))
        .set("response.duration", Value::Duration(60_000_000_000))
        .set_map("request.headers", [("cookie", "user=jason"), ("x-a", "1")]);
    bag
}

/// A refusal says why, and where in the text; a value has the type that was promised.
pub(crate) fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let bag = bag();
    let cexl = Expression::compile(text, &STANDARD);
    let cel = Expression::compile(text, &Speaking(&STANDARD, Language::Cel));
    for compiled in [cexl, cel] {
        match compiled {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert!(
                    error
                        .column(text)
                        .is_none_or(|column| column <= text.chars().count() + 1)
                );
            }
            Ok(expression) => match expression.eval(&bag) {
                Ok(value) => assert!(value.is(expression.ty()), "{text}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            },
        }
    }
}
