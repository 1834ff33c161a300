//! How long the admission webhook takes for a review, without sockets: small and large objects, good and bad ones.
//!
//! The aim is 500 reviews a second on one core with the slowest hundredth below 5 ms: 2 ms of processor time each.

#![allow(clippy::unwrap_used, reason = "a benchmark may fail loudly")]

use criterion::{Criterion, criterion_group, criterion_main};
use galley::webhook::review;
use serde_json::{Value, json};

fn body(object: &Value) -> Vec<u8> {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "UPDATE", "name": "reviews", "namespace": "shop",
        "kind": {"group": "networking.istio.io", "version": "v1", "kind": "VirtualService"},
        "object": object, "oldObject": object,
    }});
    serde_json::to_vec(&review).unwrap()
}

fn routes(count: usize, regex: &str) -> Value {
    let route = |number: usize| {
        json!({
            "name": format!("route-{number}"),
            "match": [{"uri": {"prefix": format!("/api/v{number}")}, "headers": {"x-user": {"regex": regex}}}],
            "retries": {"attempts": 3, "perTryTimeout": "2s"},
            "route": [
                {"destination": {"host": "reviews", "subset": "v1"}, "weight": 90},
                {"destination": {"host": "reviews", "subset": "v2"}, "weight": 10},
            ],
        })
    };
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "reviews", "namespace": "shop", "generation": 3},
        "spec": {"hosts": ["reviews"], "http": (0..count).map(route).collect::<Vec<_>>()},
    })
}

fn reviews(criterion: &mut Criterion) {
    for (name, object) in [
        ("review 2 routes", routes(2, "a.*")),
        ("review 2 bad routes", routes(2, "(")),
        ("review 200 routes", routes(200, "a.*")),
    ] {
        let body = body(&object);
        criterion.bench_function(name, |bencher| bencher.iter(|| review(&body).unwrap()));
    }
}

criterion_group!(benches, reviews);
criterion_main!(benches);
