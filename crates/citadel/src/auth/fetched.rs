//! Keys of token issuers that are fetched: from a `jwksUri`, or from where the issuer's own document says they are (OpenID
//! Connect Discovery 1.0). Fetched beside requests and never in one; the last good ones stay, and an issuer whose keys never
//! came accepts nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::{StreamExt, stream};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;
use tokio::sync::Notify;

use super::jwks::{JwksError, KeySet};
use crate::identity_file::{IdentityConfig, RemoteIssuer, TokenIssuer};

/// How often keys are fetched, how soon again after a failure, and how soon for a key that is not among them: an issuer
/// that has new keys publishes them first.
const REFRESH: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(5);
const HURRY: Duration = Duration::from_secs(10);
/// Issuers that are asked at once.
const AT_ONCE: usize = 16;
/// How often it is looked what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Longest time for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const MAX_ANSWER: usize = 256 << 10;

/// Keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// An address that is not one, or not HTTPS.
    #[error("{0:?} is not an https address")]
    Address(String),
    /// The connection, or TLS.
    #[error("{0}")]
    Http(String),
    /// Another status than 200; redirects are not followed.
    #[error("{url} answers {status}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
    },
    /// Too much.
    #[error("{0} answers more than {MAX_ANSWER} bytes")]
    TooLarge(String),
    /// The issuer's document.
    #[error("{url} is not an issuer's document: {reason}")]
    Document {
        /// Its address.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The keys.
    #[error("{url}: {source}")]
    Keys {
        /// Their address.
        url: String,
        /// What is wrong.
        source: JwksError,
    },
}

/// The issuers whose keys are fetched, as they are now.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    issuers: ArcSwap<BTreeMap<String, Known>>,
    /// Somebody has shown a token whose key is not known.
    missed: Notify,
}

/// What is known of one issuer.
#[derive(Debug, Clone)]
pub(crate) enum Known {
    /// Its keys.
    Keys(Arc<TokenIssuer>),
    /// Why there are none yet.
    Nothing(String),
}

/// When an issuer was asked, and with what outcome.
struct Asked {
    remote: RemoteIssuer,
    at: Instant,
    failed: bool,
}

impl Asked {
    fn is_due(&self, hurried: bool) -> bool {
        let age = self.at.elapsed();
        match (self.failed, hurried) {
            (true, _) => age >= RETRY,
            (false, true) => age >= HURRY,
            (false, false) => age >= REFRESH,
        }
    }
}

impl Fetched {
    /// What is known of the issuer of that name; `None` when its keys are not fetched.
    pub(crate) fn find(&self, issuer: &str) -> Option<Known> {
        self.issuers.load().get(issuer).cloned()
    }

    /// Has keys fetched soon, because one is missing.
    pub(crate) fn missed(&self) {
        self.missed.notify_one();
    }

    /// Fetches until dropped.
    pub(crate) async fn run(self: Arc<Self>, config: Arc<ArcSwap<IdentityConfig>>) {
        let mut asked: BTreeMap<String, Asked> = BTreeMap::new();
        loop {
            let hurried = tokio::time::timeout(LOOK, self.missed.notified()).await.is_ok();
            let wanted = config.load_full();
            // An issuer that is described in another way now is another one.
            asked.retain(|name, asked| {
                let same = |remote: &RemoteIssuer| remote.issuer == *name && *remote == asked.remote;
                wanted.remote_issuers.iter().any(same)
            });
            let mut issuers = BTreeMap::clone(&self.issuers.load());
            issuers.retain(|name, _| asked.contains_key(name));
            let is_due = |remote: &&RemoteIssuer| {
                let asked = asked.get(&remote.issuer);
                asked.is_none_or(|asked| asked.is_due(hurried))
            };
            let due: Vec<RemoteIssuer> = wanted.remote_issuers.iter().filter(is_due).cloned().collect();
            // One that is slow holds up no other; each is known as soon as it has answered.
            let mut answers = stream::iter(due)
                .map(|remote| async {
                    let result = fetch(&remote).await;
                    (remote, result)
                })
                .buffer_unordered(AT_ONCE);
            self.issuers.store(Arc::new(issuers.clone()));
            while let Some((remote, result)) = answers.next().await {
                let failed = result.is_err();
                take(&mut issuers, &remote, result);
                self.issuers.store(Arc::new(issuers.clone()));
                let now = Asked {
                    at: Instant::now(),
                    failed,
                    remote,
                };
                asked.insert(now.remote.issuer.clone(), now);
            }
        }
    }
}

fn take(issuers: &mut BTreeMap<String, Known>, remote: &RemoteIssuer, result: Result<KeySet, FetchError>) {
    let known = match result {
        Ok(keys) => Known::Keys(Arc::new(TokenIssuer {
            issuer: remote.issuer.clone(),
            audiences: remote.audiences.clone(),
            keys: Arc::new(keys),
        })),
        Err(error) => {
            let last = issuers.get(&remote.issuer);
            let has_keys = matches!(last, Some(Known::Keys(_)));
            tracing::warn!(issuer = remote.issuer, %error, has_keys, "keys of a token issuer cannot be fetched");
            match last {
                Some(last @ Known::Keys(_)) => last.clone(),
                _ => Known::Nothing(error.to_string()),
            }
        }
    };
    issuers.insert(remote.issuer.clone(), known);
}

