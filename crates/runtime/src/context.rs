//! What a service is given to run with, and the main function that all binaries share.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::args::Common;
use crate::listen;
use crate::logging::{self, LogFormat, LogHandle};
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::shutdown;

/// What a service shares with its process. Clones share it too.
#[derive(Debug, Clone)]
pub struct Context {
    /// The service's name: `galley`, `pilot`, `citadel`, `mixer`, `agent`.
    pub service: &'static str,
    /// The process's metrics.
    pub metrics: Metrics,
    /// The process's readiness; conditions made from it carry the service's name.
    pub readiness: Readiness,
    /// The process's admin server.
    pub admin: Admin,
    /// Cancelled when the service should end.
    pub shutdown: CancellationToken,
    /// How long requests and streams may take to end after that.
    pub grace: Duration,
}

impl Context {
    /// A context for a process with one service, or the first of several.
    #[must_use]
    pub fn new(service: &'static str, log: LogHandle, grace: Duration) -> Self {
        let metrics = Metrics::new();
        let all = Readiness::new();
        let admin = Admin::new(metrics.clone(), all.clone(), log);
        let shutdown = CancellationToken::new();
        Self {
            service,
            metrics,
            readiness: all.scoped(service),
            admin,
            shutdown,
            grace,
        }
    }

    /// A context for another service of the same process; it ends when this one does, and may end before.
    #[must_use]
    pub fn child(&self, service: &'static str) -> Self {
        let readiness = self.readiness.root().scoped(service);
        Self {
            service,
            readiness,
            shutdown: self.shutdown.child_token(),
            ..self.clone()
        }
    }
}

/// A binary's whole life: logs, admin server, signals, the service, and an exit status. Prints one line when it fails.
///
/// The admin server lives longer than the service, so that `/readyz` tells of the shutdown.
pub fn service_main<F, Fut, E>(
    service: &'static str,
    common: &Common,
    admin_default: SocketAddr,
    run: F,
) -> ExitCode
where
    F: FnOnce(Context) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let main = async {
        let context = Context::new(service, logging::init(&common.log)?, common.shutdown_grace);
        let readiness = context.readiness.clone();
        shutdown::on_signal(readiness, context.shutdown.clone(), common.shutdown_delay)?;
        let address = common.admin_address.unwrap_or(admin_default);
        let listener = listen::bind("--admin-address", address).await?;
        let admin_end = CancellationToken::new();
        let admin = tokio::spawn(context.admin.clone().serve(listener, admin_end.clone()));
        tracing::info!(service, %address, version = env!("CARGO_PKG_VERSION"), "admin server listens");
        let draining = drain_on_shutdown(&context);
        let result = run(context).await.map_err(Into::into);
        draining.abort();
        admin_end.cancel();
        let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
        result
    };
    let result = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| {
            let result = runtime.block_on(main);
            runtime.shutdown_timeout(Duration::from_secs(1));
            result
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(service, common, &describe(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The last line: plain for people, an event for machines (unless logs could not be set up).
fn report(service: &'static str, common: &Common, error: &str) {
    match common.log.log_format {
        LogFormat::Json if tracing::event_enabled!(tracing::Level::ERROR) => {
            tracing::error!(service, error, "ended")
        }
        _ => eprintln!("{service}: {error}"),
    }
}

/// Marks the process unready as soon as its shutdown begins.
pub fn drain_on_shutdown(context: &Context) -> tokio::task::JoinHandle<()> {
    let (shutdown, readiness) = (context.shutdown.clone(), context.readiness.clone());
    tokio::spawn(async move {
        shutdown.cancelled().await;
        readiness.drain();
    })
}

/// An error and its causes on one line; a cause that its effect's message already has is not repeated.
#[must_use]
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn services_of_one_process_share_readiness_but_end_alone() {
        let first = Context::new("galley", LogHandle::detached(), Duration::ZERO);
        let second = first.child("pilot");
        let _feed = second.readiness.condition("feed");
        assert_eq!(first.readiness.missing()[0].condition, "pilot/feed");
        second.shutdown.cancel();
        assert!(!first.shutdown.is_cancelled());
        let third = first.child("mixer");
        first.shutdown.cancel();
        assert!(third.shutdown.is_cancelled());
    }

    #[test]
    fn causes_are_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read {0}")]
        struct Outer(&'static str, #[source] std::io::Error);
        let error = Outer("x", std::io::Error::other("disk\ngone"));
        assert_eq!(describe(&error), "cannot read x: disk gone");
    }
}
