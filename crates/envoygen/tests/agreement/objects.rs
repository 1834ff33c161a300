//! Random objects: services with versions, and what routes to them.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

/// How many services there are: `h0.example`, …
pub(crate) const HOSTS: usize = 10;

fn one(random: &mut StdRng, words: &[Value]) -> Value {
    words.choose(random).unwrap().clone()
}

fn host(random: &mut StdRng) -> String {
    format!("h{}.example", random.random_range(0..HOSTS))
}

/// Where requests may go: a service or a version of it; seldom one that has no endpoints, or that does not exist.
fn destination(random: &mut StdRng) -> Value {
    let mut out = json!({"host": host(random)});
    match random.random_range(0..12) {
        0..4 => {}
        4..7 => out["subset"] = json!("v1"),
        7..10 => out["subset"] = json!("v2"),
        10 => out["subset"] = json!("none"),
        _ => out["subset"] = json!("undeclared"),
    }
    out
}

/// A route of one destination, or of several with weights.
fn route(random: &mut StdRng) -> Value {
    if random.random_bool(0.7) {
        return json!([{"destination": destination(random)}]);
    }
    let several = (0..random.random_range(2..4)).map(|at| {
        let weight = if at == 0 {
            10
        } else {
            *[0, 30, 90].choose(random).unwrap()
        };
        json!({"destination": destination(random), "weight": weight})
    });
    Value::Array(several.collect())
}

fn uri(random: &mut StdRng) -> Value {
    one(
        random,
        &[
            json!({"prefix": "/"}),
            json!({"prefix": "/a"}),
            json!({"prefix": "/api/"}),
            json!({"prefix": "/A"}),
            json!({"prefix": "/old"}),
            json!({"exact": "/a"}),
            json!({"exact": "/A/b"}),
            json!({"exact": "/api/v1"}),
            json!({"exact": "/b/"}),
            json!({"regex": "/a.*"}),
            json!({"regex": ".*/v[12]"}),
            json!({"regex": "/(api|old)/[^/]+"}),
            json!({"regex": "/x%20\\w"}),
            json!({"regex": "(?i)/API.*"}),
        ],
    )
}

fn text(random: &mut StdRng) -> Value {
    one(
        random,
        &[
            json!({"exact": "jane"}),
            json!({"prefix": "ja"}),
            json!({"regex": "ja.*|joe"}),
            json!({"regex": "jane,joe"}),
            json!({"regex": ".*"}),
            json!({}),
        ],
    )
}

fn condition(random: &mut StdRng) -> Value {
    let mut out = Map::new();
    let mut put = |random: &mut StdRng, often: f64, key: &str, make: fn(&mut StdRng) -> Value| {
        if random.random_bool(often) {
            let value = make(random);
            out.insert(key.to_owned(), value);
        }
    };
    put(random, 0.8, "uri", uri);
    put(random, 0.2, "ignoreUriCase", |_| json!(true));
    put(random, 0.2, "method", |random| {
        one(
            random,
            &[
                json!({"exact": "GET"}),
                json!({"prefix": "P"}),
                json!({"regex": "P(OS|U)T"}),
            ],
        )
    });
    put(random, 0.25, "headers", |random| json!({"x-user": text(random)}));
    put(
        random,
        0.15,
        "withoutHeaders",
        |random| json!({"x-user": text(random), "x-flag": {"exact": "on"}}),
    );
    put(random, 0.2, "queryParams", |random| {
        one(
            random,
            &[
                json!({"q": {"exact": "1"}}),
                json!({"q": {"prefix": "1"}}),
                json!({"q": {"regex": "[12]"}}),
                json!({"q": {}, "r": {}}),
                json!({"q": {"exact": "1 "}}),
            ],
        )
    });
    put(random, 0.1, "authority", |random| {
        one(
            random,
            &[
                json!({"prefix": "h"}),
                json!({"exact": "h1.example"}),
                json!({"regex": ".*\\.wild\\.example"}),
            ],
        )
    });
    put(random, 0.1, "scheme", |random| {
        one(random, &[json!({"exact": "http"}), json!({"exact": "https"})])
    });
    put(random, 0.1, "port", |random| {
        one(random, &[json!(8080), json!(81)])
    });
    Value::Object(out)
}

fn redirect(random: &mut StdRng) -> Value {
    one(
        random,
        &[
            json!({"uri": "/new"}),
            json!({"uri": "/new?x=1"}),
            json!({"authority": "new.example"}),
            json!({"authority": "new.example", "uri": "/n", "redirectCode": 302}),
            json!({"scheme": "https"}),
            json!({"scheme": "https", "port": 8443, "redirectCode": 308}),
            json!({"derivePort": "FROM_REQUEST_PORT", "redirectCode": 307}),
            json!({"derivePort": "FROM_PROTOCOL_DEFAULT", "scheme": "https", "redirectCode": 303}),
            json!({"port": 81, "uri": "/p"}),
        ],
    )
}

