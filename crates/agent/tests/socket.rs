//! What Envoy finds on the agent's Unix socket: its secrets, and the way to Pilot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

mod common;

use std::time::Duration;

use agent::{forward::Forward, sds, secrets, socket, state_dir::StateDir};
use common::{BOUND, Mesh, Tables, mode, until};
use envoy_types::pb::envoy::{
    config::core::v3::{DataSource, Node, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{Secret, secret::Type},
    service::{
        discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
        secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
    },
};
use hyper_util::rt::TokioIo;
use prost::Message;
use runtime::{Metrics, SpiffeId, TrustDomain, grpc, tls};
use tokio::{net::UnixStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{
    Code, Streaming,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use xds::{Table, types::LISTENER};

/// The socket of one agent.
struct Socket {
    folder: StateDir,
    _end: DropGuard,
}

impl Socket {
    fn serve(mesh: &Mesh, routes: Routes, end: CancellationToken) -> Self {
        let folder = StateDir::open(&mesh.path("state")).unwrap();
        let listener = folder.listen().unwrap();
        let serving = socket::serve(listener, routes, end.clone());
        tokio::spawn(async move { serving.await.unwrap() });
        Self {
            folder,
            _end: end.drop_guard(),
        }
    }

    fn channel(&self) -> Channel {
        let path = self.folder.socket();
        let connect = service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://agent").connect_with_connector_lazy(connect)
    }
}

fn node() -> Option<Node> {
    Some(Node {
        id: "sidecar~127.1.0.21~catalog-v1.shop~shop.svc.cluster.local".into(),
        ..Node::default()
    })
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future).await.expect("in time")
}

fn secret(bytes: &[u8]) -> (String, String) {
    let text = |source: Option<DataSource>| match source.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes).unwrap(),
        other => panic!("not inline: {other:?}"),
    };
    let secret = Secret::decode(bytes).unwrap();
    let content = match secret.r#type.unwrap() {
        Type::TlsCertificate(certificate) => {
            text(certificate.certificate_chain) + &text(certificate.private_key)
        }
        Type::ValidationContext(context) => text(context.trusted_ca),
        other => panic!("{other:?}"),
    };
    (secret.name, content)
}

fn delta_secrets(response: &DeltaDiscoveryResponse) -> Vec<(String, String)> {
    response
        .resources
        .iter()
        .map(|each| secret(&each.resource.as_ref().unwrap().value))
        .collect()
}

