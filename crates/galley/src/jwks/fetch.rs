//! One fetch: a GET, bounded in time and size, to an address that may be called.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use serde_json::Value;

use super::SetupError;
use super::address::{Forbidden, Guard};
use super::fill::Source;
use super::keys::{self, KeysError};

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 1 << 20;
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Where issuers describe themselves (OpenID Connect Discovery 1.0, section 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why keys were not fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The address is none.
    #[error("{url:?} is not a URL of HTTP: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The address may not be called.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// TLS cannot be set up.
    #[error("the client that fetches keys cannot be made: {0}")]
    Client(String),
    /// There was no answer.
    #[error("{}", chain(.0))]
    Http(#[from] reqwest::Error),
    /// The answer is not 200.
    #[error("{url} answers {status}{}", hint(.status))]
    Status {
        /// What was asked.
        url: String,
        /// The answer's status.
        status: u16,
    },
    /// The answer is too long.
    #[error("the answer has more than {MAX_ANSWER} bytes")]
    TooLong,
    /// The answer holds no keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The issuer describes itself as somebody else, or not at all.
    #[error("{url}: {reason}; give jwksUri or jwks")]
    Discovery {
        /// What was asked.
        url: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// What else there is to say of an answer.
fn hint(status: &u16) -> &'static str {
    match status {
        300..=399 => "; redirects are not followed, name the place itself",
        _ => "",
    }
}

/// An error with all its causes; the URL stands in front once.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Fetches keys.
#[derive(Debug)]
pub(super) struct Fetcher {
    /// Or why there is none: a machine without root certificates, say, which is no reason to serve nothing.
    client: Result<Client, String>,
    guard: Guard,
}

impl Fetcher {
    pub(super) fn new(allowed: &[IpNet], roots: Option<&Path>) -> Result<Self, SetupError> {
        let guard = Guard::new(allowed);
        let mut client = Client::builder()
            .redirect(Policy::none())
            // A proxy would resolve names by itself, and call what this one must not.
            .no_proxy()
            .dns_resolver(Arc::new(guard.clone()))
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(0)
            .user_agent("argosy-galley");
        if let Some(path) = roots {
            let failed = |reason: String| SetupError::Roots {
                path: path.to_owned(),
                reason,
            };
            let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|error| failed(error.to_string()))?;
            client = client.tls_certs_merge(roots);
        }
        let client = client.build().map_err(|error| chain(&error));
        Ok(Self { client, guard })
    }

    /// The keys of a source.
    pub(super) async fn fetch(&self, source: &Source) -> Result<Arc<str>, FetchError> {
        let uri = match source.uri.as_str() {
            "" => self.discover(source).await?,
            uri => uri.to_owned(),
        };
        let answer = self.get(&uri, source.timeout).await?;
        Ok(keys::usable(&answer)?.into())
    }

    /// Where an issuer says that its keys are. It must say that it is that issuer.
    async fn discover(&self, source: &Source) -> Result<String, FetchError> {
        let url = format!("{}{DISCOVERY}", source.issuer.trim_end_matches('/'));
        let answer = self.get(&url, source.timeout).await?;
        let failed = |reason: &str| FetchError::Discovery {
            url: url.clone(),
            reason: reason.to_owned(),
        };
        let answer: Value = serde_json::from_slice(&answer).map_err(|_| failed("the answer is not JSON"))?;
        let field = |name: &str| answer.get(name).and_then(Value::as_str);
        if field("issuer") != Some(&source.issuer) {
            return Err(failed("the answer is for another issuer"));
        }
        let uri = field("jwks_uri").ok_or_else(|| failed("the answer has no jwks_uri"))?;
        Ok(uri.to_owned())
    }

    async fn get(&self, url: &str, timeout: Duration) -> Result<Vec<u8>, FetchError> {
        let bad = |reason: String| FetchError::Url {
            url: url.to_owned(),
            reason,
        };
        let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        match (parsed.scheme(), parsed.host_str()) {
            ("http" | "https", Some(host)) => self.guard.check(host)?,
            _ => {
                return Err(bad(
                    "it must begin with http:// or https:// and name a host".to_owned()
                ));
            }
        }
        let client = self
            .client
            .as_ref()
            .map_err(|why| FetchError::Client(why.clone()))?;
        let mut answer = client.get(parsed).timeout(timeout).send().await?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status {
                url: url.to_owned(),
                status: answer.status().as_u16(),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
