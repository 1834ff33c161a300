//! Random requests, from the words that policies have and from the spellings that attackers try.

use std::collections::BTreeMap;

use authz::Place;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::mesh::PEERS;
use crate::policies::{ONE, TWO};

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    /// None for plaintext.
    pub(crate) peer: Option<&'static str>,
    pub(crate) sni: &'static str,
    /// Whether to the port for bytes.
    pub(crate) tcp: bool,
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    pub(crate) path: &'static str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) tokens: Vec<Carried>,
    /// What the authorizers will answer.
    pub(crate) answers: BTreeMap<String, bool>,
}

/// A token to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Carried {
    pub(crate) place: Place,
    pub(crate) claims: Value,
    pub(crate) genuine: bool,
}

const PATHS: [&str; 50] = [
    "/",
    "/admin",
    "/Admin",
    "/admin/",
    "/admin?x=1",
    "/admin#f",
    "//admin",
    "/%2Fadmin",
    "/x/..%2fadmin",
    "/x/../admin",
    "/x/%2e%2E/admin",
    "/x\\..\\admin",
    "/%5cadmin",
    "/adminer",
    "/a/b",
    "/a//b",
    "/a/b/c",
    "/a/",
    "/style.css",
    "/style.css?a=/b",
    "/a%252Fb",
    "/%61dmin%7e",
    "/%41dmin",
    "/admin;x=1",
    "/x/..;/admin",
    "/x/..;a=b/admin",
    "/x/%2e%2e;/admin",
    "/x/.%2E%3Bc/admin",
    "/admin/.;",
    "/admin%00",
    "/x/..%00/admin",
    "/a?%00",
    "/%252Fadmin",
    "/%25%32%46admin",
    "/x%%32Fadmin",
    "/x/%252e%252e/admin",
    "/admin.",
    "/admin./",
    "/.../admin",
    "/admin/.",
    "/x/%2e%2e%2fadmin",
    "/x%5c..%5Cadmin",
    "/v1/x:delete",
    "/v1/x%3adelete",
    "/caf%C3%A9/x",
    "/caf%c3%A9",
    "/a%2Fb",
    "/a%5cb",
    "/a\\b",
    "/a/*[",
];

/// What a random path is made of.
const PIECES: [&str; 36] = [
    "/",
    "/",
    "/",
    "//",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    "..",
    ".",
    "%2e",
    "%2E",
    ";",
    ";a=b",
    "%3b",
    "%00",
    "%25",
    "%",
    "%2",
    "%zz",
    "%32",
    "%46",
    "admin",
    "a",
    "b",
    "x",
    "%61",
    ".css",
    "?",
    "?/../b",
    ":delete",
    "%3Adelete",
    "%C3%A9",
    "\"{",
    "~",
    "v1/x",
];

/// One of [`PATHS`], or a text that nobody has thought of.
fn path(random: &mut StdRng) -> &'static str {
    if random.random_bool(0.6) {
        return PATHS.choose(random).unwrap();
    }
    let count = random.random_range(1..=7);
    let pieces = (0..count).map(|_| *PIECES.choose(random).unwrap());
    format!("/{}", pieces.collect::<String>()).leak()
}

impl Default for Sent {
    fn default() -> Self {
        Sent {
            peer: None,
            sni: "shop.example",
            tcp: false,
            method: "GET",
            host: "shop.example",
            path: "/",
            headers: Vec::new(),
            tokens: Vec::new(),
            answers: ["asked", "asked-grpc", "asked-too"]
                .map(|name| (name.to_owned(), false))
                .into(),
        }
    }
}

pub(crate) fn random(random: &mut StdRng) -> Sent {
    let mut sent = Sent {
        peer: random.random_bool(0.7).then(|| *PEERS.choose(random).unwrap()),
        sni: ["shop.example", "outbound_.80_._.a.b", "other.test"]
            .choose(random)
            .unwrap(),
        tcp: random.random_bool(0.15),
        method: ["GET", "GET", "POST", "PUT", "OPTIONS"].choose(random).unwrap(),
        host: [
            "shop.example",
            "SHOP.Example",
            "shop.example:8080",
            "shop.example.:80",
            "other.test",
            "a.shop.example",
        ]
        .choose(random)
        .unwrap(),
        path: path(random),
        ..Sent::default()
    };
    if random.random_bool(0.3) {
        for _ in 0..random.random_range(1..=2) {
            let roles = ["admin", "user", "administrator", "superadmin", "user, admin", ""];
            sent.headers.push(("x-role", roles.choose(random).unwrap()));
        }
    }
    if random.random_bool(0.3) {
        sent.headers.push((
            "x-forwarded-for",
            ["10.1.2.3", "192.0.2.7"].choose(random).unwrap(),
        ));
    }
    if random.random_bool(0.5) {
        sent.tokens.push(token(random));
    }
    let said = ["asked", "too", "grpc", "asked grpc", "asked too grpc"];
    let said = *said.choose(random).unwrap();
    sent.headers.push(("x-answer", said));
    for (name, word) in [("asked", "asked"), ("asked-grpc", "grpc"), ("asked-too", "too")] {
        sent.answers.insert(name.to_owned(), said.contains(word));
    }
    // Of a connection the authorizer knows the peer alone.
    if sent.tcp {
        let known = sent.peer.is_some_and(|peer| peer.ends_with("/sa/x"));
        sent.answers.insert("asked-grpc".to_owned(), known);
    }
    sent
}

fn token(random: &mut StdRng) -> Carried {
    let places = [
        Place::Header("authorization".to_owned(), "Bearer ".to_owned()),
        Place::Header("authorization".to_owned(), "Bearer ".to_owned()),
        Place::Header("x-token".to_owned(), "T ".to_owned()),
        Place::Param("token".to_owned()),
        Place::Cookie("token".to_owned()),
    ];
    let mut claims = json!({
        "iss": *[ONE, ONE, TWO, "https://three.example"].choose(random).unwrap(),
        "sub": *["alice", "bob"].choose(random).unwrap(),
    });
    if random.random_bool(0.5) {
        claims["group"] = [json!("staff"), json!(["guests", "staff"]), json!(["guests"])]
            .choose(random)
            .unwrap()
            .clone();
    }
    if random.random_bool(0.3) {
        claims["realm"] = json!({"roles": ["boss", "x"]});
    }
    if random.random_bool(0.5) {
        claims["aud"] = [json!("shop"), json!(["shop", "x"]), json!("x")]
            .choose(random)
            .unwrap()
            .clone();
    }
    if random.random_bool(0.3) {
        claims["azp"] = json!("web");
    }
    Carried {
        place: places.choose(random).unwrap().clone(),
        claims,
        genuine: random.random_bool(0.85),
    }
}
