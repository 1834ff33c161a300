//! A mesh as far as an agent sees it: a real Citadel, and a discovery server with Pilot's identity and a table that the
//! test writes.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use citadel::token::{Grant, IssuerKey, mint};
use config::{Kind, Meta, Object, Origin, networking::WorkloadEntry};
use parking_lot::Mutex;
use runtime::{
    Context, Identity, TrustDomain,
    args::IdentityArgs,
    grpc::{self, Limits},
    logging::LogHandle,
    tls::{self, ClientAuth},
};
use testkit::net::Block;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::{Status, service::Routes};
use xds::{
    Server, Source, Table,
    server::{Hello, Limits as XdsLimits},
};

pub const BOUND: Duration = Duration::from_secs(30);
const ISSUER: &str = "https://issuer.argosy.local";

/// Files, addresses and a token issuer of one test.
pub struct Mesh {
    pub block: Block,
    pub folder: tempfile::TempDir,
    issuer: IssuerKey,
}

/// A service that runs until it is stopped or dropped.
pub struct Service {
    context: Context,
    task: JoinHandle<()>,
}

impl Service {
    pub async fn stop(self) {
        self.context.shutdown.cancel();
        self.task.await.unwrap();
    }

    /// A command to the service's admin server.
    pub async fn command(&self, path: &str) {
        let request = http::Request::builder().method("PUT").uri(path);
        let request = request.body(axum::body::Body::empty()).unwrap();
        let answer = tower::ServiceExt::oneshot(self.context.admin.router(), request)
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
}

pub fn context(service: &'static str) -> Context {
    Context::new(service, LogHandle::detached(), Duration::from_millis(200))
}

impl Mesh {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = IssuerKey::generate().unwrap();
        fs::write(folder.path().join("jwks.json"), issuer.jwks().unwrap()).unwrap();
        let text = format!(
            "trustDomain: cluster.local\ntokenIssuers:\n- issuer: {ISSUER}\n  audiences: [argosy-ca]\n  jwksFile: jwks.json\n"
        );
        fs::write(folder.path().join("identity.yaml"), text).unwrap();
        let root = citadel::ca::Authority::load_or_create(&folder.path().join("ca"), &TrustDomain::default());
        root.unwrap();
        Self {
            block: Block::take().unwrap(),
            folder,
            issuer,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn citadel_address(&self) -> SocketAddr {
        self.block.addr(1, 8060)
    }

    pub fn pilot_address(&self) -> SocketAddr {
        self.block.addr(1, 15012)
    }

    pub fn ca_root(&self) -> PathBuf {
        self.path("ca/root-cert.pem")
    }

    /// A token file, valid for a while.
    pub fn token(&self, namespace: &str, account: &str, lifetime: Duration) -> PathBuf {
        self.write_token(namespace, account, 0, lifetime)
    }

    /// A token file whose token ended a day ago.
    pub fn expired_token(&self, namespace: &str, account: &str) -> PathBuf {
        self.write_token(namespace, account, 2 * 86_400, Duration::from_secs(86_400))
    }

    fn write_token(&self, namespace: &str, account: &str, ago: i64, lifetime: Duration) -> PathBuf {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let issued_at = i64::try_from(now).unwrap() - ago;
        let audience = "argosy-ca";
        let grant = Grant {
            issuer: ISSUER,
            audience,
            namespace,
            account,
            issued_at,
            lifetime,
        };
        let path = self.path(&format!("{namespace}-{account}.jwt"));
        fs::write(&path, mint(&self.issuer, &grant).unwrap().as_bytes()).unwrap();
        path
    }

    pub async fn citadel(&self, leaf_ttl: Duration) -> Service {
        self.citadel_with(citadel::Args {
            leaf_ttl,
            secrets_dir: Some(self.path("secrets")),
            ..citadel::Args::new(self.path("ca"))
        })
        .await
    }

    pub async fn citadel_with(&self, args: citadel::Args) -> Service {
        let args = citadel::Args {
            identity: Some(self.path("identity.yaml")),
            ..args
        };
        let listener = TcpListener::bind(self.citadel_address()).await.unwrap();
        let context = context("citadel");
        let serving = citadel::serve(listener, args, context.clone());
        Service {
            context,
            task: tokio::spawn(async move { serving.await.unwrap() }),
        }
    }

    /// Writes a Secret with a new certificate; gives chain and key.
    pub fn write_secret(&self, namespace: &str, name: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["web.example".to_owned()]).unwrap();
        let (chain, key) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        let secret = serde_json::json!({
            "kind": "Secret",
            "metadata": {"namespace": namespace, "name": name},
            "stringData": {"tls.crt": chain, "tls.key": key},
        });
        let dir = self.path("secrets");
        citadel::ca::files::private_dir(&dir).unwrap();
        let path = dir.join(format!("{namespace}-{name}.json"));
        citadel::ca::files::write_atomic(&path, secret.to_string().as_bytes(), 0o600).unwrap();
        chain.replace("\r\n", "\n") + &key
    }

