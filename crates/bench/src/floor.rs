//! The floor: a server that writes bytes recorded from another, with no control plane behind. It answers the first request
//! for each type with the responses of that type, reads what else comes, and nothing more. What a control plane takes
//! beyond this is its own.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use futures::StreamExt;
use futures::future::{Ready, ready};
use http_body_util::StreamBody;
use prost::Message;
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder};
use tonic::server::NamedService;
use tonic::{Status, Streaming};

/// Size of the pieces in which responses are handed to HTTP/2.
const PIECE: usize = 64 << 10;

/// The responses of each type, framed and cut.
type Recorded = BTreeMap<String, Vec<Bytes>>;

/// Writes responses to a file, one after the other with their length before them.
pub(crate) fn save(path: &Path, responses: &[Bytes]) -> anyhow::Result<()> {
    let mut file = BytesMut::new();
    for response in responses {
        file.put_u32(u32::try_from(response.len())?);
        file.extend_from_slice(response);
    }
    Ok(std::fs::write(path, file)?)
}

fn load(path: &Path) -> anyhow::Result<Recorded> {
    use bytes::Buf;
    #[derive(Clone, PartialEq, Message)]
    struct Typed {
        #[prost(string, tag = "4")]
        type_url: String,
    }
    let mut file = Bytes::from(std::fs::read(path)?);
    let mut recorded = Recorded::new();
    while file.remaining() >= 4 {
        let length = file.get_u32() as usize;
        anyhow::ensure!(length <= file.remaining(), "{} is cut off", path.display());
        let message = file.split_to(length);
        let typed = Typed::decode(message.clone())?;
        let mut framed = BytesMut::with_capacity(length + 5);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(length)?);
        framed.extend_from_slice(&message);
        let mut framed = framed.freeze();
        let pieces = recorded.entry(typed.type_url).or_default();
        while !framed.is_empty() {
            pieces.push(framed.split_to(framed.len().min(PIECE)));
        }
    }
    Ok(recorded)
}

/// Serves recorded responses until killed
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File with the responses, as `bench ads` records them
    #[arg(long)]
    recorded: PathBuf,
    /// Loopback address to serve on
    #[arg(long)]
    listen: SocketAddr,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.listen.ip().is_loopback(),
        "--listen: the floor is for loopback only"
    );
    let service = Floor(Arc::new(load(&args.recorded)?));
    // The windows and the rest as Pilot's server has them.
    tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20)
        .tcp_nodelay(true)
        .add_service(service)
        .serve(args.listen)
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Floor(Arc<Recorded>);

impl NamedService for Floor {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower_service::Service<http::Request<Body>> for Floor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let requests = Streaming::new_request(Requests, request.into_body(), None, Some(4 << 20));
        let pieces = Pieces {
            requests,
            recorded: self.0.clone(),
            left: VecDeque::new(),
            answered: Vec::new(),
        };
        let body = StreamBody::new(pieces.map(|piece| piece.map(http_body::Frame::data)));
        let mut response = http::Response::new(Body::new(body));
        let kind = http::HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        ready(Ok(response))
    }
}

struct Requests;

impl Decoder for Requests {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let read = DeltaDiscoveryRequest::decode(bytes);
        read.map(Some)
            .map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// The body of one stream.
struct Pieces {
    requests: Streaming<DeltaDiscoveryRequest>,
    recorded: Arc<Recorded>,
    left: VecDeque<Bytes>,
    answered: Vec<String>,
}

impl futures::Stream for Pieces {
    type Item = Result<Bytes, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.left.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            let request = match this.requests.poll_next_unpin(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(Some(Ok(request))) => request,
            };
            if request.response_nonce.is_empty() && !this.answered.contains(&request.type_url) {
                this.left.extend(
                    this.recorded
                        .get(&request.type_url)
                        .into_iter()
                        .flatten()
                        .cloned(),
                );
                this.answered.push(request.type_url);
            }
        }
    }
}
