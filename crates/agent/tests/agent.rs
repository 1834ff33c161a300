//! The whole agent with the real Envoy: from nothing to serving, through losses, to its end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly")]

mod common;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use common::{BOUND, Mesh, Tables, until, with_object, workload_entry};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{
                Address, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, SocketAddress,
                TransportSocket, address, api_config_source::ApiType, config_source::ConfigSourceSpecifier,
                grpc_service, socket_address, transport_socket,
            },
            listener::v3::{Filter, FilterChain, Listener, filter},
        },
        extensions::{
            filters::network::echo::v3::Echo,
            transport_sockets::tls::v3::{
                CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, common_tls_context,
            },
        },
    },
    google::protobuf::{Any, BoolValue},
};
use prost::{Message, Name};
use runtime::{SpiffeId, tls};
use testkit::{Process, Spec, http::Client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use xds::{
    Table,
    types::{CLUSTER, LISTENER},
};

fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// A secret that comes from the agent, in the way Pilot configures it.
fn from_agent(name: &str) -> SdsSecretConfig {
    let grpc = grpc_service::EnvoyGrpc {
        cluster_name: "sds-grpc".into(),
        ..Default::default()
    };
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc)),
        ..Default::default()
    };
    let source = ApiConfigSource {
        api_type: ApiType::DeltaGrpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        set_node_on_first_message_only: true,
        grpc_services: vec![service],
        ..Default::default()
    };
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
            ..Default::default()
        }),
    }
}

