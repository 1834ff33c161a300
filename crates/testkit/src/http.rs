//! An HTTP client for tests: one request at a time, nothing retried, everything bounded.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client as Inner;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// The default time for one request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer that is read.
const MAX_ANSWER: usize = 64 << 20;

/// Makes requests over HTTP/1.1. Connections are kept; cloning shares them.
#[derive(Clone)]
pub struct Client {
    inner: Inner<HttpConnector, Full<Bytes>>,
}

impl Default for Client {
    fn default() -> Self {
        Self::over(HttpConnector::new())
    }
}

impl Client {
    /// A client whose connections come from `address`.
    pub fn from_address(address: IpAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(address));
        Self::over(connector)
    }

    fn over(connector: HttpConnector) -> Self {
        Self {
            inner: Inner::builder(TokioExecutor::new())
                .retry_canceled_requests(false)
                .build(connector),
        }
    }

    /// A GET of `url`.
    pub fn get(&self, url: impl AsRef<str>) -> Request<'_> {
        self.request("GET", url)
    }

    /// A request of any method.
    pub fn request(&self, method: &str, url: impl AsRef<str>) -> Request<'_> {
        let builder = http::Request::builder().method(method).uri(url.as_ref());
        Request {
            client: self,
            builder,
            body: Bytes::new(),
            timeout: TIMEOUT,
        }
    }
}

/// A request being made up.
pub struct Request<'a> {
    client: &'a Client,
    builder: http::request::Builder,
    body: Bytes,
    timeout: Duration,
}

impl Request<'_> {
    /// Adds a header; `host` names another host than the one connected to.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.builder = self.builder.header(name, value.as_ref());
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// How long the answer may take; 20 s when not set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// No connection, a connection that ended, no answer in time.
    pub async fn send(self) -> anyhow::Result<Response> {
        let request = self.builder.body(Full::new(self.body)).context("not a request")?;
        let what = format!("{} {}", request.method(), request.uri());
        let started = Instant::now();
        let answer = async {
            let (parts, body) = self.client.inner.request(request).await?.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error).context("the answer broke off"))?;
            anyhow::Ok(Response {
                status: parts.status.as_u16(),
                headers: parts.headers,
                body: body.to_bytes(),
                elapsed: started.elapsed(),
            })
        };
        let answer = tokio::time::timeout(self.timeout, answer).await;
        answer
            .with_context(|| format!("{what}: no answer within {:?}", self.timeout))?
            .with_context(|| what.clone())
    }
}

/// The pairs as a URL's query, escaped.
pub fn query(pairs: &[(impl AsRef<str>, impl AsRef<str>)]) -> String {
    let pair =
        |(name, value): &(_, _)| format!("{}={}", escape(AsRef::as_ref(name)), escape(AsRef::as_ref(value)));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: http::HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// From sending until the body was read.
    pub elapsed: Duration,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON; with its beginning.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!(
                "status {}, not JSON: {}",
                self.status,
                self.text().chars().take(300).collect::<String>()
            )
        })
    }

    /// A header's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// This answer, if its status is `status`.
    ///
    /// # Errors
    /// It is another; with the beginning of the body.
    pub fn expect_status(self, status: u16) -> anyhow::Result<Self> {
        let body: String = self.text().chars().take(300).collect();
        anyhow::ensure!(
            self.status == status,
            "status {} instead of {status}: {body}",
            self.status
        );
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_escaped() {
        assert_eq!(
            query(&[("path", "/a?b=c&d"), ("n", "1")]),
            "path=%2Fa%3Fb%3Dc%26d&n=1"
        );
    }
}
