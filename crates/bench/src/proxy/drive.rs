//! A simulated proxy's connection: one HTTP/2 connection with one ADS stream, as Envoy has.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use http::uri::PathAndQuery;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};

use super::Proxy;
use super::wire::RawCodec;
use crate::board::Board;

const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Envoy's default windows (`Http2ProtocolOptions`).
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;
/// Largest response that is taken.
const MESSAGE: usize = 64 << 20;

/// Runs one proxy until its stream ends or the board says stop.
pub(crate) async fn run(channel: Channel, node_id: String, board: Arc<Board>) -> anyhow::Result<()> {
    let mut proxy = Proxy::new(node_id);
    let (requests, mut responses) = open(channel, proxy.hello()).await?;
    loop {
        let raw = tokio::select! {
            raw = responses.message() => raw.context("the stream broke")?,
            () = board.stopped() => return Ok(()),
        };
        let raw = raw.context("the server ended the stream")?;
        let arrived = Instant::now();
        board.record(&raw);
        board.look_for_mark(&raw, arrived);
        let was_ready = proxy.ready;
        for request in proxy.on_response(raw)? {
            requests
                .send(request)
                .await
                .context("the server stopped reading")?;
        }
        if proxy.ready && !was_ready {
            board.ready(arrived, proxy.tally);
        }
    }
}

/// A connection without TLS.
pub(crate) async fn connect(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_nodelay(true);
    endpoint.connect().await.context("cannot connect")
}

async fn open(
    channel: Channel,
    hello: DeltaDiscoveryRequest,
) -> anyhow::Result<(mpsc::Sender<DeltaDiscoveryRequest>, Streaming<Bytes>)> {
    let mut client = Grpc::new(channel).max_decoding_message_size(MESSAGE);
    client.ready().await.context("the connection is not ready")?;
    let (requests, outbound) = mpsc::channel(16);
    requests.send(hello).await?;
    let outbound = tonic::Request::new(ReceiverStream::new(outbound));
    let responses = client
        .streaming(outbound, PathAndQuery::from_static(DELTA), RawCodec)
        .await
        .context("the stream was refused")?;
    Ok((requests, responses.into_inner()))
}