/// A listener that wants a certificate of the mesh and then gives back what it gets.
fn mtls_listener(address: SocketAddr) -> Listener {
    let context = DownstreamTlsContext {
        require_client_certificate: Some(BoolValue { value: true }),
        common_tls_context: Some(CommonTlsContext {
            tls_certificate_sds_secret_configs: vec![from_agent("default")],
            validation_context_type: Some(
                common_tls_context::ValidationContextType::ValidationContextSdsSecretConfig(from_agent(
                    "ROOTCA",
                )),
            ),
            alpn_protocols: vec!["h2".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let chain = FilterChain {
        filters: vec![Filter {
            name: "envoy.filters.network.echo".into(),
            config_type: Some(filter::ConfigType::TypedConfig(any(&Echo {}))),
        }],
        transport_socket: Some(TransportSocket {
            name: "envoy.transport_sockets.tls".into(),
            config_type: Some(transport_socket::ConfigType::TypedConfig(any(&context))),
        }),
        ..Default::default()
    };
    let socket = SocketAddress {
        address: address.ip().to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(address.port().into())),
        ..Default::default()
    };
    Listener {
        name: format!("{}_{}", address.ip(), address.port()),
        address: Some(Address {
            address: Some(address::Address::SocketAddress(socket)),
        }),
        enable_reuse_port: Some(BoolValue { value: false }),
        filter_chains: vec![chain],
        ..Default::default()
    }
}

/// One workload and its agent.
struct Ground {
    mesh: Mesh,
    envoy: PathBuf,
    client: Client,
}

impl Ground {
    fn new() -> Option<Self> {
        Some(Self {
            envoy: common::envoy()?,
            mesh: Mesh::new(),
            client: Client::default(),
        })
    }

    fn address(&self, port: u16) -> SocketAddr {
        self.mesh.block.addr(21, port)
    }

    /// What Pilot gives the workload.
    fn table(&self) -> Table {
        let listener = mtls_listener(self.address(8080));
        let cluster = Cluster {
            name: "BlackHoleCluster".into(),
            ..Default::default()
        };
        Table::builder()
            .add(LISTENER, listener.name.as_str(), listener.encode_to_vec().into())
            .add(CLUSTER, cluster.name.as_str(), cluster.encode_to_vec().into())
            .build(None)
    }

    fn with_entry(&self, table: &Table) -> Table {
        with_object(table, &workload_entry("catalog-v1", self.mesh.block.ip(21)))
    }

    fn agent(&self, name: &str, token: &Path) -> Spec {
        Spec::new(name, env!("CARGO_BIN_EXE_argosy-agent"), self.mesh.folder.path())
            .flag("--workload", "shop/catalog-v1")
            .flag("--pilot-address", self.mesh.pilot_address())
            .flag("--citadel-address", self.mesh.citadel_address())
            .path("--ca-root", self.mesh.ca_root())
            .path("--token", token)
            .path("--envoy", &self.envoy)
            .path("--state-dir", self.mesh.path(name))
            .flag("--envoy-concurrency", 1)
            .flag("--shutdown-grace", "2s")
    }

    fn token(&self) -> PathBuf {
        self.mesh.token("shop", "catalog", Duration::from_secs(600))
    }

    async fn get(&self, port: u16, path: &str) -> Result<(u16, String), String> {
        let url = format!("http://{}{path}", self.address(port));
        let answer = self.client.get(url).timeout(Duration::from_secs(10)).send().await;
        answer
            .map(|answer| (answer.status, answer.text()))
            .map_err(|error| format!("{error:#}"))
    }

    /// Waits until the agent says that it is ready (200) or not (503), in these words.
    async fn says(&self, status: u16, words: &str) {
        until(&format!("{status} {words}"), || async {
            match self.get(15020, "/healthz/ready").await? {
                (seen, text) if seen == status && text.contains(words) => Ok(()),
                (seen, text) => Err(format!("{seen} {text}")),
            }
        })
        .await;
    }

    /// Connects to the workload over mutual TLS.
    async fn connect(&self, from: &runtime::Identity) -> std::io::Result<TlsStream<TcpStream>> {
        let own = SpiffeId::parse("spiffe://cluster.local/ns/shop/sa/catalog").unwrap();
        let connector = tls::connector(from, own).unwrap();
        let address = self.address(8080);
        let ip = address.ip().to_string();
        connector
            .connect(&ip, address.port())
            .await
            .map_err(std::io::Error::other)
    }

    async fn serves(&self, from: &runtime::Identity) {
        until("the listener to serve", || async {
            let stream = self.connect(from).await.map_err(|error| error.to_string())?;
            echoes(stream).await.map(drop).map_err(|error| error.to_string())
        })
        .await;
    }

    /// Envoys that were started with this test's files.
    fn envoys(&self) -> Vec<u32> {
        let folder = self.mesh.folder.path().to_string_lossy().into_owned();
        let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.filter(|id| {
            let command = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
            command.contains("--disable-hot-restart") && command.contains(&folder)
        })
        .collect()
    }
}

/// Whether the workload still answers on this connection.
async fn echoes(mut stream: TlsStream<TcpStream>) -> std::io::Result<TlsStream<TcpStream>> {
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await?;
    assert_eq!(answer, *b"hello");
    Ok(stream)
}

/// Gives a flag that is there already another value.
fn replace(mut spec: Spec, flag: &str, value: &str) -> Spec {
    let at = spec.args.iter().position(|arg| arg == flag).unwrap();
    spec.args[at + 1] = value.into();
    spec
}

fn signal(id: u32, signal: &str) {
    assert!(
        Command::new("kill")
            .args([signal, &id.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

async fn ends(process: &mut Process) -> (bool, String) {
    let status = process.ended(BOUND).await.unwrap();
    (status.success(), process.output())
}

#[tokio::test]
async fn from_nothing_to_serving_and_through_losses() {
    let Some(ground) = Ground::new() else { return };
    let spec = ground
        .agent("agent", &ground.token())
        .flag("--address", ground.mesh.block.ip(21));
    let mut agent = spec.start().unwrap();

    // Each thing that is missing is named.
    ground
        .says(
            503,
            &format!("identity: Citadel at {}", ground.mesh.citadel_address()),
        )
        .await;
    ground
        .says(
            503,
            "envoy: not started: it waits for the certificate and the workload",
        )
        .await;
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    ground
        .says(
            503,
            &format!("workload: Pilot at {}", ground.mesh.pilot_address()),
        )
        .await;
    let tables = Tables::new(Table::default());
    let pilot = ground.mesh.pilot(&tables).await;
    ground
        .says(
            503,
            "knows no WorkloadEntry shop/catalog-v1; add it to the configuration",
        )
        .await;
    assert_eq!(ground.envoys(), [0_u32; 0], "Envoy has no address yet");
    tables.set(ground.with_entry(&Table::default()));
    ground.says(200, "ready").await;

    // Envoy has its identity from SDS, and Pilot knows it as the workload.
    tables.set(ground.with_entry(&ground.table()));
    let (orders, _context) = ground.mesh.identity("shop", "orders").await;
    ground.serves(&orders).await;
    let id = format!(
        "sidecar~{}~catalog-v1.shop~shop.svc.cluster.local",
        ground.mesh.block.ip(21)
    );
    assert!(
        tables.asked().iter().any(|(node, _)| *node == id),
        "{:?}",
        tables.asked()
    );
    assert_eq!(
        ground.get(15021, "/healthz/ready").await,
        Ok((200, "ready\n".into())),
        "through Envoy"
    );
    let (_, merged) = ground.get(15020, "/stats/prometheus").await.unwrap();
    assert!(merged.contains("argosy_agent_envoy_restarts_total 0"), "{merged}");
    assert!(
        merged.contains("envoy_server_live 1") || merged.contains("envoy_server_state"),
        "{merged}"
    );
    let (_, alone) = ground.get(15090, "/stats/prometheus").await.unwrap();
    assert!(
        alone.contains("envoy_server_") && !alone.contains("argosy_agent"),
        "{alone}"
    );

    // Without Pilot the proxy goes on; an Envoy that is killed then waits for Pilot.
    pilot.stop().await;
    ground.serves(&orders).await;
    ground.says(200, "ready").await;
    let [envoy] = ground.envoys()[..] else {
        panic!("{:?}", ground.envoys())
    };
    signal(envoy, "-9");
    ground
        .says(503, "envoy: Envoy has no clusters from Pilot yet")
        .await;
    ground
        .says(503, &format!("pilot: Pilot at {}", ground.mesh.pilot_address()))
        .await;
    let pilot = ground.mesh.pilot(&tables).await;
    ground.says(200, "ready").await;
    ground.serves(&orders).await;
    let (_, merged) = ground.get(15020, "/metrics").await.unwrap();
    assert!(merged.contains("argosy_agent_envoy_restarts_total 1"), "{merged}");

    // Nothing is left behind.
    signal(agent.id(), "-TERM");
    let (success, output) = ends(&mut agent).await;
    assert!(success, "{output}");
    assert_eq!(ground.envoys(), [0_u32; 0]);
    assert!(!ground.mesh.path("agent/agent.sock").exists());
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn a_renewed_certificate_is_used_without_a_restart() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(6)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let agent = ground.agent("agent", &ground.token()).start().unwrap();
    ground.says(200, "ready").await;
    let [envoy] = ground.envoys()[..] else {
        panic!("{:?}", ground.envoys())
    };
    let admin = testkit::envoy::Admin::new(ground.address(15000));
    let serial = || async {
        let url = format!("http://{}/certs", ground.address(15000));
        let answer = ground
            .client
            .get(url)
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let certificates = answer.json().map_err(|error| error.to_string())?;
        let serial = certificates["certificates"][0]["cert_chain"][0]["serial_number"].as_str();
        serial.map(str::to_owned).ok_or_else(|| certificates.to_string())
    };
    let first = until("a certificate", serial).await;
    until("another certificate", || async {
        let now = serial().await?;
        if now == first { Err(now) } else { Ok(()) }
    })
    .await;
    admin.ready().await.unwrap();
    assert_eq!(ground.envoys(), [envoy]);
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn what_cannot_work_is_told_and_ends_the_agent() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let token = ground.token();

    let fails = async |spec: Spec, expected: &[&str]| {
        let (success, output) = ends(&mut spec.start().unwrap()).await;
        assert!(
            !success && expected.iter().all(|text| output.contains(text)),
            "{expected:?} in {output}"
        );
    };
    let missing = replace(ground.agent("missing", &token), "--envoy", "/nowhere/envoy");
    fails(
        missing,
        &[
            "--envoy /nowhere/envoy: No such file",
            "give the path of Envoy's program",
        ],
    )
    .await;
    let flags = ground.agent("flags", &token).arg("--envoy-arg=--nonsense");
    fails(
        flags,
        &[
            "--nonsense -- Couldn't find match for argument",
            "correct the --envoy-… flags",
        ],
    )
    .await;
    let foreign = ground.mesh.token("bank", "teller", Duration::from_secs(600));
    fails(
        ground.agent("foreign", &foreign),
        &[
            "certificate is for spiffe://cluster.local/ns/bank/sa/teller",
            "correct --token or --workload",
        ],
    )
    .await;

    // A second agent of the same workload; the first is not disturbed.
    let first = ground.agent("first", &token).start().unwrap();
    ground.says(200, "ready").await;
    fails(ground.agent("first", &token), &["in use by another argosy-agent"]).await;
    let status = format!(
        "cannot listen on {} (--status-port): the port is in use",
        ground.address(15020)
    );
    fails(ground.agent("second", &token), &[&status]).await;
    let other_ports = ground
        .agent("third", &token)
        .flag("--status-port", 16020)
        .flag("--prometheus-port", 16090);
    let admin = format!("Envoy's admin port {} is taken", ground.address(15000));
    fails(other_ports, &[&admin, "a second argosy-agent?"]).await;
    ground.says(200, "ready").await;
    drop(first);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn an_expired_token_is_told_until_it_is_replaced() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let expired = ground.mesh.expired_token("shop", "catalog");
    let spec = ground
        .agent("agent", &expired)
        .flag("--address", ground.mesh.block.ip(21));
    let agent = spec.start().unwrap();
    ground.says(503, "expired").await;
    assert!(agent.output().contains("expired"), "{}", agent.output());
    // The file is read again.
    ground.token();
    ground.says(200, "ready").await;
    drop(agent);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_killed_takes_envoy_with_it() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let spec = ground.agent("agent", &ground.token());
    let mut agent = spec.start().unwrap();
    ground.says(200, "ready").await;
    assert_eq!(ground.envoys().len(), 1);
    signal(agent.id(), "-9");
    ends(&mut agent).await;
    until("Envoy's end", || {
        let left = ground.envoys();
        std::future::ready(if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        })
    })
    .await;

    // Another one takes its place, in the same folder.
    let mut agent = spec.start().unwrap();
    ground.says(200, "ready").await;
    let url = format!("http://{}/quitquitquit", ground.address(15020));
    assert_eq!(ground.client.get(&url).send().await.unwrap().status, 405);
    assert_eq!(
        ground.client.request("POST", &url).send().await.unwrap().status,
        200
    );
    let (success, output) = ends(&mut agent).await;
    assert!(success, "{output}");
    assert_eq!(ground.envoys(), [0_u32; 0]);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn open_connections_may_end_before_envoy_does() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    // Longer than this test waits for anything: the agent must see that the last connection has ended.
    let spec = replace(ground.agent("agent", &ground.token()), "--shutdown-grace", "10m");
    let mut agent = spec.start().unwrap();
    ground.says(200, "ready").await;
    let (orders, _context) = ground.mesh.identity("shop", "orders").await;
    ground.serves(&orders).await;
    let stream = echoes(ground.connect(&orders).await.unwrap()).await.unwrap();
    signal(agent.id(), "-TERM");
    ground.says(503, "envoy: draining").await;
    let stream = echoes(stream).await.unwrap();
    assert_eq!(ground.envoys().len(), 1);
    drop(stream);
    let (success, output) = ends(&mut agent).await;
    assert!(success && output.contains("Envoy is drained"), "{output}");
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn a_workload_that_moves_takes_its_proxy_along() {
    let Some(ground) = Ground::new() else { return };
    let citadel = ground.mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(ground.with_entry(&ground.table()));
    let pilot = ground.mesh.pilot(&tables).await;
    let mut agent = ground.agent("agent", &ground.token()).start().unwrap();
    ground.says(200, "ready").await;
    let [first] = ground.envoys()[..] else {
        panic!("{:?}", ground.envoys())
    };

    // An address that cannot be listened on changes nothing.
    tables.update(|table| with_object(table, &workload_entry("catalog-v1", [192, 0, 2, 1].into())));
    let told = || {
        let output = agent.output();
        let told = output.contains("the workload's new address cannot be used, the old one stays");
        std::future::ready(if told { Ok(()) } else { Err(output) })
    };
    until("the refusal", told).await;
    ground.says(200, "ready").await;
    assert_eq!(ground.envoys(), [first]);

    let moved = ground.mesh.block.addr(22, 15020);
    tables.update(|table| with_object(table, &workload_entry("catalog-v1", ground.mesh.block.ip(22))));
    until("readiness at the new address", || async {
        let url = format!("http://{moved}/healthz/ready");
        let answer = ground
            .client
            .get(url)
            .send()
            .await
            .map_err(|error| format!("{error:#}"))?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await;
    let [second] = ground.envoys()[..] else {
        panic!("{:?}", ground.envoys())
    };
    assert_ne!(first, second);
    assert!(
        ground.get(15020, "/healthz/ready").await.is_err(),
        "the old address is free again"
    );
    signal(agent.id(), "-TERM");
    assert!(ends(&mut agent).await.0);
    pilot.stop().await;
    citadel.stop().await;
}