fn rewrite(random: &mut StdRng) -> Value {
    one(
        random,
        &[
            json!({"uri": "/new"}),
            json!({"uri": "/"}),
            json!({"authority": "other.example"}),
            json!({"uri": "/n/", "authority": "other.example:99"}),
            json!({"uriRegexRewrite": {"match": "^/([^/]+)/(.*)$", "rewrite": "/\\2/\\1"}}),
            json!({"uriRegexRewrite": {"match": "a+", "rewrite": "A$1"}}),
            json!({"uriRegexRewrite": {"match": "/", "rewrite": "/\\0x"}}),
        ],
    )
}

fn fault(random: &mut StdRng) -> Value {
    one(
        random,
        &[
            json!({"abort": {"httpStatus": 418, "percentage": {"value": 100}}}),
            json!({"abort": {"httpStatus": 418, "percentage": {"value": 0}}}),
            json!({"abort": {"httpStatus": 503}}),
            json!({"delay": {"fixedDelay": "0.01s", "percentage": {"value": 100}}}),
        ],
    )
}

fn cors(random: &mut StdRng) -> Value {
    let mut out = json!({"allowOrigins": [one(random, &[
        json!({"exact": "https://a.example"}),
        json!({"prefix": "https://"}),
        json!({"regex": "https://[ab]\\.example"}),
    ])], "allowMethods": ["GET"]});
    if random.random_bool(0.5) {
        out["unmatchedPreflights"] = one(random, &[json!("FORWARD"), json!("IGNORE")]);
    }
    out
}

fn headers(random: &mut StdRng) -> Value {
    one(
        random,
        &[
            json!({"request": {"set": {"host": "set.example"}}}),
            json!({"request": {"add": {"x-added": "1"}, "remove": ["x-user"]}}),
            json!({"response": {"set": {"x-answered": "1"}}}),
        ],
    )
}

fn http(random: &mut StdRng) -> Value {
    let mut out = json!({});
    let conditions: Vec<Value> = (0..random.random_range(0..3))
        .map(|_| condition(random))
        .collect();
    if !conditions.is_empty() {
        out["match"] = Value::Array(conditions);
    }
    match random.random_range(0..10) {
        0 | 1 => out["redirect"] = redirect(random),
        2 => {
            out["directResponse"] =
                json!({"status": *[200, 404, 503].choose(random).unwrap(), "body": {"string": "x"}})
        }
        _ => {
            out["route"] = route(random);
            if random.random_bool(0.4) {
                out["rewrite"] = rewrite(random);
            }
            if random.random_bool(0.2) {
                out["mirrors"] = json!([{"destination": destination(random), "percentage": {"value": 50}}]);
            }
            if random.random_bool(0.2) {
                out["retries"] = json!({"attempts": 2, "retryOn": "5xx"});
            }
        }
    }
    if random.random_bool(0.15) {
        out["fault"] = fault(random);
    }
    if random.random_bool(0.3) {
        out["corsPolicy"] = cors(random);
    }
    if random.random_bool(0.2) {
        out["headers"] = headers(random);
    }
    out
}

/// A VirtualService for a host; some, of those that are checked by whoever takes them, are refused.
pub(crate) fn virtual_service(name: &str, host: &str, random: &mut StdRng) -> Value {
    let http: Vec<Value> = (0..random.random_range(1..6)).map(|_| http(random)).collect();
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "w"},
        "spec": {"hosts": [host], "gateways": ["mesh", "istio-system/edge"], "http": http},
    })
}

/// The versions of a host, and how its endpoints are chosen.
pub(crate) fn destination_rule(host: &str, random: &mut StdRng) -> Value {
    let balancers = [
        json!({"simple": "ROUND_ROBIN"}),
        json!({"simple": "RANDOM"}),
        json!({"consistentHash": {"httpHeaderName": "x-user"}}),
        json!({"consistentHash": {"useSourceIp": true, "maglev": {"tableSize": 101}}}),
    ];
    let subset = |name: &str, version: &str| json!({"name": name, "labels": {"version": version}});
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": host.replace('.', "-"), "namespace": "w"},
        "spec": {
            "host": host,
            "trafficPolicy": {"loadBalancer": one(random, &balancers)},
            "subsets": [subset("v1", "1"), subset("v2", "2"), subset("none", "9")],
        },
    })
}
