//! Connections without requests, once by the name that TLS asks for and once by port: random routes, and random connections at a
//! gateway. Which endpoint takes each must be one that the walk names, and none where it names none.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};
use simulate::{Call, Protocol, Resources, Tls, Verdict};

use crate::support::{envoy, generator, tables};
use crate::world::{block, is_good};

/// How many services there are: `t0.example`, …
const SERVICES: u8 = 4;
const PASSTHROUGH: u16 = 8443;
const BYTES: u16 = 8444;
/// What routes ask for, and what clients ask for.
const WANTED: [&str; 5] = [
    "a.tls.example",
    "b.tls.example",
    "*.b.tls.example",
    "*.tls.example",
    "c.tls.example",
];
const ASKED: [&str; 7] = [
    "a.tls.example",
    "A.TLS.example",
    "b.tls.example",
    "x.b.tls.example",
    "c.tls.example",
    "y.x.tls.example",
    "other.example",
];
const CONNECTIONS: usize = 200;

/// One service, or several with weights, of which one may be 0.
fn route(random: &mut StdRng) -> Value {
    let mut all: Vec<u8> = (0..SERVICES).collect();
    all.shuffle(random);
    let count = *[1, 1, 2, 3].choose(random).unwrap();
    let chosen = all.iter().take(count).enumerate();
    let weighted = chosen.map(|(at, service)| {
        let weight = if at == 0 {
            50
        } else {
            *[0, 20, 50].choose(random).unwrap()
        };
        let destination = json!({"host": format!("t{service}.example"), "port": {"number": 9000}});
        json!({"destination": destination, "weight": weight})
    });
    Value::Array(weighted.collect())
}

fn virtual_service(random: &mut StdRng) -> Value {
    let mut names: Vec<&str> = WANTED.to_vec();
    names.shuffle(random);
    let mut tls = Vec::new();
    while let Some(name) = names.pop() {
        let mut own = vec![name];
        if random.random_bool(0.3) {
            own.extend(names.pop());
        }
        // Some names are left without a route.
        if random.random_bool(0.8) {
            tls.push(json!({"match": [{"port": PASSTHROUGH, "sniHosts": own}], "route": route(random)}));
        }
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "connections", "namespace": "w"},
        "spec": {
            "hosts": ["tls.example", "*.tls.example"],
            "gateways": ["istio-system/edge"],
            "tls": tls,
            "tcp": [{"match": [{"port": BYTES}], "route": route(random)}],
        },
    })
}

fn objects(block: &str, random: &mut StdRng) -> Vec<Value> {
    let server = |port: u16, protocol: &str, tls: Option<Value>| {
        let port = json!({"number": port, "protocol": protocol, "name": protocol.to_lowercase()});
        let mut out =
            json!({"port": port, "bind": format!("{block}.1"), "hosts": ["*.tls.example", "tls.example"]});
        out["tls"] = tls.unwrap_or_default();
        out
    };
    let passthrough = Some(json!({"mode": "PASSTHROUGH"}));
    let mut all = vec![
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": "edge", "namespace": "istio-system"},
            "spec": {"address": format!("{block}.1"), "serviceAccount": "edge", "labels": {"app": "edge"}},
        }),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "istio-system"},
            "spec": {"selector": {"app": "edge"}, "servers": [
                server(PASSTHROUGH, "TLS", passthrough),
                server(BYTES, "TCP", None),
            ]},
        }),
        virtual_service(random),
    ];
    all.extend((0..SERVICES).map(|service| {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": format!("t{service}"), "namespace": "w"},
            "spec": {
                "hosts": [format!("t{service}.example")],
                "location": "MESH_EXTERNAL",
                "resolution": "STATIC",
                "ports": [{"number": 9000, "name": "tcp", "protocol": "TCP", "targetPort": 8000}],
                "endpoints": [{"address": format!("{block}.2{service}")}],
            },
        })
    }));
    all
}

/// Says to each connection which address it is, once it has heard something.
fn banner(address: String) {
    let listener = TcpListener::bind(&address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), address) = (stream, address.clone()) else {
                continue;
            };
            std::thread::spawn(move || {
                _ = stream.read(&mut [0; 4096]);
                _ = stream.write_all(format!("{address}\n").as_bytes());
            });
        }
    });
}

