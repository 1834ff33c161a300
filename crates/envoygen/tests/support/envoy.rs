//! A real Envoy that says whether it accepts tables: turned into a static bootstrap, they must pass `--mode validate`. It is
//! taken from `ENVOY_BIN` or the development tools' cache; in CI (`CI` set) it must be there.

#![allow(clippy::disallowed_methods, reason = "it starts Envoys")]

use std::path::PathBuf;
use std::process::Command;

use envoy_types::pb::envoy::config::bootstrap::v3::{
    Bootstrap, LayeredRuntime, RuntimeLayer, bootstrap::StaticResources, runtime_layer::LayerSpecifier,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType,
};
use envoy_types::pb::envoy::config::core::v3::{Address, Node, Pipe, address};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, Listener, filter::ConfigType};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use envoy_types::util::pack_any;
use envoygen::{Output, type_url};
use prost::Message;

use super::routes;

/// The Envoy to try with.
fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY_BIN").map(PathBuf::from);
    let cache = || {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
        let tools = std::fs::read_dir(cache.join("argosy/tools")).ok()?;
        let mut found = tools
            .flatten()
            .map(|entry| entry.path())
            .filter(|p| p.to_string_lossy().contains("envoy"));
        found.find_map(|path| {
            if path.is_file() {
                Some(path)
            } else {
                Some(path.join("envoy")).filter(|p| p.is_file())
            }
        })
    };
    let found = named.filter(|path| path.is_file()).or_else(cache);
    assert!(
        found.is_some() || std::env::var_os("CI").is_none(),
        "CI must have an Envoy: set ENVOY_BIN"
    );
    found
}

/// The tables as a bootstrap without any control plane.
fn bootstrap(output: &Output) -> Bootstrap {
    let decode = |url| output.of_type(url).map(|r| r.bytes.clone()).collect::<Vec<_>>();
    let mut clusters: Vec<Cluster> = decode(type_url::CLUSTER)
        .into_iter()
        .map(|b| Cluster::decode(b).unwrap())
        .collect();
    for cluster in &mut clusters {
        if cluster.eds_cluster_config.take().is_some() {
            let set = output.get(type_url::ENDPOINTS, &cluster.name).unwrap();
            cluster.load_assignment = Some(ClusterLoadAssignment::decode(set.bytes.clone()).unwrap());
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
        }
    }
    clusters.push(agent());
    let mut listeners: Vec<Listener> = decode(type_url::LISTENER)
        .into_iter()
        .map(|b| Listener::decode(b).unwrap())
        .collect();
    for listener in &mut listeners {
        let chains = listener
            .filter_chains
            .iter_mut()
            .chain(&mut listener.default_filter_chain);
        chains
            .flat_map(|chain| &mut chain.filters)
            .for_each(|filter| inline_routes(filter, output));
    }
    Bootstrap {
        node: Some(Node {
            id: "test".into(),
            cluster: "test".into(),
            ..Default::default()
        }),
        static_resources: Some(StaticResources {
            clusters,
            listeners,
            ..Default::default()
        }),
        layered_runtime: Some(runtime()),
        ..Default::default()
    }
}

/// What the agent tells its Envoy: regular expressions of the size that those of the mesh have.
fn runtime() -> LayeredRuntime {
    let level = Value {
        kind: Some(Kind::NumberValue(32768.0)),
    };
    let fields = [("re2.max_program_size.error_level".to_owned(), level)].into();
    LayeredRuntime {
        layers: vec![RuntimeLayer {
            name: "static".into(),
            layer_specifier: Some(LayerSpecifier::StaticLayer(Struct { fields })),
        }],
    }
}

