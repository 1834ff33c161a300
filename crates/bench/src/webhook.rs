//! `bench webhook`: reviews at a fixed rate over TLS, whether or not the ones before have been answered (open loop). A
//! request's time counts from the moment at which it was to be sent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinSet;

use crate::galley::Galley;
use crate::process::{milliseconds, quantile};

/// Seconds before the measurement, whose requests are not counted.
const WARM: f64 = 2.0;

/// Measures Galley's admission webhook
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Reviews a second
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Seconds of load
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// HTTP/2 connections; an API server has one for each webhook
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// Routes of the VirtualService that is reviewed; the larger they are, the longer it takes
    #[arg(long, default_value_t = 5)]
    routes: usize,
    /// The one processor that Galley may use
    #[arg(long, default_value_t = 0)]
    cpu: u32,
}

pub(crate) async fn run(args: &Args) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("none.yaml"), "# no object\n")?;
    let galley = Galley::start(folder.path(), Some(args.cpu))?;
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        connections.push(connect(&galley).await?);
    }
    let body = Bytes::from(review(args.routes));
    let size = body.len();
    load(args, &connections, &body, WARM).await?;
    let (before, start) = (galley.cpu()?, Instant::now());
    let mut times = load(args, &connections, &body, f64::from(args.seconds)).await?;
    let spent = galley.cpu()?.since(&before);
    times.sort();
    let quantile = |share| milliseconds(quantile(&times, share));
    println!(
        "{} reviews of {size} bytes over TLS, {:.0} a second, all answered: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms",
        times.len(),
        times.len() as f64 / start.elapsed().as_secs_f64(),
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        quantile(1.0)
    );
    println!(
        "processor time of Galley: {:.3} ms a review, {:.0} % of its one processor",
        milliseconds(spent) / times.len() as f64,
        spent.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0
    );
    Ok(())
}

type Connection = SendRequest<Full<Bytes>>;

async fn connect(galley: &Galley) -> anyhow::Result<Connection> {
    let start = Instant::now();
    let stream = loop {
        match galley.connect_webhook().await {
            Ok(stream) => break stream,
            Err(error) if start.elapsed() > Duration::from_secs(10) => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends at the rate for so long; how long each took.
async fn load(
    args: &Args,
    connections: &[Connection],
    body: &Bytes,
    seconds: f64,
) -> anyhow::Result<Vec<Duration>> {
    let count = (f64::from(args.rate) * seconds) as u32;
    let each = Duration::from_secs(1) / args.rate;
    let start = tokio::time::Instant::now();
    let mut running: JoinSet<anyhow::Result<Duration>> = JoinSet::new();
    for (number, connection) in (0..count).zip(connections.iter().cycle()) {
        let due = start + each * number;
        tokio::time::sleep_until(due).await;
        let (connection, body) = (connection.clone(), body.clone());
        running.spawn(async move {
            ask(connection, body).await?;
            Ok(due.elapsed())
        });
    }
    running.join_all().await.into_iter().collect()
}

async fn ask(mut connection: Connection, body: Bytes) -> anyhow::Result<()> {
    let request = Request::post("https://galley.argosy-system.svc/validate?timeout=10s")
        .header("content-type", "application/json")
        .header("content-length", body.len())
        .body(Full::new(body))?;
    let response = connection.send_request(request).await?;
    anyhow::ensure!(response.status() == StatusCode::OK, "{}", response.status());
    let answer = response.into_body().collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&answer);
    anyhow::ensure!(text.contains("\"allowed\":true"), "{text}");
    Ok(())
}

/// An update of a VirtualService with so many routes, as an API server asks.
fn review(routes: usize) -> String {
    let route = |number: usize| {
        format!(
            r#"{{"name":"route-{number}","match":[{{"uri":{{"prefix":"/api/v{number}"}},"headers":{{"x-user":{{"regex":"a.*"}}}}}}],"retries":{{"attempts":3,"perTryTimeout":"2s"}},"route":[{{"destination":{{"host":"reviews","subset":"v1"}},"weight":90}},{{"destination":{{"host":"reviews","subset":"v2"}},"weight":10}}]}}"#
        )
    };
    let object = |generation: u32| {
        let routes: Vec<String> = (0..routes).map(route).collect();
        format!(
            r#"{{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{{"name":"reviews","namespace":"shop","generation":{generation}}},"spec":{{"hosts":["reviews"],"http":[{}]}}}}"#,
            routes.join(",")
        )
    };
    format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","operation":"UPDATE","name":"reviews","namespace":"shop","kind":{{"group":"networking.istio.io","version":"v1","kind":"VirtualService"}},"object":{},"oldObject":{}}}}}"#,
        object(4),
        object(3)
    )
}
