//! Commands that a pod's hooks run beside the agent: `argosy-agent wait` holds the application until the proxy is ready, and
//! `argosy-agent drain` begins to drain it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use runtime::args::duration;

use crate::bootstrap::{HEALTH_PORT, STATUS_PORT};

/// Waits until the proxy is ready
#[derive(Debug, Clone, clap::Args)]
pub struct WaitArgs {
    /// The page that says so; that of the agent in this pod unless given
    #[arg(long, value_name = "URL")]
    pub url: Option<Uri>,
    /// Port of that page, where no URL is given
    #[arg(long, env = "ARGOSY_HEALTH_PORT", value_name = "PORT", default_value_t = HEALTH_PORT)]
    pub health_port: u16,
    /// How long to wait; then it fails
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
    /// How often to ask
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = duration)]
    pub period: Duration,
}

/// Begins to drain the proxy of this pod: its callers go elsewhere, and the application can go on calling others
#[derive(Debug, Clone, clap::Args)]
pub struct DrainArgs {
    /// The agent's port
    #[arg(long, env = "ARGOSY_STATUS_PORT", value_name = "PORT", default_value_t = STATUS_PORT)]
    pub status_port: u16,
}

/// Longest wait for one answer.
const ONE: Duration = Duration::from_millis(500);
/// Longest wait for the answer to a command.
const COMMAND: Duration = Duration::from_secs(5);

fn local(port: u16, path: &str) -> Result<Uri, String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    format!("http://{address}{path}")
        .parse::<Uri>()
        .map_err(|error| error.to_string())
}

async fn ask(method: Method, url: &Uri, patience: Duration) -> Result<StatusCode, String> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::builder().method(method).uri(url).body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    match tokio::time::timeout(patience, client.request(request)).await {
        Ok(Ok(response)) => Ok(response.status()),
        Ok(Err(_)) => Err("no answer".to_owned()),
        Err(_) => Err(format!("no answer within {patience:?}")),
    }
}

/// Asks until the answer is 200.
///
/// # Errors
/// What was answered last, when the time is up.
pub async fn wait(args: &WaitArgs) -> Result<(), String> {
    let url = match &args.url {
        Some(url) => url.clone(),
        None => local(args.health_port, "/healthz/ready")?,
    };
    let end = tokio::time::Instant::now() + args.timeout;
    loop {
        let last = match ask(Method::GET, &url, ONE).await {
            Ok(StatusCode::OK) => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error,
        };
        if tokio::time::Instant::now() + args.period > end {
            let bound = args.timeout;
            return Err(format!(
                "{url} was not ready within {bound:?}: {last}; see the proxy's log"
            ));
        }
        tokio::time::sleep(args.period).await;
    }
}

/// Has the agent drain its Envoy.
///
/// # Errors
/// When the agent does not answer, or cannot.
pub async fn drain(args: &DrainArgs) -> Result<(), String> {
    let url = local(args.status_port, "/drain")?;
    match ask(Method::POST, &url, COMMAND).await? {
        StatusCode::OK => Ok(()),
        status => Err(format!("the agent at {url} answered {status}")),
    }
}

/// Runs one of these commands as a process; prints one line when it fails.
pub fn main(name: &str, command: impl Future<Output = Result<(), String>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(command))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("argosy-agent {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::Router;
    use axum::routing::get;

    use super::*;

    async fn serve(router: Router) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        port
    }

    fn args(health_port: u16, timeout: Duration) -> WaitArgs {
        WaitArgs {
            url: None,
            health_port,
            timeout,
            period: Duration::from_millis(10),
        }
    }

    #[tokio::test]
    async fn waiting_ends_when_the_proxy_is_ready_or_the_time_is_up() {
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let page = get(move || {
            let ready = count.fetch_add(1, Ordering::Relaxed) >= 2;
            async move {
                if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                }
            }
        });
        let port = serve(Router::new().route("/healthz/ready", page)).await;
        wait(&args(port, Duration::from_secs(60))).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        let port = serve(Router::new()).await;
        let error = wait(&args(port, Duration::from_millis(50))).await.unwrap_err();
        assert!(error.contains("404"), "{error}");
    }
}
