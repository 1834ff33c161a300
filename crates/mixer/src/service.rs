//! Puts Mixer's parts together and on the network.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::AccessLogServiceServer;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::AuthorizationServer;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_server::MetricsServiceServer as EnvoyMetricsServer;
use feed::State;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::LogsServiceServer;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::MetricsServiceServer;
use proto::mixer::mixer_server::MixerServer;
use runtime::admin::MountError;
use runtime::grpc::{Limits, MAX_MESSAGE, ServeError};
use runtime::tls::{self, ClientAuth, ConfigError};
use runtime::{BindError, Context, Identity, Metrics, grpc};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::args::Args;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::frontends::{AccessLogs, Checks, Logs, Metrics as OtlpMetrics, MixerApi, RateLimitServer, Stream};
use crate::policies;
use crate::reports::{self, Worker};
use crate::wire::series::Series;
use crate::{configuration, pages};

/// Mixer could not start, or stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address could not be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The feed cannot be followed with these settings.
    #[error(transparent)]
    Feed(#[from] feed::FollowError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] ConfigError),
    /// The page on the admin port could not be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The gRPC server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The Prometheus adapter's server failed.
    #[error("the Prometheus page: {0}")]
    Page(std::io::Error),
}

/// Mixer without its sockets: what [`run`] serves.
#[derive(Debug, Clone)]
pub struct Mixer {
    engine: Arc<Engine>,
}

impl Mixer {
    /// A Mixer without configuration. Of the flags, those for adapters count.
    #[must_use]
    pub fn new(args: &Args, clock: Clock, metrics: &Metrics) -> Self {
        Self {
            engine: Arc::new(Engine::new(args, clock, metrics)),
        }
    }

    /// Puts a state of the feed in force. It takes a while: keep it off the requests' path.
    pub fn configure(&self, state: Arc<State>) {
        self.engine.configure(state);
    }

    /// The gRPC services, and what works their reports off, as long as the services live. `shutdown` ends streams.
    /// The services find the caller's identity where [`runtime::grpc::serve`] puts it.
    pub fn services(&self, shutdown: CancellationToken) -> (Routes, impl Future<Output = ()> + Send + use<>) {
        let (queue, worker): (_, Worker) = reports::queue(self.engine.clone());
        let checks = AuthorizationServer::new(Checks(self.engine.clone()));
        let limits = RateLimitServer::new(self.engine.clone());
        let series = Arc::<Series>::default();
        let stream = EnvoyMetricsServer::new(Stream {
            engine: self.engine.clone(),
            series: series.clone(),
            shutdown: shutdown.clone(),
        });
        let metrics = MetricsServiceServer::new(OtlpMetrics {
            engine: self.engine.clone(),
            series,
        });
        let logs = AccessLogServiceServer::new(AccessLogs { queue, shutdown });
        let records = LogsServiceServer::new(Logs(self.engine.clone()));
        let api = MixerServer::new(MixerApi::new(self.engine.clone()));
        let routes = Routes::new(checks.max_decoding_message_size(MAX_MESSAGE))
            .add_service(limits)
            .add_service(logs.max_decoding_message_size(MAX_MESSAGE))
            .add_service(records.max_decoding_message_size(MAX_MESSAGE))
            .add_service(metrics.max_decoding_message_size(MAX_MESSAGE))
            .add_service(stream.max_decoding_message_size(MAX_MESSAGE))
            .add_service(api.max_decoding_message_size(MAX_MESSAGE));
        (routes, worker.run())
    }

    /// The graph of services as its page shows it, JSON.
    #[must_use]
    pub fn graph(&self) -> serde_json::Value {
        pages::graph(&self.engine)
    }

    /// The Prometheus adapter's page.
    #[must_use]
    pub fn page(&self) -> String {
        self.engine.page()
    }

    /// Serves that page, as at `--prometheus-address`, until `shutdown`.
    ///
    /// # Errors
    /// The listener failed.
    pub fn serve_page(
        &self,
        listener: tokio::net::TcpListener,
        shutdown: CancellationToken,
    ) -> impl Future<Output = std::io::Result<()>> + Send + use<> {
        axum::serve(listener, pages::prometheus(self.engine.clone()))
            .with_graceful_shutdown(shutdown.cancelled_owned())
            .into_future()
    }

    /// What is wrong with the configuration in force.
    #[must_use]
    pub fn findings(&self) -> Arc<Vec<config::Finding>> {
        self.engine.findings()
    }
}

/// When a proxy is asked to connect anew, in seconds: each Mixer takes its own time, so that a mesh's proxies do not all come at once.
const CONNECTION_AGE: RangeInclusive<u64> = 240..=360;

/// Bounds of Mixer's listener: checks may name some thousand rules ([`policy::RULES_METADATA`]). Connections have an age, since behind
/// a Service's address each stays with the Mixer that it was made to: one that is added later would have nothing to do.
fn limits() -> Limits {
    Limits {
        header_list: 64 << 10,
        connection_age: Some(Duration::from_secs(rand::random_range(CONNECTION_AGE))),
        ..Limits::default()
    }
}

/// Runs Mixer until the context's shutdown.
///
/// # Errors
/// When an address cannot be had, a setting cannot work, or a server fails.
pub async fn run(args: Args, identity: Identity, context: Context) -> Result<(), Error> {
    let listener = runtime::bind("--listen", args.listen).await?;
    let page = runtime::bind("--prometheus-address", args.prometheus_address).await?;
    let mixer = Mixer::new(&args, Clock::system(), &context.metrics);
    context
        .admin
        .mount(pages::DEBUG_MIXER, pages::debug_config(mixer.engine.clone()))?;

    let options = feed::Options {
        address: args.galley_address,
        kinds: policies::kinds(),
    };
    let states = feed::follow(&options, &identity, &context)?;
    let ready = context.readiness.condition("configuration");
    let following = tokio::spawn(configuration::follow(mixer.engine.clone(), states, ready));

    let (routes, working) = mixer.services(context.shutdown.clone());
    let working = tokio::spawn(working);
    tracing::info!(service = context.service, address = %args.prometheus_address, "Prometheus page listens");
    let paging = mixer.serve_page(page, context.shutdown.clone());
    let tls = tls::server(&identity, ClientAuth::Required)?;
    let limits = limits();
    let serving = grpc::serve("mixer", listener, Some(tls), routes, &limits, &context);
    let served = async {
        tokio::select! {
            served = serving => served.map_err(Error::from),
            paged = paging => paged.map_err(Error::Page),
        }
    }
    .await;
    following.abort();
    // The services are gone, and with them the queue: what waits is worked off.
    let _ = tokio::time::timeout(context.grace, working).await;
    mixer.engine.close(context.grace).await;
    context.admin.unmount(pages::DEBUG_MIXER);
    served
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_come_again_to_whichever_mixer_there_is() {
        let age = limits().connection_age.unwrap().as_secs();
        assert!(CONNECTION_AGE.contains(&age), "{age}");
    }
}
