//! A mesh in a folder for tests: an issuer of tokens, a Citadel on loopback, and identities got from it.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test takes what it needs"
)]

pub mod process;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use citadel::token::{Grant, IssuerKey, mint};
use prometheus_client::metrics::counter::Counter;
use proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use proto::sample::echo_client::EchoClient;
use proto::sample::echo_server::{Echo, EchoServer};
use proto::sample::{EchoRequest, EchoResponse};
use runtime::args::IdentityArgs;
use runtime::grpc::{self, Limits};
use runtime::identity::StartError;
use runtime::logging::LogHandle;
use runtime::tls::{self, ClientAuth, Connector, Expected, Material, TrustBundle};
use runtime::{Context, Identity, SpiffeId, TrustDomain};
use rustls::sign::CertifiedKey;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

pub const ISSUER: &str = "https://issuer.argosy.local";

/// Longest wait for a condition; only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub fn context(service: &'static str) -> Context {
    Context::new(service, LogHandle::detached(), Duration::from_secs(1))
}

/// The folder and its token issuer.
pub struct Mesh {
    pub dir: tempfile::TempDir,
    pub key: IssuerKey,
}

/// A Citadel that runs in this process.
pub struct Running {
    pub address: SocketAddr,
    pub context: Context,
    pub task: JoinHandle<Result<(), citadel::RunError>>,
}

impl Running {
    pub async fn stop(self) {
        self.context.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }
}

impl Mesh {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = IssuerKey::generate().unwrap();
        std::fs::write(dir.path().join("jwks.json"), key.jwks().unwrap()).unwrap();
        let mesh = Self { dir, key };
        mesh.write_identity("argosy-ca");
        mesh
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write_identity(&self, audience: &str) {
        let text =
            format!("tokenIssuers:\n- issuer: {ISSUER}\n  audiences: [{audience}]\n  jwksFile: jwks.json\n");
        std::fs::write(self.path("identity.yaml"), text).unwrap();
    }

    pub fn args(&self) -> citadel::Args {
        citadel::Args {
            identity: Some(self.path("identity.yaml")),
            ..citadel::Args::new(self.path("ca"))
        }
    }

