//! Shutdown: a signal becomes a cancellation, and what must end is given a bounded time to do so.
//!
//! It knows nothing of what is shut down.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::readiness::Readiness;

/// At the first SIGTERM or SIGINT the process becomes unready, and after `delay` the `token` is cancelled; a second signal
/// ends the process at once with status 130.
///
/// The delay is for those who still send others here: a Kubernetes Service's rules change on the nodes some time after the
/// pod was told to end.
///
/// # Errors
/// When the process cannot install signal handlers.
pub fn on_signal(readiness: Readiness, token: CancellationToken, delay: Duration) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let name = first(&mut term, &mut int).await;
        tracing::info!(
            signal = name,
            ?delay,
            "shutting down; a second signal ends the process at once"
        );
        readiness.drain();
        tokio::select! {
            () = tokio::time::sleep(delay) => token.cancel(),
            _ = first(&mut term, &mut int) => std::process::exit(130),
        }
        first(&mut term, &mut int).await;
        std::process::exit(130);
    });
    Ok(())
}

async fn first(term: &mut Signal, int: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}

/// Runs `work` to its end, but no longer than `grace` after `token` is cancelled; `None` when that time ran out.
pub async fn bounded<F: Future>(work: F, token: &CancellationToken, grace: Duration) -> Option<F::Output> {
    let expired = async {
        token.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        output = work => Some(output),
        () = expired => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_is_bounded_only_after_cancellation() {
        let token = CancellationToken::new();
        let grace = Duration::from_secs(5);
        let slow = |s| async move {
            tokio::time::sleep(Duration::from_secs(s)).await;
            s
        };
        assert_eq!(bounded(slow(1000), &token, grace).await, Some(1000));
        token.cancel();
        assert_eq!(bounded(slow(3), &token, grace).await, Some(3));
        assert_eq!(bounded(slow(6), &token, grace).await, None);
    }
}
