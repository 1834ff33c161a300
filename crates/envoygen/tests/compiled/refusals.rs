//! Refusals: the same verdict as Mixer's for random rules and requests, and no call.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::net::TcpStream;

use policy::Ports;
use proptest::strategy::{Strategy, ValueTree};

use crate::mesh::{INBOUND, MESH, condition, policies, runner, sent, start};
use crate::rules::{action, rule};
use crate::support::envoy::{echo, request};
use crate::support::generator;

/// Rules in one Envoy; as many as `PROPTEST_CASES` says in all.
const BATCH: usize = 250;

#[test]
fn compiled_rules_decide_as_mixer_does() {
    let mut runner = runner();
    let cases = usize::try_from(runner.config().cases).unwrap();
    echo("127.11.1.2:8080");
    let (mut refused, mut passed) = (0, 0);
    for batch in 0..cases.div_ceil(BATCH) {
        let numbers = batch * BATCH..cases.min((batch + 1) * BATCH);
        let mut texts = BTreeMap::new();
        for number in numbers {
            let condition = condition().new_tree(&mut runner).unwrap().current();
            let (handler, value) = action().new_tree(&mut runner).unwrap().current();
            texts.insert(number, rule(number, &condition, &handler, &value));
        }
        // Those that stay with Mixer would need one.
        let mesh = MESH.replace("127.11.N.", "127.11.1.");
        let all: String = texts.values().map(String::as_str).collect();
        let (rules, own) = policies(&generator(&[&mesh, &all]));
        let remote = rules.requirements_at(&own, INBOUND, Ports::Only(8080)).checks;
        let remote: Vec<String> = remote.into_iter().flat_map(|check| check.rules).collect();
        texts.retain(|number, _| !remote.contains(&format!("r{number}.shop")));
        let all: String = texts.values().map(String::as_str).collect();
        let (generator, running) = start(1, &all);
        let Some(running) = running else { return };
        // The dump names all that Envoy has; what is configured is named by its type.
        let dump = running.page("/config_dump", "mixer-000000");
        assert!(!dump.contains("type.googleapis.com/envoy.extensions.filters.http.ext_authz"));
        let (rules, own) = policies(&generator);
        let mut proxy = BufReader::new(TcpStream::connect("127.11.1.3:8080").unwrap());
        for (number, text) in &texts {
            for _ in 0..3 {
                let sent = sent().new_tree(&mut runner).unwrap().current();
                let verdict = sent.verdict(&rules, &own, *number);
                let (status, head, body) = sent.send(&mut proxy, *number);
                let place = || format!("{sent:?}\n{text}\n{verdict:?}\n{head}{body}");
                assert_eq!(status, verdict.http_status, "{}", place());
                if verdict.is_ok() {
                    passed += 1;
                    continue;
                }
                refused += 1;
                assert_eq!(body, verdict.body, "{}", place());
                for change in &verdict.response_headers {
                    let policy::HeaderChange::Replace(name, value) = change else {
                        panic!("{change:?}")
                    };
                    assert!(head.contains(&format!("{name}: {value}\r\n")), "{}", place());
                }
            }
        }
    }
    assert!(
        refused > cases / 4 && passed > cases / 4,
        "{refused} refused, {passed} passed"
    );
}

#[test]
fn a_refusal_over_grpc_is_one_of_grpc() {
    let handler = "compiledAdapter: denier, params: {status: {code: 7, message: no}}".replace("no}", "'no'}");
    let (_, running) = start(2, &rule(0, "true", &handler, r#""1""#));
    let Some(_running) = running else { return };
    echo("127.11.2.2:8080");
    let headers = [
        "x-case: c0",
        "content-type: application/grpc",
        "content-length: 0",
    ];
    let answer = request("127.11.2.3:8080", "POST /a.B/c HTTP/1.1", &headers).unwrap();
    assert!(
        answer.contains("grpc-status: 7\r\n")
            && answer.contains("grpc-message: PERMISSION_DENIED:h0.shop:no"),
        "{answer}"
    );
}

#[test]
fn the_first_of_several_refusals_answers() {
    let deny = |code: u8| format!("compiledAdapter: denier, params: {{status: {{code: {code}}}}}");
    // Both are about the same requests; a later name comes later, whatever the order in which they are written.
    let later = rule(5, "true", &deny(16), r#""1""#).replace("c5", "c0");
    let (_, running) = start(5, &(later + &rule(0, "true", &deny(7), r#""1""#)));
    let Some(_running) = running else { return };
    let answer = request("127.11.5.3:8080", "GET / HTTP/1.1", &["x-case: c0"]).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.ends_with("PERMISSION_DENIED:h0.shop:"),
        "{answer}"
    );
}

/// Where Mixer alone can tell, it is asked about those requests for which a rule may hold. There is no Mixer here.
#[test]
fn mixer_is_asked_only_where_a_rule_may_hold() {
    let deny = "compiledAdapter: denier, params: {}";
    let condition = r#"request.url_path == "/asked" && source.labels["app"] == "web""#;
    let (_, running) = start(3, &rule(0, condition, deny, r#""1""#));
    let Some(running) = running else { return };
    echo("127.11.3.2:8080");
    let status = |path: &str, case: &str| {
        let answer = request(
            "127.11.3.3:8080",
            &format!("GET {path} HTTP/1.1"),
            &[&format!("x-case: c{case}")],
        );
        answer.unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("/", "0"), "200");
    assert_eq!(status("/asked", "1"), "200");
    assert_eq!(status("/asked", "0"), "503", "it fails closed");
    assert_eq!(status("/", "0"), "200");
    let page = running.page(
        "/stats?filter=ext_authz.mixer_closed",
        "ext_authz.mixer_closed.error",
    );
    assert!(page.contains("mixer_closed.error: 1\n"), "{page}");
    assert!(page.contains("mixer_closed.disabled: 3\n"), "{page}");
}
