//! Gateways ask about what they send: by the service that the route leads to, and only where one of its rules may hold.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use policy::SENT;

use crate::asked::{Asked, lead};
use crate::support::envoy::{Running, echo, request, run};
use crate::support::{generator, tables};

const MESH: &str = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: edge, namespace: edge}
spec: {address: 127.11.12.1, serviceAccount: edge, labels: {istio: edge}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  selector: {istio: edge}
  servers:
  - {port: {number: 8080, protocol: HTTP, name: http}, bind: 127.11.12.1, hosts: ["*"]}
  - {port: {number: 9001, protocol: TCP, name: tcp-1}, bind: 127.11.12.1, hosts: ["*"]}
  - {port: {number: 9002, protocol: TCP, name: tcp-2}, bind: 127.11.12.1, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: shop}
spec: {hosts: [legacy.example], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}], endpoints: [{address: 127.11.12.2}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: free, namespace: free}
spec: {hosts: [free.example], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}], endpoints: [{address: 127.11.12.2}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all, namespace: edge}
spec:
  hosts: ["*"]
  gateways: [edge/edge]
  http:
  - {match: [{uri: {exact: /legacy}}], route: [{destination: {host: legacy.example}}]}
  - {match: [{uri: {exact: /away}}], redirect: {uri: /legacy}}
  - match: [{uri: {exact: /both}}]
    route: [{destination: {host: legacy.example}, weight: 99}, {destination: {host: free.example}, weight: 1}]
  - {route: [{destination: {host: free.example}}]}
  tcp:
  - {match: [{port: 9001}], route: [{destination: {host: legacy.example}}]}
  - {match: [{port: 9002}], route: [{destination: {host: free.example}}]}
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: deny, namespace: shop}, spec: {compiledAdapter: denier, params: {}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: one, namespace: shop}, spec: {compiledTemplate: checknothing}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: deny-http, namespace: shop}
spec: {match: 'request.headers["x-user"] == "mallory"', actions: [{handler: deny, instances: [one]}]}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: deny-tcp, namespace: shop}
spec: {match: 'context.protocol == "tcp"', actions: [{handler: deny, instances: [one]}]}
"#;

fn start() -> Option<(Asked, Running)> {
    let (asked, port) = Asked::serve(Duration::ZERO);
    let node = "router~127.11.12.1~edge.edge~edge.svc.cluster.local";
    let output = tables(&generator(&[MESH]), node);
    let running = run(&output, "127.11.12.1:15000", |bootstrap| lead(bootstrap, port))?;
    echo("127.11.12.2:8000");
    Some((asked, running))
}

#[test]
fn a_gateway_asks_by_the_service_that_its_route_leads_to() {
    let Some((asked, _running)) = start() else { return };
    let get = |path: &str, user: &str| {
        let user = format!("x-user: {user}");
        let headers = [user.as_str(), "cookie: c", "host: free.example"];
        let answer = request("127.11.12.1:8080", &format!("GET {path} HTTP/1.1"), &headers).unwrap();
        let status: u16 = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let about = asked.take().into_iter().map(|(_, message)| {
            let attributes = message.attributes.unwrap();
            let read: Vec<String> = attributes
                .request
                .unwrap()
                .http
                .unwrap()
                .headers
                .into_keys()
                .collect();
            assert!(
                read.contains(&"x-user".to_owned()) && !read.contains(&"cookie".to_owned()),
                "{read:?}"
            );
            attributes.context_extensions[SENT].clone()
        });
        (status, about.collect::<Vec<_>>())
    };
    // Neither the host nor a header that a client writes says which service it is about.
    let legacy = vec!["shop/legacy.example deny-http.shop".to_owned()];
    assert_eq!(get("/legacy", "jason"), (200, legacy.clone()));
    assert_eq!(get("/legacy", "mallory"), (403, legacy.clone()));
    assert_eq!(get("/free", "mallory"), (200, vec![]));
    assert_eq!(get("/away", "mallory"), (301, vec![]));
    let both: Vec<_> = (0..5).map(|_| get("/both", "mallory")).collect();
    assert!(both.contains(&(403, legacy)), "{both:?}");
    connections(&asked);
}

/// What connections to the gateway get.
fn connections(asked: &Asked) {
    let echoed = |port: u16| {
        let mut stream = TcpStream::connect(("127.11.12.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    assert!(echoed(9002).starts_with("HTTP/1.1 200"));
    assert!(asked.take().is_empty());
    assert_eq!(echoed(9001), "");
    let about: Vec<_> = asked.take().into_iter().map(|(sent, _)| sent.unwrap()).collect();
    assert_eq!(about, ["shop/legacy.example deny-tcp.shop"]);
}

/// A rule that Mixer alone can decide on, at a sidecar.
const REMOTE: &str = r#"
---
{apiVersion: config.istio.io/v1alpha2, kind: handler, metadata: {name: deny, namespace: shop}, spec: {compiledAdapter: denier, params: {}}}
---
{apiVersion: config.istio.io/v1alpha2, kind: instance, metadata: {name: one, namespace: shop}, spec: {compiledTemplate: checknothing}}
---
{apiVersion: config.istio.io/v1alpha2, kind: rule, metadata: {name: there, namespace: shop}, spec: {match: 'source.labels["app"] == "x"', actions: [{handler: deny, instances: [one]}]}}
"#;

/// Envoy would cut a slow answer off and ask again, and each call of a quota is a charge.
#[test]
fn a_slow_answer_is_waited_for() {
    let mesh = crate::mesh::MESH.replace("127.11.N.", "127.11.13.");
    let (asked, port) = Asked::serve(Duration::from_millis(500));
    let node = "sidecar~127.11.13.2~echo-v1.shop~shop.svc.cluster.local";
    let edit = |bootstrap: &mut _| {
        crate::mesh::plaintext(bootstrap);
        lead(bootstrap, port);
    };
    let Some(_running) = run(
        &tables(&generator(&[&mesh, REMOTE]), node),
        "127.11.13.2:15000",
        edit,
    ) else {
        return;
    };
    echo("127.11.13.2:8080");
    // A machine that is busy may be slower than the answer.
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = request("127.11.13.3:8080", "GET / HTTP/1.1", &[]).unwrap();
        let calls = asked.take().len();
        if calls == 1 && answer.starts_with("HTTP/1.1 200") {
            return;
        }
        assert!(Instant::now() < until, "{calls} calls for {answer}");
    }
}
