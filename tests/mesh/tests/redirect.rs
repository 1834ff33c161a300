//! Redirection as in a pod: an application, its Envoy and `argosy-agent istio-iptables` in a network namespace of their own, and a
//! neighbour in another. Each of iptables and nft, each of REDIRECT and TPROXY.
//!
//! It needs root; without, it says so on standard error and is left out. Under `CI=true` that is an error.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use testkit::wait::until;
use testkit::{Process, Rundir, Spec, bins};

const POD: &str = "10.77.0.2";
const WORLD: &str = "10.77.0.1";
const BOUND: Duration = Duration::from_secs(90);
/// The proxy's user.
const PROXY: u32 = 1337;

const OBJECTS: &str = "
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: catalog-v1, namespace: shop}
spec:
  address: 10.77.0.2
  serviceAccount: catalog
  labels: {app: catalog, security.istio.io/tlsMode: istio}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: catalog, namespace: shop}
spec:
  hosts: [catalog.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8080, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: catalog}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: world, namespace: shop}
spec:
  hosts: [world.example]
  resolution: STATIC
  ports: [{number: 9000, name: http, protocol: HTTP}]
  endpoints: [{address: 10.77.0.1}]
";

/// Not a test of its own: what a process in a namespace does, as the variable says.
#[test]
fn role() {
    let Ok(role) = std::env::var("REDIRECT_TEST_ROLE") else {
        return;
    };
    match role.split_whitespace().collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address),
        ["ask", address, host, path] => ask(address, host, path),
        _ => panic!("{role}"),
    }
}

/// Answers each request with the address that it came from.
fn serve(address: &str) {
    for stream in TcpListener::bind(address).unwrap().incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut request = Vec::new();
            let mut one = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut one).is_ok_and(|read| read == 1) {
                request.push(one[0]);
            }
            let body = format!("from={}", stream.peer_addr().unwrap().ip());
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            _ = stream.write_all(answer.as_bytes());
        });
    }
}