async fn fetch(remote: &RemoteIssuer) -> Result<KeySet, FetchError> {
    let client = client(remote)?;
    let keys = match &remote.jwks_uri {
        Some(uri) => uri.clone(),
        None => {
            let url = document_url(&remote.issuer);
            let bytes = get(&client, &url).await?;
            document(&url, &bytes, &remote.issuer)?
        }
    };
    let bytes = get(&client, &keys).await?;
    let text = String::from_utf8_lossy(&bytes);
    let set = KeySet::parse_usable(&text).map_err(|source| FetchError::Keys {
        url: keys.clone(),
        source,
    })?;
    if set.skipped() > 0 {
        let (skipped, issuer) = (set.skipped(), &remote.issuer);
        tracing::warn!(
            issuer,
            url = keys,
            skipped,
            "keys of a token issuer are of no use here; its others count"
        );
    }
    Ok(set)
}

fn client(remote: &RemoteIssuer) -> Result<Client, FetchError> {
    let mut builder = Client::builder()
        .redirect(Policy::none())
        // Who sets a variable of the environment does not choose whose keys these are.
        .no_proxy()
        .https_only(true)
        .connect_timeout(TIMEOUT)
        .timeout(TIMEOUT);
    if let Some(roots) = &remote.roots {
        let roots = Certificate::from_pem_bundle(roots).map_err(said)?;
        builder = builder.tls_certs_only(roots);
    }
    builder.build().map_err(said)
}

#[allow(clippy::needless_pass_by_value, reason = "as the argument of map_err")]
fn said(error: reqwest::Error) -> FetchError {
    FetchError::Http(runtime::context::describe(&error))
}

async fn get(client: &Client, url: &str) -> Result<Vec<u8>, FetchError> {
    let parsed = Url::parse(url).ok().filter(|parsed| parsed.scheme() == "https");
    let parsed = parsed.ok_or_else(|| FetchError::Address(url.to_owned()))?;
    let mut answer = client.get(parsed).send().await.map_err(said)?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status {
            url: url.to_owned(),
            status: answer.status().as_u16(),
        });
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(said)? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(FetchError::TooLarge(url.to_owned()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Where an issuer's document is (OpenID Connect Discovery 1.0, section 4).
fn document_url(issuer: &str) -> String {
    format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    )
}

/// Where the keys are, by a document that must be of just this issuer (section 4.3).
fn document(url: &str, bytes: &[u8], issuer: &str) -> Result<String, FetchError> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let wrong = |reason: String| FetchError::Document {
        url: url.to_owned(),
        reason,
    };
    let document: Document = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    match document.issuer == issuer {
        true => Ok(document.jwks_uri),
        false => Err(wrong(format!("its issuer is {:?}", document.issuer))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::IssuerKey;

    const ISSUER: &str = "https://issuer.example";

    #[test]
    fn a_document_must_be_the_issuers_own() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let seen = document("u", text.as_bytes(), ISSUER).map_err(|error| error.to_string());
            match (seen, expected) {
                (Ok(uri), Ok(wanted)) => assert_eq!(uri, wanted),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (seen, _) => panic!("{text}: {seen:?}"),
            }
        };
        check(
            r#"{"issuer": "https://issuer.example", "jwks_uri": "https://keys", "more": 1}"#,
            Ok("https://keys"),
        );
        for other in [
            "https://issuer.example/",
            "https://Issuer.example",
            "http://issuer.example",
            "",
        ] {
            check(
                &format!(r#"{{"issuer": "{other}", "jwks_uri": "https://keys"}}"#),
                Err("its issuer is"),
            );
        }
        check(r#"{"issuer": "https://issuer.example"}"#, Err("jwks_uri"));
        check("[]", Err("not an issuer's document"));
        assert_eq!(
            document_url("https://a/b/"),
            "https://a/b/.well-known/openid-configuration"
        );
    }

    #[tokio::test]
    async fn only_https_is_asked() {
        let client = Client::builder().https_only(true).build().unwrap();
        for url in ["http://127.0.0.1:1/keys", "file:///etc/passwd", "keys"] {
            let error = get(&client, url).await.unwrap_err().to_string();
            assert!(error.contains("not an https address"), "{error}");
        }
    }

    #[test]
    fn the_last_good_keys_stay() {
        let remote = RemoteIssuer {
            issuer: ISSUER.to_owned(),
            audiences: ["argosy-ca".to_owned()].into(),
            jwks_uri: None,
            roots: None,
        };
        let failure = || Err(FetchError::TooLarge("u".to_owned()));
        let mut issuers = BTreeMap::new();
        take(&mut issuers, &remote, failure());
        assert!(matches!(issuers.get(ISSUER), Some(Known::Nothing(_))));
        let keys = IssuerKey::generate().unwrap().jwks().unwrap();
        take(&mut issuers, &remote, Ok(KeySet::parse(&keys).unwrap()));
        take(&mut issuers, &remote, failure());
        assert!(matches!(issuers.get(ISSUER), Some(Known::Keys(_))));
    }
}