/// A ClientHello that asks for a name (RFC 8446, section 4.1.2; RFC 6066, section 3).
fn hello(name: &str) -> Vec<u8> {
    let long = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let names = long(&[&[0], long(name.as_bytes()).as_slice()].concat());
    let extension = [&[0, 0], long(&names).as_slice()].concat();
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    body.extend(long(&extension));
    let message = [&[1, 0], long(&body).as_slice()].concat();
    [&[22, 3, 1], long(&message).as_slice()].concat()
}

/// A connection, and its first bytes.
fn random_call(address: &str, random: &mut StdRng) -> (Call, Vec<u8>) {
    let call = Call {
        address: address.parse().unwrap(),
        port: PASSTHROUGH,
        protocol: Protocol::Tcp,
        ..Call::default()
    };
    match random.random_range(0..10) {
        0..2 => (Call { port: BYTES, ..call }, b"bytes".to_vec()),
        2 => (call, b"no TLS at all".to_vec()),
        _ => {
            let name = *ASKED.choose(random).unwrap();
            let tls = Call {
                tls: Tls::Tls,
                sni: Some(name.to_owned()),
                ..call
            };
            (tls, hello(name))
        }
    }
}

/// The address that takes a connection; none where it is closed.
fn taken_by(call: &Call, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect((call.address, call.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 256]);
    while !said.ends_with(b"\n") {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{call:?}: {error}"),
        }
    }
    Some(String::from_utf8(said).unwrap().trim().to_owned()).filter(|said| !said.is_empty())
}

/// The endpoints that may take it: those of the cluster, or of each that has a weight.
fn possible(verdict: &Verdict, block: &str) -> BTreeSet<String> {
    if verdict.error.is_some() {
        return BTreeSet::new();
    }
    let weighted = verdict.clusters.iter().filter(|(_, weight)| *weight > 0);
    let names = match &verdict.cluster {
        Some(only) => vec![only.as_str()],
        None => weighted.map(|(name, _)| name.as_str()).collect(),
    };
    let service = |name: &str| name.rsplit_once("||t")?.1.split('.').next().map(str::to_owned);
    names
        .into_iter()
        .map(|name| format!("{block}.2{}:8000", service(name).expect(name)))
        .collect()
}

/// Runs one gateway; gives how many connections met what, none where there is no Envoy.
pub(crate) fn compare(seed: u64, random: &mut StdRng) -> Option<BTreeMap<&'static str, usize>> {
    let block = block();
    let address = format!("{block}.1");
    (0..SERVICES).for_each(|service| banner(format!("{block}.2{service}:8000")));
    let objects = objects(&block, random);
    assert!(objects.iter().all(is_good), "{objects:#?}");
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    let text = documents.join("\n---\n");
    let node = format!("router~{address}~edge.istio-system~istio-system.svc.cluster.local");
    let output = tables(&generator(&[&text]), &node);
    let mut resources = Resources::default();
    for resource in &output.resources {
        resources.add(resource.type_url, &resource.bytes).unwrap();
    }
    let _envoy = envoy::run(&output, &format!("{block}.249:8001"), |_| ())?;
    let until = Instant::now() + Duration::from_secs(30);
    while [PASSTHROUGH, BYTES]
        .iter()
        .any(|port| TcpStream::connect((address.as_str(), *port)).is_err())
    {
        assert!(Instant::now() < until, "nobody listens at {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut met = BTreeMap::new();
    for _ in 0..CONNECTIONS {
        let (call, bytes) = random_call(&address, random);
        let verdict = resources.walk(&call);
        let (seen, possible) = (taken_by(&call, &bytes), possible(&verdict, &block));
        let agrees = match &seen {
            Some(endpoint) => possible.contains(endpoint),
            None => possible.is_empty(),
        };
        assert!(
            agrees,
            "seed {seed}: {call:?}\nEnvoy: {seen:?}\nsimulated: {verdict:#?}\n{text}"
        );
        let kind = match (possible.len(), call.tls) {
            (0, _) => "nobody",
            (1, Tls::Plaintext) => "bytes",
            (1, _) => "by name",
            _ => "one of several by weight",
        };
        *met.entry(kind).or_default() += 1;
    }
    Some(met)
}
