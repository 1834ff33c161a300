//! `listchecker` with a list by URL: fetched again and again, and the last good one kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use policy::{Answer, FieldValue, InstanceValue, List, ListSource};
use reqwest::{Client, Url};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Fault, Kit, http};

/// Longest list, in bytes.
const MAX_LIST: usize = 8 << 20;
/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time until the next try while there has been no list at all.
const SOON: Duration = Duration::from_secs(1);

/// What is known of the list.
#[derive(Clone, Default)]
struct Known {
    list: Option<(Arc<List>, Instant)>,
    /// What the last fetch said, if it failed.
    failure: Option<String>,
}

/// The adapter.
pub(super) struct Adapter {
    ttl: Duration,
    known: watch::Receiver<Known>,
    /// Ends with the adapter.
    _fetching: AbortOnDropHandle<()>,
}

impl Adapter {
    /// Begins to fetch.
    pub(super) fn new(source: &ListSource, kit: &Kit) -> Result<Self, String> {
        let client = http::client(TIMEOUT)?;
        let url = http::url(&source.url)?;
        let (sender, known) = watch::channel(Known::default());
        let pool = kit.pool.handle().map_err(|error| error.to_string())?;
        let fetching = pool.spawn(fetch_again_and_again(client, url, source.clone(), sender));
        Ok(Self {
            ttl: nanos(source.ttl),
            known,
            _fetching: AbortOnDropHandle::new(fetching),
        })
    }

    async fn list(&self) -> Result<Arc<List>, Fault> {
        let mut known = self.known.clone();
        // Who asks before the first fetch has ended waits for it.
        let known = known.wait_for(|known| known.list.is_some() || known.failure.is_some());
        let known = known
            .await
            .map_err(|_| Fault::Away("the list is not fetched any more".to_owned()))?
            .clone();
        let why = known.failure.unwrap_or_default();
        match known.list {
            Some((list, at)) if at.elapsed() <= self.ttl => Ok(list),
            Some((_, at)) => Err(Fault::Away(format!(
                "the last good list is {:?} old: {why}",
                at.elapsed()
            ))),
            None => Err(Fault::Away(format!("the list could not be fetched yet: {why}"))),
        }
    }
}

#[tonic::async_trait]
impl super::Adapter for Adapter {
    async fn check(&self, instance: &InstanceValue) -> Result<Answer, Fault> {
        let list = self.list().await?;
        let value = instance.fields.iter().find_map(|(_, value)| match value {
            FieldValue::One(datum) => Some(datum.to_string()),
            _ => None,
        });
        Ok(Answer::of_list(&list, &value.unwrap_or_default()))
    }
}

async fn fetch_again_and_again(client: Client, url: Url, source: ListSource, known: watch::Sender<Known>) {
    loop {
        let fetched = fetch(&client, &url, &source).await;
        if let Err(fault) = &fetched {
            tracing::warn!(url = source.url, %fault, "a list cannot be fetched; the last good one is kept");
        }
        known.send_modify(|known| match fetched {
            Ok(list) => {
                *known = Known {
                    list: Some((Arc::new(list), Instant::now())),
                    failure: None,
                };
            }
            Err(fault) => known.failure = Some(fault.to_string()),
        });
        let refresh = nanos(source.refresh);
        let pause = match known.borrow().list {
            Some(_) => refresh,
            None => SOON.min(refresh),
        };
        tokio::time::sleep(pause).await;
    }
}

async fn fetch(client: &Client, url: &Url, source: &ListSource) -> Result<List, Fault> {
    let response = client.get(url.clone()).send().await;
    let response = http::accepted(response.map_err(|error| http::away(&error))?)?;
    let body = http::body(response, MAX_LIST).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Fault::Refused("the list is not UTF-8".to_owned()))?;
    source.parse(text).map_err(Fault::Refused)
}

fn nanos(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.unsigned_abs())
}
