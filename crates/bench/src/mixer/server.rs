//! What proxies ask, in a process of its own: Mixer over a file of objects, or a server that says yes to everything, checks and
//! quotas.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::google::rpc;
use mixer::{Clock, Mixer};
use runtime::grpc::{self, Limits};
use runtime::logging::LogHandle;
use runtime::tls::{self, ClientAuth};
use runtime::{Context, Identity};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::generated::objects;
use crate::galley::load;

/// Serves ext_authz and access logs (what `bench mixer` starts).
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    listen: SocketAddr,
    /// Folder with the server's certificate
    #[arg(long)]
    identity: PathBuf,
    /// Objects in YAML; without them everything is answered by yes
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Says yes to everything.
#[derive(Debug)]
struct Yes;

#[tonic::async_trait]
impl Authorization for Yes {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(CheckResponse {
            status: Some(rpc::Status::default()),
            ..CheckResponse::default()
        }))
    }
}

#[tonic::async_trait]
impl RateLimitService for Yes {
    async fn should_rate_limit(
        &self,
        _: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        Ok(Response::new(RateLimitResponse {
            overall_code: Code::Ok.into(),
            ..RateLimitResponse::default()
        }))
    }
}

/// The hidden subcommand: serves until it is killed.
pub(crate) async fn serve(args: Args) -> anyhow::Result<()> {
    let identity = Identity::fixed(load(&args.identity)?);
    let context = Context::new("mixer", LogHandle::detached(), Duration::from_secs(1));
    let routes = match args.config {
        None => Routes::new(AuthorizationServer::new(Yes)).add_service(RateLimitServiceServer::new(Yes)),
        Some(path) => {
            let mixer = Mixer::new(&mixer::Args::default(), Clock::system(), &context.metrics);
            mixer.configure(state(&path)?);
            anyhow::ensure!(mixer.findings().is_empty(), "{:?}", mixer.findings());
            let (routes, working) = mixer.services(context.shutdown.clone());
            tokio::spawn(working);
            routes
        }
    };
    let listener = runtime::bind("--listen", args.listen).await?;
    let tls = tls::server(&identity, ClientAuth::Required)?;
    Ok(grpc::serve("mixer", listener, Some(tls), routes, &Limits::default(), &context).await?)
}

fn state(path: &std::path::Path) -> anyhow::Result<Arc<feed::State>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let objects = objects(&text)?.into_iter();
    Ok(Arc::new(feed::State {
        objects: objects.map(|object| (object.key(), object)).collect(),
    }))
}
