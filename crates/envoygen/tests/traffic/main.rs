//! Features of traffic management by requests through real Envoys: what other tests compare as configuration, happens here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may fail loudly, and this one starts Envoys"
)]

#[path = "../support/mod.rs"]
mod support;

mod applications;
mod world;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use applications::{OK, OTHER};
use world::World;

/// For what takes effect by and by.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until it is so.
fn until(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn requests_go_as_a_sidecar_is_told() {
    let Some(world) = World::sidecar(false) else {
        return;
    };
    balancing(&world);
    bounds(&world);
    routing(&world);
    protocols(&world);
    connections(&world);
    logs(&world);
}

fn balancing(world: &World) {
    until("a failing endpoint is asked once", || {
        world.status("ejected", "/") == 503
    });
    let after: Vec<u16> = (0..20).map(|_| world.status("ejected", "/")).collect();
    assert_eq!(after, [OK; 20], "it is ejected");

    let near: Vec<u16> = (0..20).map(|_| world.status("near", "/")).collect();
    assert_eq!(near, [OK; 20], "the locality of the client comes first");
    until("the other locality takes over", || {
        world.status("failing", "/") == OTHER
    });
    let far: Vec<u16> = (0..20).map(|_| world.status("spread", "/")).collect();
    assert_eq!(far, [OTHER; 20], "distribute sends all of r1 to r2");

    let mut chosen = BTreeSet::new();
    for user in 0..20 {
        let header = format!("x-user: {user}");
        let answers: BTreeSet<u16> = (0..3)
            .map(|_| world.status_with("hashed", "/", &[&header]))
            .collect();
        assert_eq!(answers.len(), 1, "one endpoint for user {user}");
        chosen.extend(answers);
    }
    assert_eq!(chosen, [OK, OTHER].into(), "users are spread");
}

fn bounds(world: &World) {
    let answers = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| world.ask("slow", "/slow", &[])))
            .collect();
        let all = all.into_iter().map(|one| one.join().unwrap());
        all.collect::<Vec<String>>()
    });
    let overflowed =
        |answer: &&String| answer.contains(" 503 ") && answer.contains("x-envoy-overloaded: true");
    assert!(
        answers.iter().filter(overflowed).count() >= 4,
        "beyond one connection and one that waits: {answers:?}"
    );
    assert!(
        answers.iter().any(|answer| answer.contains(" 200 ")),
        "{answers:?}"
    );
}

fn routing(world: &World) {
    for (host, path, status) in [
        ("delegating", "/inner/a", OTHER),
        ("delegating", "/", OK),
        ("labelled", "/", 418),
        ("plain", "/", OK),
        ("nobody", "/", 502),
        ("local", "/", OK),
        ("turned", "/", OK),
    ] {
        until(&format!("{host}{path} is answered with {status}"), || {
            world.status(host, path) == status
        });
    }
    let patched = world.ask("patched", "/", &[]);
    assert!(
        patched.contains("x-patched: by the route") && patched.contains("x-filtered: by the filter"),
        "{patched}"
    );
}

fn protocols(world: &World) {
    let (answer, said) = world.upgraded("socket", b"ping");
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && said == "ping",
        "{answer} {said}"
    );
    let old = world.ask_as("plain", "GET / HTTP/1.0", &[]);
    assert!(old.contains(" 426 "), "{old}");
    let proxied = world.ask("proxied", "/", &[]);
    assert!(proxied.contains("PROXY TCP4 127.0.0.1 "), "{proxied}");
}

fn connections(world: &World) {
    for name in ["mysql", "mongo"] {
        let answer = world.talk(name, b"ping");
        assert_eq!(answer, "greeting ping", "{name}: the server speaks first");
    }
    world.send("tunnel", b"hello");
    until("the connection is carried by CONNECT", || {
        applications::seen("CONNECT deep.example:443 HTTP/1.1")
    });
}

fn logs(world: &World) {
    world.status("plain", "/logged?x=1");
    let line = r#""path":"/logged?x=1""#;
    until("the access log has the request as JSON", || {
        world
            .log()
            .lines()
            .any(|one| one.contains(line) && one.contains(r#""code":200"#))
    });
}

#[test]
fn http10_is_answered_where_the_proxy_asks_for_it() {
    let Some(world) = World::sidecar(true) else {
        return;
    };
    let old = world.ask_as("plain", "GET / HTTP/1.0", &[]);
    assert!(old.contains(" 200 "), "{old}");
}

#[test]
fn a_gateway_redirects_to_https() {
    let Some(world) = World::gateway() else { return };
    let answer = world.ask("shop", "/a?b=c", &[]);
    assert!(
        answer.contains(" 301 ") && answer.contains("location: https://shop.example/a?b=c"),
        "{answer}"
    );
}