    pub async fn citadel(&self) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.citadel_on(listener, self.args()).await
    }

    pub async fn citadel_on(&self, listener: TcpListener, args: citadel::Args) -> Running {
        let address = listener.local_addr().unwrap();
        let context = context("citadel");
        let serving = context.readiness.condition("serving");
        let mut task = tokio::spawn(citadel::serve(listener, args, context.clone()));
        tokio::select! {
            () = context.readiness.wait_ready() => {}
            ended = &mut task => panic!("Citadel ended: {ended:?}"),
        }
        drop(serving);
        Running {
            address,
            context,
            task,
        }
    }

    pub fn token(&self, namespace: &str, account: &str) -> String {
        self.token_with(namespace, account, |_| {})
    }

    pub fn token_with(&self, namespace: &str, account: &str, change: impl FnOnce(&mut Grant<'_>)) -> String {
        let lifetime = Duration::from_secs(3600);
        let mut grant = Grant {
            issuer: ISSUER,
            audience: "argosy-ca",
            namespace,
            account,
            issued_at: now(),
            lifetime,
        };
        change(&mut grant);
        mint(&self.key, &grant).unwrap().to_string()
    }

    /// Flags of a client whose token is in a file.
    pub fn client_args(&self, citadel: SocketAddr, token: &str) -> IdentityArgs {
        let file = tempfile::Builder::new()
            .suffix(".jwt")
            .tempfile_in(self.dir.path())
            .unwrap();
        let (_, path) = file.keep().unwrap();
        std::fs::write(&path, token).unwrap();
        IdentityArgs {
            citadel_address: citadel.to_string(),
            ca_root: self.path("ca/root-cert.pem"),
            token: path,
            trust_domain: TrustDomain::default(),
        }
    }

    pub async fn identity(&self, citadel: SocketAddr, namespace: &str, account: &str) -> Identity {
        obtain(&self.client_args(citadel, &self.token(namespace, account))).await
    }

    /// The reason why no identity is given: what readiness shows after the first refusal.
    pub async fn refusal(&self, args: &IdentityArgs) -> String {
        let context = context("client");
        let stop = context.shutdown.clone();
        let start = Identity::from_citadel(args, &context);
        tokio::pin!(start);
        let reason = loop {
            tokio::select! {
                got = &mut start => panic!("an identity was given: {got:?}"),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            let missing = context.readiness.missing();
            if let Some(found) = missing
                .into_iter()
                .find(|m| m.condition == "client/identity" && m.reason != "starting")
            {
                break found.reason;
            }
        };
        stop.cancel();
        assert!(matches!(start.await, Err(StartError::Stopped(_))));
        reason
    }

    pub fn bundle(&self) -> TrustBundle {
        let pem = std::fs::read(self.path("ca/root-cert.pem")).unwrap();
        TrustBundle::from_pem(TrustDomain::default(), &pem).unwrap()
    }
}

pub fn spiffe(namespace: &str, account: &str) -> SpiffeId {
    SpiffeId::workload(&TrustDomain::default(), namespace, account).unwrap()
}

/// Roots without a certificate: a client that is nobody yet.
#[derive(Debug)]
pub struct Anonymous(pub Arc<TrustBundle>);

impl Material for Anonymous {
    fn bundle(&self) -> Arc<TrustBundle> {
        self.0.clone()
    }
    fn certified_key(&self) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// One raw call of the CSR API.
pub async fn create_certificate(
    mesh: &Mesh,
    citadel: SocketAddr,
    authorization: Option<&str>,
    csr: &str,
    seconds: i64,
) -> Result<IstioCertificateResponse, Status> {
    let material = Arc::new(Anonymous(Arc::new(mesh.bundle())));
    let config = tls::client(
        material,
        SpiffeId::system(&TrustDomain::default(), "citadel").unwrap(),
    )
    .unwrap();
    let channel = grpc::channel(&citadel.to_string(), Some(Connector::new(config))).unwrap();
    let mut request = Request::new(IstioCertificateRequest {
        csr: csr.into(),
        validity_duration: seconds,
        metadata: None,
    });
    if let Some(value) = authorization {
        request
            .metadata_mut()
            .insert("authorization", value.parse().unwrap());
    }
    IstioCertificateServiceClient::new(channel)
        .create_certificate(request)
        .await
        .map(Response::into_inner)
}

/// Gets an identity by these flags.
pub async fn obtain(args: &IdentityArgs) -> Identity {
    let context = context("client");
    tokio::time::timeout(PATIENCE, Identity::from_citadel(args, &context))
        .await
        .unwrap()
        .unwrap()
}

/// What a thief of the key has: this certificate, and none that comes after it.
pub fn stolen(identity: &Identity) -> Identity {
    let current = identity.current();
    Identity::fixed(current.with_bundle(current.bundle().clone()))
}

/// Says who asked, and counts calls when they begin.
struct WhoAmI(Counter);

#[tonic::async_trait]
impl Echo for WhoAmI {
    async fn say(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        self.0.inc();
        let peer = grpc::peer(request.extensions()).ok_or_else(|| Status::unauthenticated("no peer"))?;
        let message = peer.spiffe_id.to_string();
        tokio::time::sleep(Duration::from_millis(request.get_ref().delay_ms.into())).await;
        Ok(Response::new(EchoResponse {
            message,
            ..EchoResponse::default()
        }))
    }
}

/// A server of the sample's gRPC face, which demands a certificate of its clients.
pub async fn echo_server(identity: &Identity, context: &Context, limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = tls::server(identity, ClientAuth::Required).unwrap();
    let context = context.clone();
    tokio::spawn(async move {
        let routes = Routes::new(EchoServer::new(WhoAmI(
            context.metrics.counter("test_calls", "Calls"),
        )));
        grpc::serve("echo", listener, Some(tls), routes, &limits, &context)
            .await
            .unwrap();
    });
    address
}

/// One call over one new connection.
pub async fn say(
    identity: &Identity,
    address: SocketAddr,
    expected: impl Into<Expected>,
) -> Result<String, String> {
    let connector = tls::connector(identity, expected).unwrap();
    let channel = grpc::channel(&address.to_string(), Some(connector)).unwrap();
    let answer = EchoClient::new(channel).say(EchoRequest::default()).await;
    answer
        .map(|a| a.into_inner().message)
        .map_err(|status| status.message().to_owned())
}

/// Waits for a condition by looking again and again.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, looking).await.is_ok(),
        "never: {what}"
    );
}

/// A request to the admin server's routes.
pub async fn admin(
    context: &Context,
    method: &str,
    path: &str,
) -> (axum::http::StatusCode, serde_json::Value) {
    let request = axum::http::Request::builder()
        .method(method)
        .uri(path)
        .body(axum::body::Body::empty())
        .unwrap();
    let answer = tower::ServiceExt::oneshot(context.admin.router(), request)
        .await
        .unwrap();
    let status = answer.status();
    let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let value = serde_json::from_slice(&body)
        .unwrap_or_else(|_| serde_json::Value::String(String::from_utf8_lossy(&body).into_owned()));
    (status, value)
}
