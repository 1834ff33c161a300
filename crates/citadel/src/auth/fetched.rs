//! Keys of token issuers that are fetched: from a `jwksUri`, or from where the issuer's own document says they are (OpenID
//! Connect Discovery 1.0). Fetched beside requests and never in one; the last good ones stay, and an issuer whose keys never
//! came accepts nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

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
        self.run_by(&config, |remote| async move { fetch(&remote).await })
            .await;
    }

    /// As [`Fetched::run`], by whatever fetches. Who is slow holds up no other: not the first time, and not the next.
    async fn run_by<F>(&self, config: &ArcSwap<IdentityConfig>, fetch: impl Fn(RemoteIssuer) -> F)
    where
        F: Future<Output = Result<KeySet, FetchError>>,
    {
        let mut asking = Asking::default();
        let mut answers = FuturesUnordered::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let hurried = tokio::select! {
                Some((remote, result)) = answers.next() => {
                    self.heard(&mut asking, &config.load().remote_issuers, remote, result);
                    continue;
                }
                () = self.missed.notified() => true,
                _ = looks.tick() => false,
            };
            let due = asking.due(&config.load().remote_issuers, hurried);
            self.forget(&asking);
            for remote in due {
                let answer = fetch(remote.clone());
                answers.push(async { (remote, answer.await) });
            }
        }
    }

    /// Takes an answer, unless the issuer is described in another way by now, or not at all.
    fn heard(
        &self,
        asking: &mut Asking,
        wanted: &[RemoteIssuer],
        remote: RemoteIssuer,
        result: Result<KeySet, FetchError>,
    ) {
        asking.under_way.retain(|other| *other != remote);
        if !wanted.contains(&remote) {
            return;
        }
        let failed = result.is_err();
        let mut issuers = BTreeMap::clone(&self.issuers.load());
        take(&mut issuers, &remote, result);
        self.issuers.store(Arc::new(issuers));
        let at = Instant::now();
        let name = remote.issuer.clone();
        asking.asked.insert(name, Asked { remote, at, failed });
    }

    /// Forgets the keys of issuers that are not wanted any more.
    fn forget(&self, asking: &Asking) {
        let known = self.issuers.load();
        if known.keys().all(|name| asking.asked.contains_key(name)) {
            return;
        }
        let mut issuers = BTreeMap::clone(&known);
        issuers.retain(|name, _| asking.asked.contains_key(name));
        self.issuers.store(Arc::new(issuers));
    }
}

/// Who was asked, and who is.
#[derive(Default)]
struct Asking {
    asked: BTreeMap<String, Asked>,
    under_way: Vec<RemoteIssuer>,
}

impl Asking {
    /// Whom to ask now, of those that are `wanted`.
    fn due(&mut self, wanted: &[RemoteIssuer], hurried: bool) -> Vec<RemoteIssuer> {
        // An issuer that is described in another way now is another one.
        self.asked.retain(|_, asked| wanted.contains(&asked.remote));
        let is_due = |remote: &&RemoteIssuer| {
            let asked = self.asked.get(&remote.issuer);
            !self.under_way.contains(remote) && asked.is_none_or(|asked| asked.is_due(hurried))
        };
        let room = AT_ONCE.saturating_sub(self.under_way.len());
        let due: Vec<RemoteIssuer> = wanted.iter().filter(is_due).take(room).cloned().collect();
        self.under_way.extend(due.iter().cloned());
        due
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

    fn remote(issuer: &str) -> RemoteIssuer {
        RemoteIssuer {
            issuer: issuer.to_owned(),
            audiences: ["argosy-ca".to_owned()].into(),
            jwks_uri: None,
            roots: None,
        }
    }

    fn keys() -> KeySet {
        KeySet::parse(&IssuerKey::generate().unwrap().jwks().unwrap()).unwrap()
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let looking = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let looked = tokio::time::timeout(Duration::from_secs(60), looking).await;
        looked.unwrap_or_else(|_| panic!("never: {what}"));
    }

    #[tokio::test]
    async fn who_never_answers_holds_up_no_other() {
        let config = |issuers: &[&str]| IdentityConfig {
            remote_issuers: issuers.iter().map(|issuer| remote(issuer)).collect(),
            ..IdentityConfig::default()
        };
        let wanted = ArcSwap::from_pointee(config(&["silent", "good"]));
        let fetched = Fetched::default();
        let running = fetched.run_by(&wanted, |remote| async move {
            match remote.issuer.as_str() {
                "silent" => std::future::pending().await,
                _ => Ok(keys()),
            }
        });
        let knows = |name: &str| matches!(fetched.find(name), Some(Known::Keys(_)));
        let looking = async {
            until("the keys of the other", || knows("good")).await;
            // One that is new, and one that is gone, while an answer is still awaited.
            wanted.store(Arc::new(config(&["silent", "new"])));
            until("those of a new one", || knows("new")).await;
            assert!(fetched.find("good").is_none());
        };
        tokio::select! {
            () = running => {}
            () = looking => {}
        }
    }

    #[test]
    fn each_is_asked_when_it_is_due_and_once_at_a_time() {
        let mut asking = Asking::default();
        let [silent, broken, good] = ["silent", "broken", "good"].map(remote);
        let mut check = |wanted: &[&RemoteIssuer],
                         hurried,
                         asked: &[(&RemoteIssuer, Duration, bool)],
                         expected: &[&str]| {
            for (remote, age, failed) in asked {
                let at = Instant::now().checked_sub(*age).unwrap();
                let (remote, failed) = ((*remote).clone(), *failed);
                asking.under_way.retain(|other| *other != remote);
                asking
                    .asked
                    .insert(remote.issuer.clone(), Asked { remote, at, failed });
            }
            let wanted: Vec<RemoteIssuer> = wanted.iter().map(|remote| (*remote).clone()).collect();
            let due = asking.due(&wanted, hurried);
            let names: Vec<&str> = due.iter().map(|remote| remote.issuer.as_str()).collect();
            assert_eq!(names, expected);
        };
        let all = [&silent, &broken, &good];
        check(&all, false, &[], &["silent", "broken", "good"]);
        check(&all, true, &[], &[]);
        let answered = [(&broken, RETRY, true), (&good, HURRY, false)];
        check(&all, false, &answered, &["broken"]);
        check(&all, true, &[], &["good"]);
        check(&all, false, &[(&good, REFRESH, false)], &["good"]);
        // Described in another way, it is another one, whatever is awaited.
        let other = RemoteIssuer {
            jwks_uri: Some("https://elsewhere".to_owned()),
            ..remote("silent")
        };
        check(&[&other], false, &[], &["silent"]);
        let many: Vec<RemoteIssuer> = (0..AT_ONCE * 2).map(|n| remote(&n.to_string())).collect();
        let mut asking = Asking::default();
        assert_eq!(asking.due(&many, false).len(), AT_ONCE);
        assert_eq!(asking.due(&many, false).len(), 0);
    }

    #[test]
    fn the_last_good_keys_stay() {
        let remote = remote(ISSUER);
        let failure = || Err(FetchError::TooLarge("u".to_owned()));
        let mut issuers = BTreeMap::new();
        take(&mut issuers, &remote, failure());
        assert!(matches!(issuers.get(ISSUER), Some(Known::Nothing(_))));
        take(&mut issuers, &remote, Ok(keys()));
        take(&mut issuers, &remote, failure());
        assert!(matches!(issuers.get(ISSUER), Some(Known::Keys(_))));
    }
}
