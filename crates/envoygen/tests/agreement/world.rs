//! A random mesh, and proxies of it that run.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoygen::{Output, type_url};
use prost::Message;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use simulate::{Call, Resources};

use crate::objects::{self, HOSTS};
use crate::support::{envoy, generator, tables};

/// The port of all services and of the gateway.
pub(crate) const PORT: u16 = 8080;
/// Last number of the address of each proxy.
pub(crate) const GATEWAY: u8 = 1;
pub(crate) const SIDECAR: u8 = 2;

/// Objects, and the applications behind them.
pub(crate) struct World {
    block: String,
    pub(crate) text: String,
    log: tempfile::TempDir,
}

/// A proxy: what it was told, and an Envoy that runs it.
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) address: String,
    pub(crate) resources: Resources,
    log: PathBuf,
    _envoy: envoy::Running,
}

/// Blocks of loopback addresses, one for each world of this process.
static BLOCKS: Mutex<u32> = Mutex::new(0);

pub(crate) fn block() -> String {
    let mut last = BLOCKS.lock().unwrap();
    *last += 1;
    let pid = std::process::id();
    format!("127.{}.{}", 150 + pid % 50, (pid / 50 + *last) % 250 + 1)
}

/// Whether an object is accepted.
pub(crate) fn is_good(object: &Value) -> bool {
    let parsed = config::parse("random.yaml", object.to_string().as_bytes(), "w");
    parsed.findings.iter().all(|finding| !finding.is_error())
}

impl World {
    pub(crate) fn new(random: &mut StdRng) -> World {
        let block = block();
        let log = tempfile::tempdir().unwrap();
        let mut objects = fixed(&block);
        for at in 0..HOSTS {
            let host = format!("h{at}.example");
            objects.push(service(&block, &host));
            objects.push(objects::destination_rule(&host, random));
            objects.push(routes(&format!("h{at}"), &host, random));
        }
        objects.push(routes("wild", "*.wild.example", random));
        for version in [11, 12] {
            envoy::echo(&format!("{block}.{version}:8000"));
        }
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        World {
            block,
            text: documents.join("\n---\n"),
            log,
        }
    }

    /// Runs a proxy; none where there is no Envoy.
    pub(crate) fn client(&self, number: u8) -> Option<Client> {
        let address = format!("{}.{number}", self.block);
        let (name, node, log) = match number {
            GATEWAY => (
                "gateway",
                format!("router~{address}~edge.istio-system~istio-system.svc.cluster.local"),
                "router",
            ),
            _ => (
                "sidecar",
                format!("sidecar~{address}~client.w~w.svc.cluster.local"),
                "sidecar",
            ),
        };
        let log = self.log.path().join(log);
        // Each proxy logs to a file of its own.
        let text = self.text.replace("LOGFILE", log.to_str().unwrap());
        let output = named(tables(&generator(&[&text]), &node));
        let mut resources = Resources::default();
        for resource in &output.resources {
            resources.add(resource.type_url, &resource.bytes).unwrap();
        }
        let running = envoy::run(&output, &format!("{}.{}:8001", self.block, 250 - number), |_| ())?;
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((address.as_str(), PORT)).is_err() {
            assert!(Instant::now() < until, "nobody listens at {address}:{PORT}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Client {
            name,
            address,
            resources,
            log,
            _envoy: running,
        })
    }
}

impl Client {
    /// Sends a request; gives the whole answer.
    pub(crate) fn send(&self, call: &Call) -> String {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nhost: {}\r\n",
            call.method, call.path, call.host
        );
        for (name, value) in &call.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect((self.address.as_str(), PORT)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
        let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
        while !envoy::is_whole(&answer) {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                count => answer.extend_from_slice(&buffer[..count]),
            }
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// What the access log says of each request.
    pub(crate) fn logged(&self, count: usize) -> BTreeMap<usize, String> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines = whole.lines().filter_map(|line| line.split_once(' '));
            let found: BTreeMap<usize, String> = lines
                .filter_map(|(case, rest)| Some((case.parse().ok()?, rest.to_owned())))
                .collect();
            if found.len() == count {
                return found;
            }
            assert!(
                Instant::now() < until,
                "{} of {count} requests are in the log",
                found.len()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A VirtualService that is accepted.
fn routes(name: &str, host: &str, random: &mut StdRng) -> Value {
    for _ in 0..200 {
        let object = objects::virtual_service(name, host, random);
        if is_good(&object) {
            return object;
        }
    }
    panic!("no random VirtualService is accepted");
}

/// The mesh's settings, the proxies, and the gateway's server.
fn fixed(block: &str) -> Vec<Value> {
    let workload = |name: &str, namespace: &str, number: u8, app: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"address": format!("{block}.{number}"), "serviceAccount": name, "labels": {"app": app}},
        })
    };
    vec![
        json!({
            "apiVersion": "mesh.istio.io/v1alpha1",
            "kind": "MeshConfig",
            "metadata": {"name": "istio", "namespace": "istio-system"},
            "spec": {
                "accessLogFile": "LOGFILE",
                "accessLogFormat": "%REQ(X-CASE)% %ROUTE_NAME% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_HOST%\n",
            },
        }),
        workload("edge", "istio-system", GATEWAY, "edge"),
        workload("client", "w", SIDECAR, "client"),
        json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Gateway",
            "metadata": {"name": "edge", "namespace": "istio-system"},
            "spec": {"selector": {"app": "edge"}, "servers": [{
                "port": {"number": PORT, "protocol": "HTTP", "name": "http"},
                "bind": format!("{block}.{GATEWAY}"),
                "hosts": ["*"],
            }]},
        }),
    ]
}

/// A service of two versions.
fn service(block: &str, host: &str) -> Value {
    let endpoint = |version: u8| json!({"address": format!("{block}.1{version}"), "labels": {"version": version.to_string()}});
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": host.replace('.', "-"), "namespace": "w"},
        "spec": {
            "hosts": [host],
            "location": "MESH_EXTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": PORT, "name": "http", "protocol": "HTTP", "targetPort": 8000}],
            "endpoints": [endpoint(1), endpoint(2)],
        },
    })
}

/// The tables with a name for each route: its virtual host and place.
fn named(mut output: Output) -> Output {
    let routes = output
        .resources
        .iter_mut()
        .filter(|resource| resource.type_url == type_url::ROUTES);
    for resource in routes {
        let mut decoded = RouteConfiguration::decode(resource.bytes.clone()).unwrap();
        for host in &mut decoded.virtual_hosts {
            for (at, route) in host.routes.iter_mut().enumerate() {
                route.name = format!("{}#{at}", host.name);
            }
        }
        resource.bytes = decoded.encode_to_vec().into();
    }
    output
}