    pub async fn identity(&self, namespace: &str, account: &str) -> (Identity, Context) {
        let args = IdentityArgs {
            citadel_address: self.citadel_address().to_string(),
            ca_root: self.ca_root(),
            token: self.token(namespace, account, Duration::from_secs(600)),
            trust_domain: TrustDomain::default(),
        };
        let context = context("test");
        (Identity::from_citadel(&args, &context).await.unwrap(), context)
    }

    /// A discovery server with Pilot's place and identity, or another's.
    pub async fn pilot_as(&self, namespace: &str, account: &str, tables: &Tables) -> Service {
        let (identity, _) = self.identity(namespace, account).await;
        let tls = tls::server(&identity, ClientAuth::Required).unwrap();
        let listener = TcpListener::bind(self.pilot_address()).await.unwrap();
        let routes = Routes::new(Server::new(tables.clone(), XdsLimits::default()).ads());
        let context = context("pilot");
        let serving = context.clone();
        let task = tokio::spawn(async move {
            grpc::serve("xds", listener, Some(tls), routes, &Limits::default(), &serving)
                .await
                .unwrap();
        });
        Service { context, task }
    }

    pub async fn pilot(&self, tables: &Tables) -> Service {
        self.pilot_as("argosy-system", "pilot", tables).await
    }
}

/// What the discovery server gives, and who asked.
#[derive(Clone)]
pub struct Tables {
    sender: Arc<watch::Sender<Arc<Table>>>,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl Tables {
    pub fn new(table: Table) -> Self {
        Self {
            sender: Arc::new(watch::Sender::new(Arc::new(table))),
            asked: Arc::default(),
        }
    }

    pub fn set(&self, table: Table) {
        self.sender.send_replace(Arc::new(table));
    }

    /// The table, changed.
    pub fn update(&self, change: impl FnOnce(&Table) -> Table) {
        let table = change(&self.sender.borrow());
        self.set(table);
    }

    /// Node ids and SPIFFE ids of those who asked.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.asked.lock().clone()
    }
}

impl Source for Tables {
    async fn connect(&self, hello: &Hello) -> Result<watch::Receiver<Arc<Table>>, Status> {
        let peer = grpc::peer(&hello.extensions).map(|peer| peer.spiffe_id.to_string());
        self.asked
            .lock()
            .push((hello.node.id.clone(), peer.unwrap_or_default()));
        Ok(self.sender.subscribe())
    }
}

/// A WorkloadEntry as Pilot gives it.
pub fn workload_entry(name: &str, address: Ipv4Addr) -> Object {
    let spec = WorkloadEntry {
        address: address.to_string(),
        labels: BTreeMap::from([("app".into(), "catalog".into())]),
        service_account: "catalog".into(),
        ..WorkloadEntry::default()
    };
    let meta = Meta {
        namespace: "shop".into(),
        name: name.into(),
        ..Meta::default()
    };
    Object {
        kind: Kind::WorkloadEntry,
        meta,
        spec: spec.into(),
        origin: Origin::default(),
    }
}

/// `table` with an object in it.
pub fn with_object(table: &Table, object: &Object) -> Table {
    let upsert = (object.key().resource_name().into(), feed::encode(object));
    table.with(&feed::type_url(object.kind), [upsert], [] as [&str; 0])
}

pub async fn until<T, F, Fut>(what: &str, look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    testkit::wait::until(what, BOUND, look).await.unwrap().0
}

/// Envoy, or `None` where there is none and that is allowed (not in CI).
pub fn envoy() -> Option<PathBuf> {
    match testkit::envoy::binary() {
        Ok(envoy) => Some(envoy),
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("{error:#}"),
        Err(error) => {
            eprintln!("NOT RUN: this test needs Envoy. {error:#}");
            None
        }
    }
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
