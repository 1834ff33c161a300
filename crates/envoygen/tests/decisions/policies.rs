//! Random policies of a workload, from few words, so that many of them match.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

pub(crate) const ONE: &str = "https://one.example";
pub(crate) const TWO: &str = "https://two.example/x";

/// A field, its `not…`, and the words that may stand in them.
type Words = (&'static str, &'static str, &'static [&'static str]);

const SOURCES: [Words; 5] = [
    (
        "principals",
        "notPrincipals",
        &[
            "cluster.local/ns/a/sa/x",
            "cluster.local/ns/b/*",
            "*/sa/x",
            "*",
            "old.example/ns/a/sa/x",
            "elsewhere.example/ns/a/sa/x",
            "cluster.local/ns/a*",
        ],
    ),
    ("namespaces", "notNamespaces", &["a", "a*", "b", "*b", "*"]),
    (
        "requestPrincipals",
        "notRequestPrincipals",
        &[
            "https://one.example/alice",
            "https://one.example/*",
            "*",
            "https://two.example/x/bob",
            "*/alice",
            "https://two*",
        ],
    ),
    (
        "ipBlocks",
        "notIpBlocks",
        &["127.0.0.0/8", "10.0.0.0/8", "127.0.0.1"],
    ),
    (
        "remoteIpBlocks",
        "notRemoteIpBlocks",
        &["10.1.0.0/16", "127.0.0.0/8", "192.0.2.7"],
    ),
];
const DOMAINS: Words = (
    "trustDomains",
    "notTrustDomains",
    &["cluster.local", "old.*", "*.example", "*", "cluster"],
);
const ACCOUNTS: Words = (
    "serviceAccounts",
    "notServiceAccounts",
    &["a/x", "b/y", "x", "ab/xx"],
);
const OPERATIONS: [Words; 4] = [
    (
        "hosts",
        "notHosts",
        &["shop.example", "*.example", "SHOP.example:8080", "shop.*", "*"],
    ),
    ("methods", "notMethods", &["GET", "POST", "P*", "*"]),
    (
        "paths",
        "notPaths",
        &[
            "/admin",
            "/admin*",
            "*.css",
            "*",
            "/a/{*}",
            "/a/{**}",
            "/a/b",
            "/{*}/b",
            "/Admin",
            "/v1/x:delete",
            "*:delete",
            "/caf%C3%A9*",
            "/{*}/x:delete",
            "/admin%20",
            "/x*",
            "/a%2fb",
            "/a\\b*",
            "/%61dmin*",
        ],
    ),
    ("ports", "notPorts", &["8080", "9090", "80"]),
];
const CONDITIONS: [(&str, &[&str]); 16] = [
    (
        "request.headers[x-role]",
        &["admin", "user", "adm*", "*min", "*", "user,admin"],
    ),
    ("request.headers[x-none]", &["a", "*"]),
    ("request.auth.claims[group]", &["staff", "st*", "*"]),
    ("request.auth.claims[realm][roles]", &["boss", "*"]),
    ("request.auth.audiences", &["shop", "*"]),
    ("request.auth.presenter", &["web", "w*"]),
    ("request.auth.principal", &["https://one.example/alice", "*"]),
    ("source.principal", &["cluster.local/ns/a/sa/x", "*"]),
    ("source.trustDomain", &["old.example", "cluster.*"]),
    ("source.namespace", &["a", "a*", "*b", "*"]),
    ("source.serviceAccount", &["a/x", "b/y", "x"]),
    ("destination.ip", &["127.0.0.0/8", "10.0.0.0/8"]),
    ("source.ip", &["127.0.0.0/8", "10.0.0.0/8"]),
    ("remote.ip", &["10.1.2.3", "127.0.0.0/8"]),
    ("destination.port", &["8080", "9090"]),
    ("connection.sni", &["shop.example", "*.example", "*"]),
];

