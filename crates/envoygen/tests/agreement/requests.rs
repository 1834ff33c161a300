//! Random requests, from the words that the random objects have.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use simulate::Call;

use crate::objects::HOSTS;
use crate::world::{Client, PORT};

const PATHS: [&str; 28] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/A/b",
    "/ab",
    "/api/v1",
    "/api/v2/x",
    "/API/v1",
    "/api",
    "/api/v1/x/y",
    "/old/p",
    "/old",
    "/b/",
    "//a",
    "/a/../b/",
    "/a/./b",
    "/a;x=1",
    "/x%20y",
    "/%61pi",
    "/a%2Fb",
    "/aaa/ba",
    "/a\\b",
    "/api/v1/..",
    "/a$b",
    "/old//p",
    "/a^b",
    "/a#b",
];
const QUERIES: [&str; 12] = [
    "",
    "",
    "",
    "",
    "?q=1",
    "?q=2&q=1",
    "?q",
    "?q=&r=1",
    "?r=x",
    "?q=1%20",
    "?Q=1",
    "?x=/a&q=12",
];
const USERS: [&str; 7] = ["jane", "JANE", "joe", "jane,joe", "janet", "", "jo e"];

/// A request by a client; `x-case` is its number.
pub(crate) fn random(client: &Client, case: usize, random: &mut StdRng) -> Call {
    let mut word = |words: &[&str]| (*words.choose(random).unwrap()).to_owned();
    let (path, method) = (
        word(&PATHS) + &word(&QUERIES),
        word(&["GET", "GET", "GET", "POST", "PUT", "OPTIONS"]),
    );
    let mut headers = vec![("x-case".to_owned(), case.to_string())];
    if word(&["yes", "no"]) == "yes" {
        headers.push((word(&["x-user", "X-User"]), word(&USERS)));
    }
    if word(&["yes", "no", "no"]) == "yes" {
        headers.push(("x-user".to_owned(), word(&USERS)));
    }
    if word(&["yes", "no", "no"]) == "yes" {
        headers.push(("x-flag".to_owned(), word(&["on", "off"])));
    }
    if word(&["yes", "no", "no"]) == "yes" {
        headers.push((
            "origin".to_owned(),
            word(&["https://a.example", "https://b.example", "null"]),
        ));
        if word(&["yes", "no"]) == "yes" {
            headers.push(("access-control-request-method".to_owned(), word(&["PUT", "GET"])));
        }
    }
    let host = match random.random_range(0..20) {
        0 => "nobody.example".to_owned(),
        1 => "H0.Example".to_owned(),
        2 => format!("h1.example:{PORT}"),
        3 => "h2.example:1".to_owned(),
        4 => "x.wild.example".to_owned(),
        5 => "y.x.wild.example".to_owned(),
        6 => "wild.example".to_owned(),
        7 => "[::1]".to_owned(),
        _ => format!("h{}.example", random.random_range(0..HOSTS)),
    };
    Call {
        address: client.address.parse().unwrap(),
        port: PORT,
        method,
        path,
        host,
        headers,
        ..Call::default()
    }
}
