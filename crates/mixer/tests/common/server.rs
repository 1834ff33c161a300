//! A Mixer on loopback over mutual TLS, and the calls that proxies of the sample make.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use mixer::{Clock, Mixer};
use runtime::grpc::{self, Limits};
use runtime::logging::LogHandle;
use runtime::tls::{self, ClientAuth, Expected};
use runtime::{Context, Identity, Metrics};
use tonic::Status;
use tonic::transport::Channel;

use super::{Root, state};

pub(crate) const FRONTEND: &str = "spiffe://cluster.local/ns/shop/sa/frontend";
pub(crate) const SAMPLE: [&str; 3] = [
    include_str!("../../../cli/src/sample/mixer.yaml"),
    include_str!("../../../cli/src/sample/services.yaml"),
    include_str!("../../../cli/src/sample/workloads.yaml"),
];

/// A Mixer on loopback, with a clock of its own.
pub(crate) struct Server {
    pub(crate) mixer: Mixer,
    pub(crate) address: String,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) root: Root,
    pub(crate) context: Context,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.context.shutdown.cancel();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(mixer::Args::default()).await
    }

    pub(crate) async fn start_with(args: mixer::Args) -> Self {
        let now = Arc::new(AtomicI64::new(0));
        let clock = now.clone();
        let clock = Clock::new(move || clock.load(Ordering::SeqCst));
        let mixer = Mixer::new(&args, clock, &Metrics::new());
        let root = Root::new();
        let context = Context::new("mixer", LogHandle::detached(), Duration::from_secs(5));
        let listener = runtime::bind("--listen", "127.0.0.1:0".parse().unwrap())
            .await
            .unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let tls = tls::server(&root.identity("argosy-system", "mixer"), ClientAuth::Required).unwrap();
        let (routes, working) = mixer.services(context.shutdown.clone());
        tokio::spawn(working);
        let own = context.clone();
        tokio::spawn(async move {
            grpc::serve("mixer", listener, Some(tls), routes, &Limits::default(), &own)
                .await
                .unwrap();
        });
        Self {
            mixer,
            address,
            now,
            root,
            context,
        }
    }

    pub(crate) async fn with_sample() -> Self {
        let server = Self::start().await;
        server.mixer.configure(state(SAMPLE));
        assert!(
            server.mixer.findings().is_empty(),
            "{:?}",
            server.mixer.findings()
        );
        server
    }

    pub(crate) fn connect(&self, identity: &Identity) -> Channel {
        let connector = tls::connector(identity, Expected::Any).unwrap();
        grpc::channel(&self.address, Some(connector)).unwrap()
    }

    /// The channel of a proxy of namespace shop.
    pub(crate) fn proxy(&self, account: &str) -> Channel {
        self.connect(&self.root.identity("shop", account))
    }

    pub(crate) async fn check(&self, account: &str, request: CheckRequest) -> Result<CheckResponse, Status> {
        let mut client = AuthorizationClient::new(self.proxy(account));
        client.check(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn limit(&self, account: &str, user: &str) -> Result<RateLimitResponse, Status> {
        let mut client = RateLimitServiceClient::new(self.proxy(account));
        client
            .should_rate_limit(descriptor(user))
            .await
            .map(tonic::Response::into_inner)
    }

    /// The Prometheus page, once it contains `expected`.
    pub(crate) async fn page(&self, expected: &str) -> String {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let page = self.mixer.page();
            if page.contains(expected) {
                return page;
            }
            assert!(Instant::now() < until, "no {expected} in:\n{page}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A request of `user` to catalog-v1, as its proxy asks about its quota.
pub(crate) fn descriptor(user: &str) -> RateLimitRequest {
    let entry = |key: &str, value: &str| Entry {
        key: key.into(),
        value: value.into(),
    };
    let entries = vec![
        entry("rule", "limit-catalog.istio-system"),
        entry("destination.uid", "kubernetes://catalog-v1.shop"),
        entry("source.address", "127.1.0.10:40000"),
        entry("source.principal", FRONTEND),
        entry("destination.address", "127.1.0.21:8080"),
        entry("request.host", "catalog:7080"),
        entry("request.path", "/limited/1"),
        entry("request.headers[x-user]", user),
    ];
    let descriptors = vec![RateLimitDescriptor {
        entries,
        ..RateLimitDescriptor::default()
    }];
    RateLimitRequest {
        domain: "argosy".into(),
        descriptors,
        hits_addend: 0,
    }
}