/// All documents of the workload with this number.
pub(crate) fn documents(at: usize, random: &mut StdRng) -> String {
    let mut all = Vec::new();
    let count = random.random_range(0..=3);
    let usual = ["ALLOW", "DENY", "ALLOW", "DENY", "AUDIT", "CUSTOM"];
    for index in 0..count {
        let action = *usual.choose(random).unwrap();
        let rules: Vec<Value> = (0..random.random_range(1..=3))
            .map(|_| rule(action, random))
            .collect();
        let mut spec = json!({"action": action, "rules": rules});
        if action == "CUSTOM" {
            spec["provider"] =
                json!({"name": *["asked", "asked-grpc", "asked-too", "nobody"].choose(random).unwrap()});
        }
        if action == "ALLOW" && random.random_bool(0.05) {
            spec["rules"] = json!([]);
        }
        let mut object = object("AuthorizationPolicy", at, &format!("p{index}"), &spec);
        if ["ALLOW", "DENY"].contains(&action) && random.random_bool(0.1) {
            object["metadata"]["annotations"] = json!({"istio.io/dry-run": "true"});
        }
        all.push(object);
    }
    if random.random_bool(0.5) {
        all.push(object(
            "RequestAuthentication",
            at,
            "tokens",
            &json!({"jwtRules": tokens(random)}),
        ));
    }
    if random.random_bool(0.4) {
        let mode = |random: &mut StdRng| *["STRICT", "PERMISSIVE", "DISABLE"].choose(random).unwrap();
        let mut spec = json!({"selector": {"matchLabels": {"app": "w"}}, "mtls": {"mode": mode(random)}});
        if random.random_bool(0.5) {
            spec["portLevelMtls"] = json!({"8080": {"mode": mode(random)}});
        }
        all.push(object("PeerAuthentication", at, "modes", &spec));
    }
    let texts: Vec<String> = all.iter().map(Value::to_string).collect();
    texts.join("\n---\n")
}

fn object(kind: &str, at: usize, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": format!("w{at}")}, "spec": spec,
    })
}

fn rule(action: &str, random: &mut StdRng) -> Value {
    let mut out = Map::new();
    let custom = action == "CUSTOM";
    if random.random_bool(0.5) {
        let from = (0..random.random_range(1..=2)).map(|_| json!({"source": source(custom, random)}));
        out.insert("from".to_owned(), from.collect());
    }
    if random.random_bool(0.6) {
        let to = (0..random.random_range(1..=2)).map(|_| json!({"operation": some(&OPERATIONS, random)}));
        out.insert("to".to_owned(), to.collect());
    }
    if random.random_bool(0.4) {
        let when = (0..random.random_range(1..=2)).map(|_| condition(custom, random));
        out.insert("when".to_owned(), when.collect());
    }
    Value::Object(out)
}

fn source(custom: bool, random: &mut StdRng) -> Value {
    // What an external authorizer is asked about may depend on addresses alone.
    if custom {
        return some(&SOURCES[3..], random);
    }
    match random.random_range(0..6) {
        0 => some(&[ACCOUNTS], random),
        1 => some(&[DOMAINS], random),
        _ => some(&SOURCES, random),
    }
}

/// One or two of the fields, or their `not…`, or both.
fn some(fields: &[Words], random: &mut StdRng) -> Value {
    let mut out = Map::new();
    for _ in 0..random.random_range(1..=2) {
        let (name, not, words) = *fields.choose(random).unwrap();
        let kind = random.random_range(0..5);
        if kind >= 2 {
            out.insert(name.to_owned(), values(words, random));
        }
        if kind <= 2 {
            out.insert(not.to_owned(), values(words, random));
        }
    }
    Value::Object(out)
}

fn values(words: &[&str], random: &mut StdRng) -> Value {
    let count = random.random_range(1..=2);
    (0..count).map(|_| json!(words.choose(random).unwrap())).collect()
}

fn condition(custom: bool, random: &mut StdRng) -> Value {
    let known =
        |key: &str| !key.starts_with("request.auth") && (!key.starts_with("source.") || key == "source.ip");
    let all: Vec<_> = CONDITIONS
        .iter()
        .filter(|(key, _)| !custom || known(key))
        .collect();
    let (key, words) = *all.choose(random).unwrap();
    let mut out = json!({"key": key});
    if random.random_bool(0.7) {
        out["values"] = values(words, random);
    }
    if out.get("values").is_none() || random.random_bool(0.2) {
        out["notValues"] = values(words, random);
    }
    out
}

fn tokens(random: &mut StdRng) -> Vec<Value> {
    let mut rules = Vec::new();
    for issuer in [ONE, TWO] {
        if !rules.is_empty() && random.random_bool(0.5) {
            break;
        }
        let mut rule = json!({"issuer": issuer, "jwks": "JWKS", "forwardOriginalToken": true});
        if random.random_bool(0.2) {
            rule["audiences"] = json!(["shop"]);
        }
        match random.random_range(0..5) {
            0 => rule["fromHeaders"] = json!([{"name": "x-token", "prefix": "T "}]),
            1 => rule["fromParams"] = json!(["token"]),
            2 => rule["fromCookies"] = json!(["token"]),
            _ => {}
        }
        if random.random_bool(0.15) {
            rule["presence"] = json!("REQUIRED");
        }
        if random.random_bool(0.1) {
            rule.as_object_mut().unwrap().remove("jwks");
        }
        rules.push(rule);
    }
    rules
}
