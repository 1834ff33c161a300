//! How long one object takes from its YAML to a checked object, by kind. What the folder, the webhook and `argosy validate`
//! do for each object is this.

#![allow(missing_docs, reason = "a benchmark may fail loudly")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// An ordinary object of each kind.
const OBJECTS: [(&str, &str); 12] = [
    (
        "VirtualService",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: shop}\nspec:\n  hosts: [web, web.example.com]\n  gateways: [mesh, shop/front]\n  http:\n  - name: beta\n    match: [{uri: {prefix: /api}, headers: {x-user: {regex: '^(a|b).*'}}}]\n    retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx'}\n    timeout: 10s\n    route:\n    - {destination: {host: web, subset: v1}, weight: 90}\n    - {destination: {host: web, subset: v2}, weight: 10}\n  - route: [{destination: {host: web, subset: v1}}]\n",
    ),
    (
        "DestinationRule",
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: web, namespace: shop}\nspec:\n  host: web\n  trafficPolicy:\n    loadBalancer: {simple: LEAST_REQUEST}\n    connectionPool: {tcp: {maxConnections: 100}, http: {http2MaxRequests: 1000}}\n    outlierDetection: {consecutive5xxErrors: 5, interval: 10s}\n  subsets:\n  - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}\n",
    ),
    (
        "Gateway",
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: front, namespace: shop}\nspec:\n  selector: {istio: ingressgateway}\n  servers:\n  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com'], tls: {httpsRedirect: true}}\n  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*.example.com'], tls: {mode: SIMPLE, credentialName: front}}\n",
    ),
    (
        "ServiceEntry",
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: out, namespace: shop}\nspec:\n  hosts: [out.example.com]\n  location: MESH_EXTERNAL\n  resolution: STATIC\n  ports: [{number: 443, name: tls, protocol: TLS}]\n  endpoints:\n  - {address: 10.0.0.1, labels: {app: out}}\n  - {address: 10.0.0.2, labels: {app: out}}\n",
    ),
    (
        "Sidecar",
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: web, namespace: shop}\nspec:\n  workloadSelector: {labels: {app: web}}\n  egress: [{hosts: ['./*', istio-system/*]}]\n",
    ),
    (
        "EnvoyFilter",
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: lua, namespace: shop}\nspec:\n  configPatches:\n  - applyTo: HTTP_FILTER\n    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}\n    patch:\n      operation: INSERT_BEFORE\n      value:\n        name: envoy.filters.http.lua\n        typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, default_source_code: {inline_string: 'function envoy_on_request(h) end'}}\n",
    ),
    (
        "AuthorizationPolicy",
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  action: ALLOW\n  rules:\n  - from: [{source: {principals: [cluster.local/ns/shop/sa/front], namespaces: [shop]}}]\n    to: [{operation: {methods: [GET, POST], paths: [/api/*], ports: ['80']}}]\n    when: [{key: 'request.headers[x-user]', values: [a, b]}]\n",
    ),
    (
        "RequestAuthentication",
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  jwtRules: [{issuer: me@example.com, jwksUri: 'https://example.com/keys', audiences: [web]}]\n",
    ),
    (
        "Telemetry",
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: web, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  accessLogging: [{providers: [{name: envoy}], filter: {expression: response.code >= 400}}]\n",
    ),
    (
        "rule",
        "apiVersion: config.istio.io/v1alpha2\nkind: rule\nmetadata: {name: deny, namespace: istio-system}\nspec:\n  match: destination.labels[\"app\"] == \"web\" && source.namespace != \"shop\"\n  actions: [{handler: denyall, instances: [nothing]}]\n",
    ),
    (
        "Service",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec: {selector: {app: web}, clusterIP: 10.1.2.3, ports: [{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 81}]}\n",
    ),
    (
        "Pod",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web-1, namespace: shop, labels: {app: web, version: v1}}\nspec:\n  serviceAccountName: web\n  nodeName: node-1\n  containers: [{name: web, image: web, ports: [{containerPort: 8080, name: http}]}, {name: istio-proxy, image: proxy}]\nstatus: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}\n",
    ),
];

fn validation(c: &mut Criterion) {
    let mut group = c.benchmark_group("validation");
    for (kind, yaml) in OBJECTS {
        let parsed = config::parse("x.yaml", yaml.as_bytes(), "default");
        assert!(
            parsed.objects.len() == 1 && !parsed.has_errors(),
            "{kind}: {:?}",
            parsed.findings
        );
        group.throughput(Throughput::Bytes(yaml.len() as u64));
        group.bench_function(kind, |b| {
            b.iter(|| black_box(config::parse("x.yaml", black_box(yaml.as_bytes()), "default")));
        });
    }
    group.finish();
}

criterion_group!(benches, validation);
criterion_main!(benches);
