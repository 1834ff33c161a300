//! May this proxy read that Secret? Decided before anything is looked up, by the proxy's authenticated account: a Secret of
//! its own namespace when the cluster's rights let the account get it (SubjectAccessReview), another namespace's when its
//! owner has granted it to Gateways of the proxy's namespace (ReferenceGrant) and the account may get the Secrets of its own: a
//! grant names a namespace, and not every account in it is a gateway's. Without a cluster: its own namespace alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;

use super::answer;
use super::grants::Grants;
use super::meters::Meters;
use crate::credential::Key;

/// How long an answer holds: a right that is taken away ends within this time, one that is given begins within.
const ALLOWED: Duration = Duration::from_secs(15);
const DENIED: Duration = Duration::from_secs(2);
/// How long nobody is asked again when the API server did not answer.
const UNKNOWN: Duration = Duration::from_secs(2);
/// Most answers that are kept.
const MAX_KEPT: usize = 10_000;

/// A proxy's account, by its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Reader {
    pub(crate) namespace: String,
    pub(crate) account: String,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It may.
    Allowed,
    /// It may not.
    Denied(Denial),
    /// Nobody could say; why, in words.
    Unknown(String),
}

/// Why a Secret may not be read. The words are the same whether it exists or not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denial {
    /// Another namespace's, without a cluster.
    #[error(
        "a proxy of namespace {0} may have Secrets of its own namespace alone: move the Secret beside the gateway's workload"
    )]
    OtherNamespace(String),
    /// The cluster's rights.
    #[error(
        "service account {namespace}/{account} may not get this Secret: bind a Role of namespace {namespace} to it that lets it get secrets"
    )]
    Account {
        /// Its namespace.
        namespace: String,
        /// Its name.
        account: String,
    },
    /// No grant.
    #[error(
        "no ReferenceGrant of namespace {owner} lets Gateways of namespace {reader} have this Secret: create one there"
    )]
    NoGrant {
        /// The Secret's namespace.
        owner: String,
        /// The proxy's namespace.
        reader: String,
    },
}

/// Who decides.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Nobody needs to be asked.
    OwnNamespace,
    /// A cluster.
    Cluster(Arc<Cluster>),
}

impl Access {
    /// Whether `reader` may have the Secret.
    pub(crate) async fn decide(&self, reader: &Reader, secret: &Key) -> Decision {
        let own = reader.namespace == secret.namespace;
        match self {
            Self::OwnNamespace if own => Decision::Allowed,
            Self::OwnNamespace => Decision::Denied(Denial::OtherNamespace(reader.namespace.clone())),
            Self::Cluster(cluster) if own => cluster.review(reader, secret).await,
            Self::Cluster(cluster) => match cluster.granted(reader, secret) {
                Decision::Allowed => cluster.review(reader, &all_of(&reader.namespace)).await,
                other => other,
            },
        }
    }
}

/// What a cluster says of rights.
#[derive(Debug)]
pub(crate) struct Cluster {
    reviews: Api<SubjectAccessReview>,
    grants: watch::Receiver<Option<Arc<Grants>>>,
    kept: Mutex<HashMap<(Reader, Key), (Decision, Instant)>>,
    /// Why the API server could not be asked, and until when that is not tried again.
    away: Mutex<Option<(String, Instant)>>,
    meters: Meters,
}

impl Cluster {
    pub(crate) fn new(client: Client, grants: watch::Receiver<Option<Arc<Grants>>>, meters: Meters) -> Self {
        Self {
            reviews: Api::all(client),
            grants,
            kept: Mutex::default(),
            away: Mutex::default(),
            meters,
        }
    }

    fn granted(&self, reader: &Reader, secret: &Key) -> Decision {
        match &*self.grants.borrow() {
            None => Decision::Unknown("ReferenceGrants are not read yet".to_owned()),
            Some(grants) if grants.allow(&reader.namespace, &secret.namespace, &secret.name) => {
                Decision::Allowed
            }
            Some(_) => Decision::Denied(Denial::NoGrant {
                owner: secret.namespace.clone(),
                reader: reader.namespace.clone(),
            }),
        }
    }

    async fn review(&self, reader: &Reader, secret: &Key) -> Decision {
        let key = (reader.clone(), secret.clone());
        if let Some(kept) = self.kept(&key).or_else(|| self.away()) {
            return kept;
        }
        let (params, question) = (PostParams::default(), question(reader, secret));
        let decision = match answer(self.reviews.create(&params, &question)).await {
            Ok(review) => judge(review.status.as_ref(), reader),
            Err(reason) => Decision::Unknown(reason),
        };
        self.meters.accessed(match &decision {
            Decision::Allowed => "allowed",
            Decision::Denied(_) => "denied",
            Decision::Unknown(_) => "failed",
        });
        self.keep(key, &decision);
        decision
    }

    fn kept(&self, key: &(Reader, Key)) -> Option<Decision> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (decision, until) = kept.get(key)?;
        (*until > Instant::now()).then(|| decision.clone())
    }

    /// A proxy may ask for a thousand Secrets, and each question waits for as long as all of them may take.
    fn away(&self) -> Option<Decision> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let (reason, until) = away.as_ref()?;
        (*until > Instant::now()).then(|| Decision::Unknown(reason.clone()))
    }

    fn keep(&self, key: (Reader, Key), decision: &Decision) {
        let holds = match decision {
            Decision::Allowed => ALLOWED,
            Decision::Denied(_) => DENIED,
            Decision::Unknown(reason) => {
                *self.away.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((reason.clone(), Instant::now() + UNKNOWN));
                return;
            }
        };
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (_, until)| *until > now);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(key, (decision.clone(), now + holds));
        }
    }
}

/// All Secrets of a namespace: what the rights of a gateway's account, and no other's, are for. Istio asks the same of gateways
/// (pilot/pkg/credentials/kube, Authorize).
fn all_of(namespace: &str) -> Key {
    Key {
        namespace: namespace.to_owned(),
        name: String::new(),
    }
}

/// As the API server would ask itself if the account came with its token.
fn question(reader: &Reader, secret: &Key) -> SubjectAccessReview {
    let Reader { namespace, account } = reader;
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{namespace}:{account}")),
            groups: Some(vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ]),
            resource_attributes: Some(ResourceAttributes {
                verb: Some("get".to_owned()),
                version: Some("v1".to_owned()),
                resource: Some("secrets".to_owned()),
                namespace: Some(secret.namespace.clone()),
                name: Some(secret.name.clone()).filter(|name| !name.is_empty()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

fn judge(status: Option<&SubjectAccessReviewStatus>, reader: &Reader) -> Decision {
    match status {
        None => Decision::Unknown("an answer without a status".to_owned()),
        Some(status) if status.allowed && status.denied != Some(true) => Decision::Allowed,
        Some(_) => Decision::Denied(Denial::Account {
            namespace: reader.namespace.clone(),
            account: reader.account.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_api_server_that_is_away_is_asked_once_in_a_while() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let metrics = runtime::Metrics::new();
        let (_grants, granted) = watch::channel(None);
        let access = Access::Cluster(Arc::new(Cluster::new(client, granted, Meters::new(&metrics))));
        let reader = Reader {
            namespace: "shop".to_owned(),
            account: "gateway".to_owned(),
        };
        for name in ["a", "b", "c"] {
            let secret = Key {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
            };
            let decision = access.decide(&reader, &secret).await;
            assert!(matches!(decision, Decision::Unknown(_)), "{decision:?}");
        }
        let asked = "citadel_access_reviews_total{result=\"failed\"} 1\n";
        assert!(metrics.encode().contains(asked), "{}", metrics.encode());
    }
}