#[tokio::test]
async fn secrets_are_served_and_renewed_by_delta() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel(Duration::from_secs(5)).await;
    let (identity, context) = mesh.identity("shop", "catalog").await;
    let end = CancellationToken::new();
    let socket = Socket::serve(
        &mesh,
        sds::add(
            Routes::default(),
            &identity,
            &mesh.citadel_address().to_string(),
            &end,
        ),
        end,
    );
    assert_eq!(mode(&socket.folder.socket()), 0o600);

    let (requests, outgoing) = mpsc::channel(4);
    let first = DeltaDiscoveryRequest {
        node: node(),
        resource_names_subscribe: vec![secrets::CERTIFICATE.into(), secrets::ROOTS.into()],
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(first).await.unwrap();
    let mut client = SecretDiscoveryServiceClient::new(socket.channel());
    let mut responses = within(client.delta_secrets(ReceiverStream::new(outgoing)))
        .await
        .unwrap()
        .into_inner();
    let response = within(responses.message()).await.unwrap().unwrap();
    let mut seen = delta_secrets(&response);
    seen.sort();
    let [(roots_name, roots), (name, certificate)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!(
        (roots_name.as_str(), name.as_str()),
        (secrets::ROOTS, secrets::CERTIFICATE)
    );
    assert_eq!(*roots, identity.current().roots_pem());
    assert_eq!(
        *certificate,
        identity.current().chain_pem() + &identity.current().key_pem()
    );

    // A renewal comes by itself, and alone: the roots have not changed.
    let ack = DeltaDiscoveryRequest {
        response_nonce: response.nonce,
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(ack).await.unwrap();
    let renewed = delta_secrets(&within(responses.message()).await.unwrap().unwrap());
    let [(name, new_certificate)] = &renewed[..] else {
        panic!("{renewed:?}")
    };
    assert_eq!(name, secrets::CERTIFICATE);
    assert_ne!(new_certificate, certificate);
    context.shutdown.cancel();
    citadel.stop().await;
}

#[tokio::test]
async fn secrets_are_served_in_the_state_of_the_world_too() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel(Duration::from_secs(3600)).await;
    let (identity, _context) = mesh.identity("shop", "catalog").await;
    let end = CancellationToken::new();
    let socket = Socket::serve(
        &mesh,
        sds::add(
            Routes::default(),
            &identity,
            &mesh.citadel_address().to_string(),
            &end,
        ),
        end,
    );
    let request = DiscoveryRequest {
        node: node(),
        resource_names: vec![secrets::CERTIFICATE.into()],
        ..DiscoveryRequest::default()
    };
    let requests = tokio_stream::iter([request]);
    let requests = tokio_stream::StreamExt::chain(requests, tokio_stream::pending());
    let mut client = SecretDiscoveryServiceClient::new(socket.channel());
    let mut responses = within(client.stream_secrets(requests))
        .await
        .unwrap()
        .into_inner();
    let response: DiscoveryResponse = within(responses.message()).await.unwrap().unwrap();
    let [any] = &response.resources[..] else {
        panic!("{response:?}")
    };
    let (name, content) = secret(&any.value);
    assert_eq!(name, secrets::CERTIFICATE);
    assert!(content.contains("BEGIN PRIVATE KEY"));
    citadel.stop().await;
}

#[tokio::test]
async fn a_credential_that_envoy_names_comes_from_citadel_and_follows_its_secret() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel(Duration::from_secs(3600)).await;
    let (identity, _context) = mesh.identity("shop", "gateway").await;
    let end = CancellationToken::new();
    let citadel_address = mesh.citadel_address().to_string();
    let routes = sds::add(Routes::default(), &identity, &citadel_address, &end);
    let socket = Socket::serve(&mesh, routes, end);
    let (requests, outgoing) = mpsc::channel(4);
    let first = DeltaDiscoveryRequest {
        node: node(),
        resource_names_subscribe: vec!["kubernetes://web".into()],
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(first).await.unwrap();
    let mut client = SecretDiscoveryServiceClient::new(socket.channel());
    let mut responses = within(client.delta_secrets(ReceiverStream::new(outgoing)))
        .await
        .unwrap()
        .into_inner();
    let mut credential = async || loop {
        let response = within(responses.message()).await.unwrap().unwrap();
        let ack = DeltaDiscoveryRequest {
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(ack).await.unwrap();
        // That there is none yet is told too.
        if let [(name, content)] = &delta_secrets(&response)[..] {
            assert_eq!(name, "kubernetes://web");
            return content.clone();
        }
    };
    let one = mesh.write_secret("shop", "web");
    assert_eq!(credential().await, one);
    let other = mesh.write_secret("shop", "web");
    assert_eq!(credential().await, other);
    // Citadel's absence takes nothing away: another stream gets what is in hand.
    citadel.stop().await;
    let again = DeltaDiscoveryRequest {
        node: node(),
        resource_names_subscribe: vec!["kubernetes://web".into()],
        ..DeltaDiscoveryRequest::default()
    };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([again]), tokio_stream::pending());
    let mut second = within(client.delta_secrets(requests)).await.unwrap().into_inner();
    let response = within(second.message()).await.unwrap().unwrap();
    assert_eq!(delta_secrets(&response), [("kubernetes://web".to_owned(), other)]);
}

/// One delta ADS stream of Envoy's through the agent.
struct Ads {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Ads {
    async fn open(socket: &Socket) -> Result<Self, tonic::Status> {
        let (requests, outgoing) = mpsc::channel(4);
        let first = DeltaDiscoveryRequest {
            node: node(),
            type_url: LISTENER.to_string(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(first).await.unwrap();
        let mut client = AggregatedDiscoveryServiceClient::new(socket.channel());
        let stream = within(client.delta_aggregated_resources(ReceiverStream::new(outgoing))).await?;
        Ok(Self {
            requests,
            responses: stream.into_inner(),
        })
    }

    async fn next(&mut self) -> Result<Vec<String>, tonic::Status> {
        let response = within(self.responses.message())
            .await?
            .ok_or_else(|| tonic::Status::unavailable("the stream ended"))?;
        let ack = DeltaDiscoveryRequest {
            type_url: LISTENER.to_string(),
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(ack).await.unwrap();
        Ok(response.resources.into_iter().map(|each| each.name).collect())
    }
}

async fn forwarding(mesh: &Mesh) -> (Socket, Forward) {
    let (identity, _) = mesh.identity("shop", "catalog").await;
    let pilot = SpiffeId::system(&TrustDomain::default(), "pilot").unwrap();
    let address = mesh.pilot_address().to_string();
    let channel = grpc::channel(&address, Some(tls::connector(&identity, pilot).unwrap())).unwrap();
    let forward = Forward::new(channel, &address, &Metrics::new());
    let routes = Routes::default().add_service(forward.clone());
    (Socket::serve(mesh, routes, CancellationToken::new()), forward)
}

fn listener(name: &str, size: usize) -> Table {
    Table::builder()
        .add(LISTENER, name, vec![b'x'; size].into())
        .build(None)
}

#[tokio::test]
async fn streams_are_carried_and_come_back_after_pilot_was_away() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel(Duration::from_secs(3600)).await;
    let tables = Tables::new(listener("one", 10));
    let pilot = mesh.pilot(&tables).await;
    let (socket, forward) = forwarding(&mesh).await;

    let mut ads = Ads::open(&socket).await.unwrap();
    assert_eq!(ads.next().await.unwrap(), ["one"]);
    // Larger than any window, so it passes only if bytes flow as they are read.
    tables.update(|table| {
        table.with(
            &LISTENER,
            [("two".into(), vec![b'y'; 3 << 20].into())],
            [] as [&str; 0],
        )
    });
    assert_eq!(ads.next().await.unwrap(), ["two"]);
    let own = "spiffe://cluster.local/ns/shop/sa/catalog";
    assert_eq!(
        tables.asked(),
        [(node().unwrap().id, own.to_owned())],
        "Pilot sees the workload itself"
    );
    assert_eq!(forward.link().away(), None);

    pilot.stop().await;
    ads.next().await.unwrap_err();
    let refused = until("Pilot to be away", || async {
        match Ads::open(&socket).await {
            Ok(_) => Err("still there".to_owned()),
            Err(status) => Ok(status),
        }
    });
    let refused = refused.await;
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("refused"), "{refused:?}");
    let away = forward.link().away().unwrap();
    assert!(
        away.starts_with(&format!("Pilot at {}: ", mesh.pilot_address())),
        "{away}"
    );

    let pilot = mesh.pilot(&tables).await;
    let mut ads = until("Pilot to be back", || async {
        Ads::open(&socket)
            .await
            .map_err(|status| status.message().to_owned())
    })
    .await;
    let mut names = ads.next().await.unwrap();
    if names.len() == 1 {
        names.extend(ads.next().await.unwrap());
    }
    assert_eq!(names, ["one", "two"]);
    assert_eq!(forward.link().away(), None);
    pilot.stop().await;
    citadel.stop().await;
}

#[tokio::test]
async fn nobody_but_pilot_is_carried_to() {
    let mesh = Mesh::new();
    let citadel = mesh.citadel(Duration::from_secs(3600)).await;
    let impostor = mesh
        .pilot_as("shop", "orders", &Tables::new(listener("evil", 1)))
        .await;
    let (socket, _) = forwarding(&mesh).await;
    let Err(refused) = Ads::open(&socket).await else {
        panic!("carried to an impostor")
    };
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        refused
            .message()
            .contains("spiffe://cluster.local/ns/shop/sa/orders"),
        "{refused:?}"
    );
    impostor.stop().await;
    citadel.stop().await;
}

/// Asks with curl, as another user where one is given: whether there is an answer of HTTP/2.
fn curl(path: &std::path::Path, user: Option<u32>) -> bool {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new("curl");
    command.args([
        "--silent",
        "--http2-prior-knowledge",
        "--max-time",
        "10",
        "--output",
        "/dev/null",
        "--unix-socket",
    ]);
    command.arg(path).arg("http://agent/").current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.status().unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_is_refused_even_when_the_socket_is_open_to_it() {
    use std::os::unix::fs::PermissionsExt;
    let mesh = Mesh::new();
    let socket = Socket::serve(&mesh, Routes::default(), CancellationToken::new());
    let path = socket.folder.socket();
    assert!(curl(&path, None), "the own user is served");
    // Only root can become somebody else; otherwise there is the unit test.
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        for folder in [path.parent().unwrap(), mesh.folder.path()] {
            std::fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        }
        assert!(!curl(&path, Some(65_534)), "a stranger got an answer");
        assert!(curl(&path, None), "the own user is still served");
    }
}
