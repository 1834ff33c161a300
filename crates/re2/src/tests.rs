//! What Envoy 1.40 (`--mode validate`) and Go 1.26 say, as data.

use super::*;

/// Both take these.
#[rustfmt::skip]
const GOOD: &[&str] = &[
    "", "^/api/v[0-9]+/.*$", "/users/{id}", "a*?", "(a*)*", r"\p{L}{900}", r"\p{L}", r"\p{Greek}", r"\pL{100}", r"\p{^L}",
    r"\P{L}", r"\p{Han}+", r"[\p{L}]", "[[:alpha:]]", "[[:^alpha:]]", "[[:word:]]", "[a-]", "[]a]", "[^]a]", "[a-z&&b]",
    "[a-z~~]", "[[]", r"\d{,3}", "a{,3}", "{", "a{", "a{1", "a{1,", "a{1,2", "a{01}", "a{1}{", "}", "]", "x{1000}",
    "a{1000,}", "(?:a{1000}){1}", "(?i)a", "(?U)a", "(?m)^", "(?s).", "(?-s).", "(?i-s:a)", "(?im-sU:a)", "(?)", "(?:a)",
    "(?<n>a)", "(?P<n>a)(?P<n>b)", "(?P<1>a)", r"\A", r"\z", r"\a", r"\x41", r"\x{41}", r"\x{ff}", r"\07", r"\12", r"\377",
    r"\0", r"\Qa", r"\Q\E", r"\Qa.b(\E.*", r"\_", r"\ ", r"\-", r"\/", "é", r"\<", r"\'", "()", "|", "a||b", "(|a)", "(?:)",
    "^*", "$+", r"\b+", r"\b{start}", "[[.a.]]", "[[=a=]]", "[:alpha:]", r"[\d-z]", r"[\pL-z]", "[[:alpha:]-z]", r"[\--a]",
    r"[\d-\w]", "[a-z-9]", r"[^\n]", "[^]]", ".{1000}", "(.*){10}", r"\w{1000}", r"\w{1,32}", r"\S{1000}", "(a{500}){2}",
    "(a|b|c){300}", r"(?:[a-z0-9]{1,63}\.){1,10}[a-z]{2,}", r"[\p{L}\p{N}]{1,64}", r"\p{Any}", r"\pZ", r"\p{C}", r"\p{Cs}",
    r"\p{Kawi}", "a*(?i)", "[α-ω]+", "[a-é]", r"(?:\pL{1000}){1}\pL{1000}\pL{1000}",
];

