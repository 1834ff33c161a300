//! A delta client that keeps up with a server: it reconnects with backoff and resumes where it was, so that only what
//! changed meanwhile comes again.
//!
//! It does not know what the resources mean; each update goes to its owner before it is acknowledged.

mod backoff;
mod state;

pub use backoff::Backoff;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
pub use state::{State, Subscription, Update, Upsert};
use std::error::Error;
use std::fmt::Display;
use std::future::Future;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

/// Largest response that the client takes.
const MESSAGE_BYTES: usize = 64 << 20;

/// What the owner of a client learns.
#[derive(Debug)]
pub enum Notice {
    /// The server accepted the stream and has begun to answer.
    Connected,
    /// Resources changed.
    Update(Update),
    /// The stream broke. What was learned stays true as far as anyone knows.
    Lost {
        /// Why, for a log.
        error: String,
        /// When the next attempt is made.
        retry: Duration,
    },
}

/// A delta client.
#[derive(Debug)]
pub struct Client<C> {
    connect: C,
    state: State,
    backoff: Backoff,
}

/// Why a stream ended.
#[derive(Debug, Error)]
enum Ended {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("{}", said(.0))]
    Status(#[from] Status),
    #[error("the server ended the stream")]
    Server,
    #[error("the owner has gone")]
    Owner,
}

impl<C, F, E> Client<C>
where
    C: Fn() -> F,
    F: Future<Output = Result<Channel, E>>,
    E: Display,
{
    /// A client that connects by `connect`, each time anew.
    pub fn new(connect: C, state: State) -> Self {
        Self {
            connect,
            state,
            backoff: Backoff::default(),
        }
    }

    /// With other waiting times between attempts.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Runs until the receiver of `notices` is dropped. A full channel holds the server back.
    pub async fn run(mut self, notices: mpsc::Sender<Notice>) {
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.stream(&notices) => ended,
                () = notices.closed() => return,
            };
            self.backoff.lived(began.elapsed());
            if matches!(ended, Ended::Owner) {
                return;
            }
            let retry = self.backoff.next(rand::random());
            let lost = Notice::Lost {
                error: ended.to_string(),
                retry,
            };
            if notices.send(lost).await.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(retry) => {}
                () = notices.closed() => return,
            }
        }
    }

    async fn stream(&mut self, notices: &mpsc::Sender<Notice>) -> Ended {
        match self.try_stream(notices).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn try_stream(
        &mut self,
        notices: &mpsc::Sender<Notice>,
    ) -> Result<std::convert::Infallible, Ended> {
        let channel = (self.connect)()
            .await
            .map_err(|error| Ended::Connect(error.to_string()))?;
        let mut client =
            AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
        let hello = self.state.hello();
        let (requests, outbound) = mpsc::channel::<DeltaDiscoveryRequest>(hello.len().max(1) + 16);
        for request in hello {
            requests.try_send(request).map_err(|_| Ended::Server)?;
        }
        let response = client
            .delta_aggregated_resources(ReceiverStream::new(outbound))
            .await?;
        let mut responses = response.into_inner();
        let mut silent = true;
        while let Some(response) = responses.message().await? {
            if std::mem::take(&mut silent) {
                notices.send(Notice::Connected).await.map_err(|_| Ended::Owner)?;
            }
            let (update, answer) = self.state.on_response(response);
            if let Some(update) = update {
                notices
                    .send(Notice::Update(update))
                    .await
                    .map_err(|_| Ended::Owner)?;
            }
            requests.send(answer).await.map_err(|_| Ended::Server)?;
        }
        Err(Ended::Server)
    }
}

/// A status and what caused it, on one line.
fn said(status: &Status) -> String {
    let mut text = format!("{:?}: {}", status.code(), status.message());
    let mut cause = status.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
