//! CEL as the second syntax: values, types, absence, references and bounds.

mod common;

use expr::{
    Attributes, Bag, CompileError, EvalError, Expression, Language, References, STANDARD, Speaking, Use,
    Value, ValueType,
};
use proptest::prelude::*;

const CEL: Speaking<'static> = Speaking(&STANDARD, Language::Cel);

fn bag() -> Bag {
    let mut bag = Bag::default();
    bag.set("source.name", "reviews-1")
        .set("request.size", 10i64)
        .set("connection.mtls", true)
        .set("source.ip", Value::Ip([10, 0, 0, 1].into()))
        .set("response.duration", Value::Duration(60_000_000_000))
        .set(
            "request.time",
            Value::Timestamp(expr::Timestamp(1_577_874_030_000_000_000)),
        )
        .set_map("request.headers", [("cookie", "user=jason"), ("x-a", "1")]);
    bag
}

fn eval(text: &str) -> Result<String, String> {
    let expression = Expression::compile(text, &CEL).map_err(|e| format!("compile: {e}"))?;
    let bag = bag();
    let value = expression.eval(&bag).map_err(|e| format!("eval: {e}"))?;
    assert!(value.is(expression.ty()), "{text}");
    Ok(value.to_string())
}

#[test]
fn values() {
    let check = |text: &str, expected: &str| assert_eq!(eval(text).as_deref(), Ok(expected), "{text}");
    check("2 + 2 == 4", "true");
    check(r#"1 + 2 * request.size + size("test")"#, "25");
    check(
        r#"request.headers["cookie"].startsWith("user=") && !(request.size > 20)"#,
        "true",
    );
    check("request.headers.cookie", "user=jason");
    check(r#"'x-a' in request.headers ? 'there' : 'not'"#, "there");
    check(r#"request.headers["cookie"].matches("^user=j")"#, "true");
    check(r#"source.name.matches("^re" + "views")"#, "true");
    check(r#"match(source.name, "reviews*")"#, "true");
    check(r#"source.ip == ip("::ffff:10.0.0.1")"#, "true");
    check(r#"dnsName("A.example.") == dnsName("a.example")"#, "true");
    check(
        r#"conditional(connection.mtls, "mutual_tls", "none")"#,
        "mutual_tls",
    );
    check(r#"reverse("abc") + toLower("ABC")"#, "cbaabc");
    check(
        r#"response.duration + duration("30s") == duration("90s")"#,
        "true",
    );
    check("request.time.getHours()", "10");
    check(r#"request.headers.exists(h, h.startsWith("x-"))"#, "true");
    check(r#"["a", "b"].map(x, x + "!").size()"#, "2");
    check(r#"email("a@Example.com") == email("a@example.com")"#, "true");
    check(r#"uri("http://a/b") == uri("http://a/b")"#, "true");
    check(r#""a-b".split("-")[1].upperAscii()"#, "B");
    check("has(source.name) && !has(source.uid)", "true");
    check(
        "has(request.headers.cookie) && !has(request.headers.other)",
        "true",
    );
    check(
        r#"pick(source.uid, request.headers["none"], source.name)"#,
        "reviews-1",
    );
    check("type(request.size) == int", "true");
    check("size(request.headers)", "2");
    check("string(request.size) + 'b'", "10b");
}

#[test]
fn an_absent_attribute_is_its_types_zero_and_an_absent_entry_is_an_absence() {
    assert_eq!(eval("source.uid"), Ok(String::new()));
    assert_eq!(eval("response.size + 1"), Ok("1".to_owned()));
    assert_eq!(eval("'app' in source.labels"), Ok("false".to_owned()));
    let expression = Expression::compile(r#"request.headers["none"] == "x""#, &CEL).unwrap();
    assert!(expression.eval(&bag()).unwrap_err().is_absence());
    let expression = Expression::compile(r#"source.labels["app"] == "x""#, &CEL).unwrap();
    assert!(expression.eval(&bag()).unwrap_err().is_absence());
}

#[test]
fn types_are_checked_before() {
    let (mut seen, mut wanted) = (Vec::new(), Vec::new());
    let mut check = |text: &str, column: usize, expected: &str| {
        let error = Expression::compile(text, &CEL).unwrap_err();
        assert!(error.to_string().contains(expected), "{text}: {error}");
        seen.push((text.to_owned(), error.column(text)));
        wanted.push((text.to_owned(), Some(column)));
    };
    check("source.lables", 1, "did you mean source.labels?");
    check("1 + source.lables.size()", 5, "did you mean source.labels?");
    check(
        r#"request.size == "many""#,
        14,
        "== is not defined for INT64, STRING",
    );
    check("source.labels == request.headers", 15, "STRING_MAP");
    check("source.labels", 1, "is a map");
    check("size(source.ip)", 5, "there is no size(IP_ADDRESS)");
    check("source.name.frobnicate()", 23, "there is no STRING.frobnicate()");
    check("[1, 2]", 1, "list(INT64)");
    check("null", 1, "null");
    check("'a' +", 6, "");
    check("request.size ? 1 : 2", 14, "is not defined");
    assert_eq!(seen, wanted);
    let error = Expression::compile(r#"source.name.matches("(")"#, &CEL).unwrap_err();
    assert!(matches!(error, CompileError::Pattern { .. }), "{error}");
}

#[test]
fn what_is_read_is_known_before_and_what_was_read_after() {
    let text = r#"request.headers["x-a"] == "2" && source.uid == "x" || request.size > 1"#;
    let expression = Expression::compile(text, &CEL).unwrap();
    let expected = [
        Use::Attribute("request.size".into()),
        Use::Attribute("source.uid".into()),
        Use::Entry("request.headers".into(), "x-a".into()),
    ];
    assert_eq!(expression.uses(), expected.into());
    let mut references = References::new();
    let bag = bag();
    assert_eq!(
        expression.eval_tracked(&bag, &mut references).unwrap(),
        Value::Bool(true)
    );
    let seen: Vec<String> = references.iter().map(ToString::to_string).collect();
    // source.uid was not looked at: the first comparison decided.
    assert_eq!(seen, ["request.headers[x-a]", "request.size"]);
}

#[test]
fn a_loop_over_a_map_reads_the_whole() {
    let expression = Expression::compile(r#"request.headers.all(h, h != "")"#, &CEL).unwrap();
    assert_eq!(
        expression.uses(),
        [Use::AnyEntry("request.headers".into())].into()
    );
    assert_eq!(expression.ty(), ValueType::Bool);
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
    bag.set("destination.namespace", "shop");
    let bag = Destination(bag);
    let check = |text: &str, expected: Result<bool, bool>| {
        let expression = Expression::compile(text, &CEL).unwrap();
        let seen = expression
            .eval(&bag)
            .map(|v| v == Value::Bool(true))
            .map_err(|e| matches!(e, EvalError::Unknown { .. }));
        assert_eq!(seen, expected, "{text}");
    };
    check(r#"destination.namespace == "shop""#, Ok(true));
    check(
        r#"source.name == "x" && destination.namespace == "bar""#,
        Ok(false),
    );
    check(
        r#"source.name == "x" && destination.namespace == "shop""#,
        Err(true),
    );
    check(r#"has(source.labels)"#, Err(true));
}

#[test]
fn steps_sizes_and_depth_are_bounded() {
    let loops = |n: usize| {
        let open: String = (0..n).map(|i| format!("request.headers.all(h{i}, ")).collect();
        format!("{open}true{}", ")".repeat(n))
    };
    assert!(Expression::compile(&loops(2), &CEL).is_ok());
    assert!(Expression::compile(&loops(3), &CEL).is_err());
    assert!(Expression::compile(&format!("{}true{}", "(".repeat(500), ")".repeat(500)), &CEL).is_err());
    assert!(Expression::compile(&"!".repeat(20_000), &CEL).is_err());
    for text in [
        "1+".repeat(8_000) + "1",
        "[".repeat(8_000),
        "true?true:".repeat(1_500) + "true",
        "a.".repeat(8_000),
    ] {
        assert!(Expression::compile(&text, &CEL).is_err());
    }
    // Each step doubles the text.
    let doubling = format!(r#"["{}"]{}[0]"#, "x".repeat(1000), ".map(x, x + x)".repeat(20));
    let expression = Expression::compile(&doubling, &CEL).unwrap();
    assert!(expression.eval(&Bag::default()).is_err());
}

fn fragment() -> impl Strategy<Value = String> {
    let pieces = [
        "source.name",
        "request.headers",
        "source.ip",
        "[",
        "]",
        "(",
        ")",
        "\"a\"",
        "duration(\"5s\")",
        "||",
        "&&",
        "==",
        "<",
        "+",
        "-",
        "!",
        "1",
        "2.5",
        ",",
        ".",
        "?",
        ":",
        "match",
        "ip",
        "in",
        "has(",
        "size(",
        "true",
        " ",
        ".startsWith(",
        ".map(x, x)",
        ".exists(x, ",
        "x",
        "{",
        "}",
        "null",
        "b'a'",
        "'",
        "\\",
        "request.time",
    ];
    prop::sample::select(pieces.to_vec()).prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(common::random())]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = eval(&text);
    }

    #[test]
    fn what_has_a_value_has_the_type_that_was_promised(parts in prop::collection::vec(fragment(), 0..20)) {
        if let Ok(expression) = Expression::compile(&parts.concat(), &CEL) {
            let bag = bag();
            if let Ok(value) = expression.eval(&bag) {
                prop_assert!(value.is(expression.ty()));
            }
        }
    }
}