/// One of them refuses these.
#[rustfmt::skip]
const BAD: &[(&str, usize, &str)] = &[
    ("a++", 2, "++"), ("a**", 2, "**"), ("a*?*", 2, "*?*"), ("a+*", 2, "+*"), ("a{2}{3}", 2, "{2}{3}"), ("ab{2}*", 3, "{2}*"),
    ("*", 1, "nothing before"), ("(+)", 2, "nothing before"), ("a|*", 3, "nothing before"), ("{1}", 1, "nothing before"),
    (r"\Q\E*", 5, "nothing before"), ("(?i)+", 5, "nothing before"), ("(", 1, "no )"), ("a)", 2, "no ("), ("é)", 2, "no ("),
    ("[a", 1, "no ]"), ("[]", 1, "no ]"), ("[^]", 1, "no ]"), (r"[\", 2, "nothing follows"), (r"\", 1, "nothing follows"),
    ("[z-a]", 2, "z-a"), ("[a--b]", 2, "a--"), ("[é-a]", 2, "é-a"), ("[[:foo:]]", 2, "[:foo:]"), ("[[:^foo:]]", 2, "[:^foo:]"),
    ("[[:a]b:]]", 2, "[:a]b:]"), (r"\p{Foo}", 1, r"\p{Foo}"), (r"\p{Cn}", 1, "category"), (r"\p{Letter}", 1, ""),
    (r"\p{LC}", 1, ""), (r"\p{greek}", 1, ""), (r"\pé", 1, ""), (r"\p", 1, ""), (r"[\p", 2, ""), (r"\p{", 1, ""),
    (r"\p{}", 1, ""), (r"\p{L&}", 1, ""), (r"\p{Script=Greek}", 1, ""), (r"\p{Garay}", 1, ""), (r"\1", 1, r"\1"),
    (r"(a)\1", 4, "references"), (r"\8", 1, ""), (r"\h", 1, ""), (r"\Z", 1, ""), (r"\e", 1, ""), (r"\E", 1, ""),
    (r"\cA", 1, ""), (r"\u0041", 1, r"\u"), (r"\U00000041", 1, ""), (r"\x4", 1, ""), (r"\x{}", 1, ""), (r"\xg0", 1, ""),
    (r"\x{100}", 1, ""), (r"\400", 1, ""), (r"\x{110000}", 1, ""), (r"\é", 1, ""), (r"[\b]", 2, ""), (r"[\Q]\E]", 2, ""),
    (r"[a-\d]", 4, ""), (r"[a-\n]", 2, ""), (r"\C", 1, "Istio"), ("x{2,1}", 2, "{2,1}"), ("x{1001}", 2, "1000"),
    ("a{1001,}", 2, ""), ("a{0,1001}", 2, ""), ("a{99999999999}", 2, ""), ("(a{2}){501}", 7, "{501}"), ("(a{3}){400}", 7, ""),
    ("((a{1000}){0}){2}", 15, ""), ("((a{100}){100}){100}", 10, ""), ("(?x)a b", 1, "(?x"), ("(?#c)", 1, ""), ("(?>a)", 1, ""),
    ("(?=x)", 1, "look-around"), ("(?'n'a)", 1, ""), ("(?P=n)", 1, ""), ("(?P>n)", 1, ""), ("(?", 1, ""), ("(?i", 1, ""),
    ("(?z)", 1, ""), ("(?i-)a", 1, ""), ("(?--i)a", 1, ""), ("(?P<n", 1, ""), ("(?P<>a)", 1, ""), ("(?P<a-b>c)", 1, "a-b"),
    ("(?i)(?P<é>a)", 5, "(?P<é>"), (r"\pL{1000}\pL{1000}\pL{1000}\pL{1000}\pL{1000}", 1, "32768"),
];

#[test]
fn what_both_take_is_fine_and_runs_here() {
    for good in GOOD {
        let read = parse(good).unwrap_or_else(|fault| panic!("{good}: {fault}"));
        // Its compilation costs too much otherwise; that it can be read is what counts.
        if read.instructions() > 2000 || read.rust().contains("\\p{L}") && read.instructions() > 200 {
            assert!(regex_syntax::parse(read.rust()).is_ok(), "{good}");
            continue;
        }
        let built = regex::RegexBuilder::new(read.rust()).size_limit(1 << 27).build();
        assert!(built.is_ok(), "{good}: {}: {built:?}", read.rust());
    }
}

#[test]
fn what_one_refuses_is_refused_at_its_place() {
    for (bad, at, words) in BAD {
        let fault = parse(bad).expect_err(bad);
        assert_eq!(fault.at, *at, "{bad}: {fault}");
        let text = fault.to_string();
        assert!(
            text.contains(words) || (*words == "category" && text.contains("categories")),
            "{bad}: {text}"
        );
    }
    assert!(parse_of_proxy(r"\C{3}").is_ok());
}

#[test]
fn sizes_are_those_that_envoy_tells() {
    for (expression, told) in [
        ("a", 5),
        ("abc", 7),
        ("(a)", 7),
        ("ab|cd|ef", 10),
        ("[a-z]", 5),
        ("[^a]", 6),
        (".", 6),
        (r"\w", 7),
        (r"\W", 9),
        (r"\pL", 11),
        (r"\PL", 12),
        ("a{10}", 14),
        ("a{2,10}", 22),
        ("a{2,}", 7),
        (".{0,10}", 34),
        (r"\pL{10}", 74),
        ("é", 6),
        ("(?:[a-z0-9]{1,63}\\.){1,10}[a-z]{2,}", 1906),
        (".{1,256}/[^/]{1,256}", 1539),
    ] {
        assert_eq!(parse(expression).unwrap().instructions(), told, "{expression}");
    }
}

#[test]
fn what_runs_here_means_what_a_proxy_means() {
    for (expression, text, expected) in [
        (r"\d", "٣", false),
        (r"\d", "3", true),
        (r"\w", "é", false),
        (r"\W", "é", true),
        (r"\s", "\u{b}", false),
        (r"\S", "\u{b}", true),
        (r"[\D]", "x", true),
        (r"\bé\b", "é", false),
        (r"\101", "A", true),
        (r"\Q.\E", "a", false),
        ("[[.a.]]", "a]", true),
        ("[a&&b]", "&", true),
        (r"\p{C}", "\u{378}", false),
        (r"\p{^Greek}", "α", false),
        ("(?i)k", "K", true),
        ("a{,2}", "a{,2}", true),
        ("x{01}", "x{01}", true),
    ] {
        let read = parse(expression).unwrap();
        let built = regex::Regex::new(&format!("^(?:{})$", read.rust())).unwrap();
        assert_eq!(
            built.is_match(text),
            expected,
            "{expression} on {text}: {}",
            read.rust()
        );
    }
    assert_eq!(parse(r"(a)(?P<n>b)(?:c)\(").unwrap().groups(), 2);
}

#[test]
fn depth_and_length_cost_no_stack() {
    let deep = format!("{}{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(parse(&deep).is_err_and(|fault| matches!(fault.problem, Problem::TooLarge(_))));
    assert!(parse(&"a?".repeat(10_000)).is_ok());
    assert!(parse(&"[".repeat(100_000)).is_err());
}