/// The agent's socket, which serves secrets.
fn agent() -> Cluster {
    let pipe = Address {
        address: Some(address::Address::Pipe(Pipe {
            path: "/tmp/agent.sock".into(),
            mode: 0,
        })),
    };
    let endpoint = Endpoint {
        address: Some(pipe),
        ..Default::default()
    };
    let only = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let locality = LocalityLbEndpoints {
        lb_endpoints: vec![only],
        ..Default::default()
    };
    Cluster {
        name: "sds-grpc".into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: "sds-grpc".into(),
            endpoints: vec![locality],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn inline_routes(filter: &mut Filter, output: &Output) {
    let Some(mut manager): Option<HttpConnectionManager> = super::manager(filter) else {
        return;
    };
    if let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier {
        let found: RouteConfiguration = routes(output, &rds.route_config_name);
        manager.route_specifier = Some(RouteSpecifier::RouteConfig(found));
        filter.config_type = Some(ConfigType::TypedConfig(pack_any(manager)));
    }
}

/// Checks that Envoy accepts the tables.
pub(crate) fn validate(output: &Output) {
    let Some(envoy) = envoy() else {
        eprintln!("skipped: no Envoy here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.pb");
    std::fs::write(&file, bootstrap(output).encode_to_vec()).unwrap();
    let seen = Command::new(&envoy)
        .args([
            "--mode",
            "validate",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "-c",
        ])
        .arg(&file)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&seen.stderr);
    assert!(seen.status.success(), "{log}");
}

/// An Envoy that runs tables; it ends with the value.
pub(crate) struct Running {
    child: std::process::Child,
    admin: String,
    _folder: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs tables, its administration at `admin` (an address that no other test uses); `edit` may change what it is given. `None`
/// where there is no Envoy.
pub(crate) fn run(output: &Output, admin: &str, edit: impl FnOnce(&mut Bootstrap)) -> Option<Running> {
    let Some(envoy) = envoy() else {
        eprintln!("skipped: no Envoy here");
        return None;
    };
    let (host, port) = admin.rsplit_once(':').unwrap();
    let mut bootstrap = bootstrap(output);
    let socket = envoy_types::pb::envoy::config::core::v3::SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(
            envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier::PortValue(
                port.parse().unwrap(),
            ),
        ),
        ..Default::default()
    };
    bootstrap.admin = Some(envoy_types::pb::envoy::config::bootstrap::v3::Admin {
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        ..Default::default()
    });
    bootstrap.stats_config = Some(envoy_types::pb::envoy::config::metrics::v3::StatsConfig {
        use_all_default_tags: Some(envoy_types::pb::google::protobuf::BoolValue { value: false }),
        ..Default::default()
    });
    edit(&mut bootstrap);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bootstrap.pb");
    std::fs::write(&file, bootstrap.encode_to_vec()).unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let child = Command::new(&envoy)
        .args([
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "--file-flush-interval-msec",
            "50",
            "--log-level",
            "warning",
            "-c",
        ])
        .arg(&file)
        .stderr(log)
        .spawn()
        .unwrap();
    let mut running = Running {
        child,
        admin: admin.to_owned(),
        _folder: folder,
    };
    let live =
        || request(&running.admin, "GET /ready HTTP/1.1", &[]).is_some_and(|answer| answer.contains("LIVE"));
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !live() {
        let ended = running.child.try_wait().unwrap();
        let log = || std::fs::read_to_string(running._folder.path().join("log")).unwrap_or_default();
        assert!(
            ended.is_none() && std::time::Instant::now() < until,
            "{ended:?} {}",
            log()
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Some(running)
}

impl Running {
    /// Waits until a page of the administration holds `text`, and gives the page.
    pub(crate) fn page(&self, path: &str, text: &str) -> String {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let page = request(&self.admin, &format!("GET {path} HTTP/1.1"), &[]).unwrap_or_default();
            if page.contains(text) {
                return page;
            }
            assert!(std::time::Instant::now() < until, "{text} is not in {page}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// One request on a connection of its own; the whole answer as text, none if there is nobody.
pub(crate) fn request(address: &str, line: &str, headers: &[&str]) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(10)))
        .ok()?;
    let mut text = format!("{line}\r\nconnection: close\r\n");
    if !headers.iter().any(|header| header.starts_with("host:")) {
        text += "host: test\r\n";
    }
    for header in headers {
        text += &format!("{header}\r\n");
    }
    stream.write_all(format!("{text}\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Whether an answer has all of its body. Envoy closes refused connections a second later only.
pub(crate) fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.is_some_and(|(_, length)| length.parse() == Ok(body.len()))
}

/// An application that answers each request with the request's own head as its body.
pub(crate) fn echo(address: &str) {
    serve(address, |_| 200);
}

/// The same with a status by the request's head.
pub(crate) fn serve(address: &str, status: fn(&str) -> u16) {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut stream = stream;
                loop {
                    let mut head = String::new();
                    // Not HTTP: TLS, say, of which no line ever ends.
                    if reader
                        .fill_buf()
                        .is_ok_and(|start| start.first().is_none_or(|byte| !byte.is_ascii_graphic()))
                    {
                        return;
                    }
                    loop {
                        let mut line = Vec::new();
                        match reader.read_until(b'\n', &mut line) {
                            Ok(0) | Err(_) => return,
                            Ok(_) if line == b"\r\n" => break,
                            Ok(_) => head += &String::from_utf8_lossy(&line),
                        }
                    }
                    let (status, length) = (status(&head), head.len());
                    let own = format!("x-powered-by: echo\r\ncontent-length: {length}");
                    let answer = format!("HTTP/1.1 {status} X\r\n{own}\r\n\r\n{head}");
                    let last = head.contains("connection: close");
                    if stream.write_all(answer.as_bytes()).is_err() || last {
                        return;
                    }
                }
            });
        }
    });
}
