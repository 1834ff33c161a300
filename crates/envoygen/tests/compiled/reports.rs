//! What becomes of reports while Mixer is away.

use std::time::{Duration, Instant};

use crate::asked::lead;
use crate::mesh::{MESH, plaintext};
use crate::support::envoy::{request, run};
use crate::support::{generator, tables};

/// A metric that Mixer alone keeps.
const TOLD: &str = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: h, namespace: shop}, spec: {compiledAdapter: prometheus, params: {metrics: [{name: sizes, instance_name: sizes.instance.shop, kind: DISTRIBUTION, buckets: {explicitBuckets: {bounds: [1]}}}]}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: sizes, namespace: shop}, spec: {compiledTemplate: metric, params: {value: response.size | 0}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: told, namespace: shop}, spec: {actions: [{handler: h, instances: [sizes]}]}}
"#;

#[test]
fn what_does_not_fit_while_mixer_is_away_is_counted() {
    let mesh = MESH.replace("127.11.N.", "127.11.14.");
    let node = "sidecar~127.11.14.2~echo-v1.shop~shop.svc.cluster.local";
    // Nobody listens at port 1.
    let edit = |bootstrap: &mut _| {
        plaintext(bootstrap);
        lead(bootstrap, 1);
    };
    let output = tables(&generator(&[&mesh, TOLD]), node);
    let Some(running) = run(&output, "127.11.14.2:15000", edit) else {
        return;
    };
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        // There is no application: each is answered by the proxy, and reported.
        for _ in 0..50 {
            request("127.11.14.3:8080", "GET / HTTP/1.1", &[]).unwrap();
        }
        let page = running.page("/stats?filter=grpc_access_log", "logs_dropped: ");
        if !page.contains("logs_dropped: 0\n") {
            return;
        }
        assert!(Instant::now() < until, "{page}");
    }
}
