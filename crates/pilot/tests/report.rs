//! Pilot's reports of what proxies have accepted, over mutual TLS to a Galley that collects them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use config::ObjectKey;
use envoygen::{Proxy, Settings};
use feed::distribution::{
    Distribution, DistributionReply, DistributionReport, DistributionServer, ObjectProgress,
};
use model::Snapshot;
use pilot::epoch::Epoch;
use pilot::metrics::PilotMetrics;
use pilot::proxies::Proxies;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use runtime::logging::LogHandle;
use runtime::tls::{self, ClientAuth, TrustBundle};
use runtime::{Context, Identity, Metrics, Svid, TrustDomain, grpc};
use rustls_pki_types::UnixTime;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use xds::server::StreamId;
use xds::types::ROUTE;
use xds::{Event, Rejection};
use zeroize::Zeroizing;

const LONG: Duration = Duration::from_secs(30);

/// Collects reports, or sends their senders elsewhere.
struct Collector {
    reports: mpsc::UnboundedSender<DistributionReport>,
    leader: Option<SocketAddr>,
}

#[tonic::async_trait]
impl Distribution for Collector {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<DistributionReply, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<DistributionReport>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let peer = grpc::peer(request.extensions()).ok_or_else(|| Status::unauthenticated("no TLS"))?;
        assert_eq!(peer.spiffe_id.account(), Some(("argosy-system", "pilot")));
        if let Some(leader) = self.leader {
            let leader = leader.to_string();
            return Ok(Response::new(Box::pin(tokio_stream::once(Ok(
                DistributionReply { leader },
            )))));
        }
        let (reports, mut incoming) = (self.reports.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(report)) = incoming.message().await {
                _ = reports.send(report);
            }
        });
        Ok(Response::new(Box::pin(tokio_stream::pending())))
    }
}

fn identities() -> impl Fn(&str) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "test");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = params.self_signed(&key).unwrap().pem();
    let bundle = Arc::new(TrustBundle::from_pem(TrustDomain::default(), pem.as_bytes()).unwrap());
    let issuer = Issuer::new(params, key);
    move |account| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = format!("spiffe://cluster.local/ns/argosy-system/sa/{account}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf = params.signed_by(&key, &issuer).unwrap();
        let key = Zeroizing::new(key.serialize_der());
        let svid = Svid::new(key, vec![leaf.der().clone()], bundle.clone(), UnixTime::now());
        Identity::fixed(svid.unwrap())
    }
}

fn context(service: &'static str) -> Context {
    Context::new(service, LogHandle::detached(), Duration::from_secs(1))
}

/// A Galley on a port.
async fn galley(
    identity: Identity,
    leader: Option<SocketAddr>,
) -> (SocketAddr, mpsc::UnboundedReceiver<DistributionReport>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reports, received) = mpsc::unbounded_channel();
    let routes = Routes::new(DistributionServer::new(Collector { reports, leader }));
    tokio::spawn(async move {
        let tls = tls::server(&identity, ClientAuth::Required).unwrap();
        let (limits, context) = (grpc::Limits::default(), context("galley"));
        grpc::serve("feed", listener, Some(tls), routes, &limits, &context)
            .await
            .unwrap();
    });
    (address, received)
}

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop, uid: u1, generation: 3}
spec: {hosts: [web], http: [{route: [{destination: {host: web}}]}]}
";

fn epoch(number: u64, text: &str) -> Arc<Epoch> {
    let objects = config::parse("x.yaml", text.as_bytes(), "default").objects;
    Arc::new(Epoch {
        number,
        snapshot: Arc::new(Snapshot::build(objects.into_iter().map(Arc::new))),
        seen: Instant::now(),
    })
}

/// The next report's only object.
async fn next(
    received: &mut mpsc::UnboundedReceiver<DistributionReport>,
) -> (DistributionReport, ObjectProgress) {
    let mut report = timeout(LONG, received.recv()).await.expect("a report").unwrap();
    let progress = report.changed.remove(0);
    assert!(report.changed.is_empty(), "{report:?}");
    assert_eq!(progress.object.as_ref().unwrap().name, "shop/web");
    (report, progress)
}

#[tokio::test]
async fn the_leader_is_told_how_far_each_object_has_come() {
    let identity = identities();
    let (leader, mut received) = galley(identity("galley"), None).await;
    let (other, _unused) = galley(identity("galley"), Some(leader)).await;
    let metrics = PilotMetrics::new(&Metrics::new());
    let proxies = Arc::new(Proxies::new(Settings::default(), metrics));
    let pilot = context("pilot");
    let reporting =
        pilot::report::start(&other.to_string(), &identity("pilot"), proxies.clone(), &pilot).unwrap();
    proxies.advance(&epoch(1, MESH));
    let (report, progress) = next(&mut received).await;
    assert!(report.complete && !report.pilot.is_empty(), "{report:?}");
    assert_eq!(
        (progress.uid.as_str(), progress.generation, progress.proxies),
        ("u1", 3, 0)
    );

    // A proxy that has not accepted anything, then all, then rejects the route.
    let node = "sidecar~10.0.0.1~client.shop~shop.svc.cluster.local";
    let stream = StreamId(1);
    let proxy = Proxy::parse(node, None).unwrap();
    let table = proxies.connect(stream, proxy, node, None).unwrap();
    let (report, progress) = next(&mut received).await;
    assert_eq!((progress.proxies, progress.accepted), (1, 0), "{report:?}");
    assert!(report.pilot.is_empty() && !report.complete);
    let wanted = table.borrow().clone();
    proxies.observe(
        stream,
        &Event::Synced {
            table: wanted.clone(),
        },
    );
    let (_, progress) = next(&mut received).await;
    assert_eq!((progress.accepted, progress.rejected), (1, 0));
    let routes = wanted.of_type(&ROUTE);
    let resources = routes.iter().map(|route| Rejection {
        name: route.name.clone(),
        version: route.version,
        message: "no such cluster".into(),
    });
    let rejected = Event::Rejected {
        type_url: ROUTE,
        resources: resources.collect(),
    };
    proxies.observe(stream, &rejected);
    let (_, progress) = next(&mut received).await;
    assert_eq!(
        (progress.accepted, progress.rejected, progress.reason.as_str()),
        (0, 1, "no such cluster")
    );

    // A change that does not touch the object leaves it accepted; one that does not.
    proxies.observe(
        stream,
        &Event::Rejected {
            type_url: ROUTE,
            resources: Vec::new(),
        },
    );
    assert_eq!(next(&mut received).await.1.accepted, 1);
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: more, namespace: shop}\nspec: {ports: [{name: tcp, port: 9000}]}\n";
    proxies.advance(&epoch(2, &format!("{MESH}---\n{service}")));
    let key = ObjectKey::new(config::Kind::VirtualService, "shop", "web");
    let untouched = proxies.progress().unwrap()[&key].clone();
    assert_eq!((untouched.proxies, untouched.accepted), (1, 1), "{untouched:?}");
    let changed = MESH
        .replace("generation: 3", "generation: 4")
        .replace("{host: web}}", "{host: web}, headers: {request: {set: {a: b}}}}");
    proxies.advance(&epoch(3, &changed));
    let (_, progress) = next(&mut received).await;
    assert_eq!((progress.generation, progress.accepted), (4, 0));
    pilot.shutdown.cancel();
    reporting.await.unwrap();
}