/// Prints the answer.
fn ask(address: &str, host: &str, path: &str) {
    let mut stream = TcpStream::connect_timeout(&address.parse().unwrap(), Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    _ = stream.read_to_string(&mut answer);
    println!("<<{answer}>>");
}

fn succeeds(command: &str) -> String {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn run(command: &str) -> Output {
    let mut words = command.split(' ');
    let program = words.next().unwrap();
    Command::new(program)
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Two network namespaces and a wire between them.
struct Wire {
    pod: String,
    world: String,
}

impl Wire {
    fn new() -> Self {
        let id = std::process::id();
        let wire = Self {
            pod: format!("argosy-pod-{id}"),
            world: format!("argosy-world-{id}"),
        };
        for namespace in [&wire.pod, &wire.world] {
            succeeds(&format!("ip netns add {namespace}"));
            succeeds(&format!("ip -n {namespace} link set lo up"));
        }
        let (pod, world) = (&wire.pod, &wire.world);
        succeeds(&format!(
            "ip -n {pod} link add eth0 type veth peer name eth0 netns {world}"
        ));
        for (namespace, address) in [(pod, POD), (world, WORLD)] {
            succeeds(&format!("ip -n {namespace} addr add {address}/24 dev eth0"));
            succeeds(&format!("ip -n {namespace} link set eth0 up"));
        }
        wire
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for namespace in [&self.pod, &self.world] {
            run(&format!("ip netns del {namespace}"));
        }
    }
}

struct Ground {
    // In this order they end.
    running: Vec<Process>,
    wire: Wire,
    dir: Rundir,
}

impl Ground {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program in a namespace.
    fn within(&self, namespace: &str, name: &str, program: &Path) -> Spec {
        let spec = Spec::new(name, "ip", self.dir.path())
            .arg("netns")
            .arg("exec")
            .arg(namespace);
        spec.arg(program)
    }

    fn start(&mut self, spec: &Spec) {
        self.running.push(spec.start().unwrap());
    }

    /// This very program in a namespace, in another role.
    fn serves(&mut self, namespace: &str, name: &str, address: &str) {
        let own = std::env::current_exe().unwrap();
        let spec = self
            .within(namespace, name, &own)
            .arg("--exact")
            .arg("role")
            .arg("--nocapture");
        self.start(&spec.env("REDIRECT_TEST_ROLE", format!("serve {address}")));
    }

    /// The answer to a request from a namespace, as a user.
    fn answer(&self, namespace: &str, user: u32, address: &str, host: &str, path: &str) -> String {
        // Where that user may read it.
        let own = self.path("self");
        let output = Command::new("ip")
            .args(["netns", "exec", namespace, "setpriv", "--clear-groups"])
            .args([format!("--reuid={user}"), format!("--regid={user}")])
            .arg(own)
            .args(["--exact", "role", "--nocapture"])
            .env("REDIRECT_TEST_ROLE", format!("ask {address} {host} {path}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let answer = text.split_once("<<").and_then(|(_, rest)| rest.rsplit_once(">>"));
        answer.map_or_else(String::new, |(answer, _)| answer.to_owned())
    }
}

/// A copy that every user may read and run.
fn publish(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    std::fs::set_permissions(to, PermissionsExt::from_mode(0o755)).unwrap();
}

/// The mesh's control plane in the pod's namespace, the application, and a server outside.
async fn ground() -> Ground {
    let dir = Rundir::new("argosy-redirect").unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let mut ground = Ground {
        running: Vec::new(),
        wire: Wire::new(),
        dir,
    };
    let (pod, world) = (ground.wire.pod.clone(), ground.wire.world.clone());
    publish(&std::env::current_exe().unwrap(), &ground.path("self"));
    publish(&bins::find("argosy-agent").unwrap(), &ground.path("argosy-agent"));
    publish(&testkit::envoy::binary().unwrap(), &ground.path("envoy"));
    let argosy = bins::find("argosy").unwrap();
    let folder = ground.path("mesh");
    succeeds(&format!("{} init {}", argosy.display(), folder.display()));
    for file in ["gateway", "sidecars", "traffic", "security", "mixer", "services"] {
        std::fs::remove_file(folder.join(format!("{file}.yaml"))).unwrap();
    }
    std::fs::write(folder.join("workloads.yaml"), OBJECTS).unwrap();
    publish(
        &folder.join("identity/ca/root-cert.pem"),
        &ground.path("root.pem"),
    );
    let token = ground.path("token");
    std::fs::copy(folder.join("identity/tokens/shop/catalog.jwt"), &token).unwrap();
    chown(&token, Some(PROXY), Some(PROXY)).unwrap();
    let podinfo = ground.dir.dir("podinfo").unwrap();
    std::fs::write(podinfo.join("labels"), "app=\"catalog\"\n").unwrap();
    std::fs::write(podinfo.join("annotations"), "").unwrap();
    let run = ground
        .within(&pod, "argosy", &argosy)
        .arg("run")
        .path("--config", &folder);
    ground.start(&run);
    ground.serves(&pod, "app", "0.0.0.0:8080");
    ground.serves(&world, "outside", "10.77.0.1:9000");
    ground
}

/// The agent, as the proxy's container runs it.
fn agent(ground: &Ground, mode: &str) -> Spec {
    // TPROXY needs rights that other users cannot have without the container's help; then the group tells the proxy.
    let user = if mode == "TPROXY" { 0 } else { PROXY };
    let state = ground.dir.dir(&format!("state-{mode}")).unwrap();
    chown(&state, Some(user), Some(PROXY)).unwrap();
    ground
        .within(&ground.wire.pod, "agent", Path::new("setpriv"))
        .arg("--clear-groups")
        .arg(format!("--reuid={user}"))
        .arg(format!("--regid={PROXY}"))
        .arg(ground.path("argosy-agent"))
        .flag("--workload", "shop/catalog-v1")
        .flag("--address", POD)
        .path("--pod-info", ground.path("podinfo"))
        .flag("--service-account", "catalog")
        .path("--ca-root", ground.path("root.pem"))
        .path("--token", ground.path("token"))
        .path("--envoy", ground.path("envoy"))
        .path("--state-dir", state)
        .flag("--envoy-concurrency", 1)
        .env("ISTIO_META_INTERCEPTION_MODE", mode)
        .env("PROXY_CONFIG", r#"{"terminationDrainDuration": "1s"}"#)
}

fn redirect(ground: &Ground, mode: &str, nft: bool, more: &str) {
    let agent = ground.path("argosy-agent");
    let native = if nft { " --native-nftables" } else { "" };
    let ports = "-d 15090,15021,15020 -u 1337";
    let flags = format!("-m {mode} -i * -b * {ports}{native}{more}");
    succeeds(&format!(
        "ip netns exec {} {} istio-iptables {flags}",
        ground.wire.pod,
        agent.display()
    ));
}

fn through_envoy(answer: &str) -> bool {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    answer.starts_with("HTTP/1.1 200") && head.to_lowercase().contains("envoy")
}

fn past_envoy(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200") && !answer.to_lowercase().contains("envoy")
}

async fn check(ground: &mut Ground, mode: &str, nft: bool) {
    let (pod, world) = (ground.wire.pod.clone(), ground.wire.world.clone());
    let what = format!("{mode} by {}", if nft { "nft" } else { "iptables" });
    redirect(ground, mode, nft, "");
    // A container that is started again sets up the same once more.
    redirect(ground, mode, nft, "");
    let mut agent = agent(ground, mode).start().unwrap();
    let look = || {
        let answer = ground.answer(&world, 0, "10.77.0.2:15021", "x", "/healthz/ready");
        std::future::ready(if answer.starts_with("HTTP/1.1 200") {
            Ok(())
        } else {
            Err(answer)
        })
    };
    if let Err(error) = until(&format!("{what}: the proxy"), BOUND, look).await {
        panic!("{error:#}\n{}", agent.tail());
    }

    let inbound = ground.answer(&world, 0, "10.77.0.2:8080", "catalog", "/");
    assert!(
        through_envoy(&inbound),
        "{what}: incoming: {inbound}\n{}",
        agent.tail()
    );
    let from = if mode == "TPROXY" {
        "from=10.77.0.1"
    } else {
        "from=127.0.0.6"
    };
    assert!(inbound.contains(from), "{what}: {inbound}");
    let outbound = ground.answer(&pod, 0, "10.77.0.1:9000", "world.example", "/");
    assert!(
        through_envoy(&outbound),
        "{what}: outgoing: {outbound}\n{}",
        agent.tail()
    );
    let own = ground.answer(&pod, PROXY, "10.77.0.1:9000", "world.example", "/");
    assert!(past_envoy(&own), "{what}: the proxy's own: {own}");
    let itself = ground.answer(&pod, 0, "10.77.0.2:8080", "catalog", "/");
    assert!(
        past_envoy(&itself),
        "{what}: the application's to itself: {itself}"
    );
    let local = ground.answer(&pod, 0, "127.0.0.1:8080", "catalog", "/");
    assert!(past_envoy(&local), "{what}: on loopback: {local}");

    agent.stop(BOUND).await.unwrap();
    let refused = ground.answer(&world, 0, "10.77.0.2:8080", "catalog", "/");
    assert!(
        refused.is_empty(),
        "{what}: without the proxy nobody answers: {refused}"
    );
    redirect(ground, mode, nft, " --cleanup-only");
    let direct = ground.answer(&world, 0, "10.77.0.2:8080", "catalog", "/");
    assert!(
        past_envoy(&direct) && direct.contains("from=10.77.0.1"),
        "{what}: taken away: {direct}"
    );
    let left = succeeds(&format!("ip netns exec {pod} nft list ruleset"));
    assert!(!left.contains("ISTIO_"), "{what}: {left}");
}

fn is_possible() -> bool {
    let missing = match () {
        () if run("id -u").stdout != b"0\n" => "it needs root",
        () if Command::new("nft").arg("--version").output().is_err() => "nft is not installed",
        () if Command::new("iptables-restore")
            .arg("--version")
            .output()
            .is_err() =>
        {
            "iptables is not installed"
        }
        () => return true,
    };
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
    _ = writeln!(
        std::io::stderr(),
        "The test of redirection is left out: {missing}"
    );
    false
}

#[tokio::test]
async fn traffic_goes_through_the_proxy_and_its_own_does_not() {
    if !is_possible() {
        return;
    }
    let mut ground = ground().await;
    for mode in ["REDIRECT", "TPROXY"] {
        for nft in [false, true] {
            check(&mut ground, mode, nft).await;
        }
    }
}
