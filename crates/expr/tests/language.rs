//! The language's rules, one by one, and that no text makes it panic.

mod common;
mod invariants;

use expr::{Attributes, Bag, CompileError, EvalError, Expression, MAX_DEPTH, STANDARD, Use, Value};
use proptest::prelude::*;

fn bag() -> Bag {
    let mut bag = Bag::default();
    bag.set("source.name", "reviews-1")
        .set("request.size", 10i64)
        .set("connection.mtls", true)
        .set_map("request.headers", [("cookie", "user=jason"), ("empty", "")]);
    bag
}

fn eval(text: &str) -> Result<String, String> {
    let expression = Expression::compile(text, &STANDARD).map_err(|e| format!("compile: {e}"))?;
    let bag = bag();
    expression
        .eval(&bag)
        .map(|value| value.to_string())
        .map_err(|e| format!("eval: {e}"))
}

#[test]
fn values() {
    let check = |text: &str, expected: &str| assert_eq!(eval(text).as_deref(), Ok(expected), "{text}");
    check(r#"request.size | 200 + 1"#, "11");
    check(r#"(request.size | 200) == 10 && connection.mtls"#, "true");
    check(
        r#"request.headers["cookie"].size | "x""#.replace(".size", "").as_str(),
        "user=jason",
    );
    check(r#"(request.headers["cookie"] | "").startsWith("user=")"#, "true");
    check(r#"source.name.endsWith("-1")"#, "true");
    check(r#""^user=j".matches(request.headers["cookie"])"#, "true");
    check(r#"match(source.name, "reviews*")"#, "true");
    check(
        r#"conditional(connection.mtls | false, "mutual_tls", "none")"#,
        "mutual_tls",
    );
    check(r#"reverse("abc") + "abc".reverse()"#, "cbacba");
    check(r#"size("é")"#, "2");
    check(r#"request.headers["absent"] | source.uid | "none""#, "none");
    check(r#"request.headers["empty"] | "none""#, "");
    check(r#"ip("::ffff:1.2.3.4") == ip("1.2.3.4")"#, "true");
    check("source.name // a comment\n", "reviews-1");
    check(r#"'a' + `b\` + "\x63\u0064\104""#, r"ab\cdD");
    check(r#"TRUE && connection.mtls"#, "true");
}

#[test]
fn absence_is_mended_only_by_a_fallback() {
    let check = |text: &str, expected: &str| {
        let seen = eval(text).unwrap_err();
        assert!(seen.contains(expected), "{text}: {seen}");
    };
    check("source.uid", "eval: attribute source.uid is absent");
    check(
        r#"request.headers["absent"] == "x""#,
        "request.headers has no entry \"absent\"",
    );
    check(r#"source.labels["app"] == "x""#, "source.labels");
    check(r#"toLower(source.uid) | "x""#, "source.uid is absent");
    check(r#"source.uid | source.user"#, "source.user is absent");
}

#[test]
fn errors_name_the_place_and_the_way_out() {
    let check = |text: &str, expected: &str| {
        let seen = eval(text).unwrap_err();
        assert!(
            seen.starts_with("compile: ") && seen.contains(expected),
            "{text}: {seen}"
        );
    };
    check("source.lables", "did you mean source.labels?");
    check(
        r#"request.size == "many""#,
        "the right side of == is STRING, but must be INT64",
    );
    check(r#"source.name == "0""#, "is a DURATION");
    check("!connection.mtls", "x == false");
    check("-1", "no operator -");
    check(r#"request.headers["a"].startsWith("b")"#, "parentheses");
    check("source.name ==", "column 15");
    check("source.name\n== 1", "a line may only end after an operator");
    check("source.type", "reserved word");
    check("frobnicate(1)", "unknown function frobnicate");
    check(r#"ip("1", "2")"#, "ip takes 1 argument(s), but 2 are given");
    check(r#"source.name.ip("1")"#, "called as a function");
    check(r#"response.duration == "1s""#, "== is not defined for DURATION");
    check(r#""(".matches(source.name)"#, "pattern");
    check("0x10", "decimal");
    check("99999999999999999999", "64 bits");
}

#[test]
fn size_and_depth_are_bounded() {
    let deep = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    assert!(Expression::compile(&deep(20), &STANDARD).is_ok());
    let error = |text: String| Expression::compile(&text, &STANDARD).unwrap_err();
    assert!(matches!(error(deep(MAX_DEPTH)), CompileError::TooDeep { .. }));
    assert!(matches!(
        error(vec!["true"; MAX_DEPTH + 2].join("&&")),
        CompileError::TooDeep { .. }
    ));
    assert!(matches!(
        error("!".repeat(MAX_DEPTH + 1) + "true"),
        CompileError::TooDeep { .. }
    ));
    assert!(matches!(error("a".repeat(20_000)), CompileError::TooLong { .. }));
    assert!(matches!(
        error("source.name[".repeat(1000)),
        CompileError::TooDeep { .. }
    ));
}

#[test]
fn uses_are_known_without_a_bag() {
    let text = r#"request.headers["a"] | source.name | request.headers[source.uid]"#;
    let uses: Vec<Use> = Expression::compile(text, &STANDARD)
        .unwrap()
        .uses()
        .into_iter()
        .collect();
    let expected = vec![
        Use::Attribute("source.name".into()),
        Use::Attribute("source.uid".into()),
        Use::Entry("request.headers".into(), "a".into()),
        Use::AnyEntry("request.headers".into()),
    ];
    assert_eq!(uses, expected);
}

#[test]
fn a_bag_of_wrong_types_is_an_error_and_not_a_guess() {
    let mut bag = Bag::default();
    bag.set("request.size", "ten");
    let expression = Expression::compile("request.size | 1", &STANDARD).unwrap();
    assert!(expression.eval(&bag).is_err());
}

/// A bag that knows the destination alone.
struct Destination(Bag);

impl Attributes for Destination {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        self.0.get(name)
    }

    fn is_known(&self, name: &str) -> bool {
        name.starts_with("destination.")
    }
}

#[test]
fn what_is_not_known_yet_matters_only_where_it_decides() {
    let mut bag = Bag::default();
    bag.set("destination.namespace", "shop")
        .set_map("destination.labels", [("app", "reviews")]);
    let bag = Destination(bag);
    let check = |text: &str, expected: Result<bool, bool>| {
        let expression = Expression::compile(text, &STANDARD).unwrap();
        let seen = expression
            .eval(&bag)
            .map(|v| v == Value::Bool(true))
            .map_err(|e| matches!(e, EvalError::Unknown { .. }));
        assert_eq!(seen, expected, "{text}");
    };
    check(r#"destination.namespace == "shop""#, Ok(true));
    check(
        r#"source.name == "x" && destination.labels["app"] == "ratings""#,
        Ok(false),
    );
    check(
        r#"source.name == "x" && destination.labels["version"] == "v1""#,
        Ok(false),
    );
    check(
        r#"destination.labels["app"] == "ratings" && source.name == "x""#,
        Ok(false),
    );
    check(
        r#"source.name == "x" || destination.namespace == "shop""#,
        Err(true),
    );
    check(
        r#"(source.labels["app"] | "") == "" && destination.namespace == "shop""#,
        Err(true),
    );
    check(r#"destination.uid == "x""#, Err(false));
}

/// Pieces of the language, so that random texts are often valid.
fn fragment() -> impl Strategy<Value = String> {
    let pieces = [
        "source.name",
        "request.headers",
        "[",
        "]",
        "(",
        ")",
        "\"a\"",
        "\"5s\"",
        "|",
        "||",
        "&&",
        "==",
        "<",
        "+",
        "!",
        "1",
        "2.5",
        ",",
        ".",
        "match",
        "ip",
        "conditional",
        "true",
        "\n",
        " ",
        "startsWith",
        "connection.mtls",
        "\\",
        "'",
    ];
    prop::sample::select(pieces.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(common::random())]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        invariants::expression(text.as_bytes());
    }

    #[test]
    fn no_mixture_panics(parts in prop::collection::vec(fragment(), 0..40)) {
        invariants::expression(parts.concat().as_bytes());
    }

    #[test]
    fn what_has_a_value_has_the_type_that_was_promised(parts in prop::collection::vec(fragment(), 0..12)) {
        if let Ok(expression) = Expression::compile(&parts.concat(), &STANDARD) {
            let bag = bag();
            if let Ok(value) = expression.eval(&bag) {
                prop_assert!(value.is(expression.ty()));
            }
        }
    }

    #[test]
    fn quoted_text_keeps_its_value(text in "[^\"\\\\\n\r]{0,20}") {
        prop_assume!(expr::parse_duration(&text).is_none());
        let expression = Expression::compile(&format!("\"{text}\""), &STANDARD).unwrap();
        let bag = Bag::default();
        prop_assert_eq!(expression.eval(&bag).unwrap(), Value::from(text.as_str()));
    }
}
