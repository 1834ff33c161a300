//! Whose token is it? The API server says, by TokenReview. It is asked each time: a token that was revoked, or whose Pod is
//! gone, does not count from then on.
//!
//! Kubernetes asks clients to look for one of their audiences in the answer (authentication.k8s.io/v1, TokenReviewStatus):
//! an authenticator that knows nothing of audiences lets any token pass.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;

use super::meters::Meters;
use super::{DEADLINE, answer};
use crate::auth::jwt::{self, Account};

/// Reviews at once; more callers wait, within the deadline.
const AT_ONCE: usize = 64;
/// The group of all service accounts.
const GROUP: &str = "system:serviceaccounts";
/// Longest text of the API server that is shown, in characters.
const MAX_REASON: usize = 256;

/// Why a token was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewRefusal {
    /// The API server does not know it.
    #[error("the API server does not accept it ({0}); get a new one")]
    NotAuthenticated(String),
    /// It is for somebody else.
    #[error("it is not for an audience of Citadel; get one for this audience: {0}")]
    Audience(String),
    /// Its user is not in the group of service accounts.
    #[error("its user is not a service account")]
    NotAccount,
    /// Its user is not `system:serviceaccount:NAMESPACE:NAME`.
    #[error("its user is not system:serviceaccount:NAMESPACE:NAME with valid Kubernetes names")]
    Subject,
    /// Nobody could say.
    #[error("the API server could not be asked ({0}); try again")]
    Unavailable(String),
}

impl ReviewRefusal {
    /// A short name, for metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAuthenticated(_) => "token_not_authenticated",
            Self::Audience(_) => "wrong_audience",
            Self::NotAccount => "not_service_account",
            Self::Subject => "malformed_subject",
            Self::Unavailable(_) => "token_review_unavailable",
        }
    }
}

/// Asks the API server about tokens.
#[derive(Debug)]
pub(crate) struct TokenReviewer {
    reviews: Api<TokenReview>,
    audiences: Vec<String>,
    turns: Semaphore,
    meters: Meters,
}

impl TokenReviewer {
    /// A reviewer that accepts tokens for one of these audiences.
    pub(crate) fn new(client: Client, audiences: &[String], meters: Meters) -> Self {
        Self {
            reviews: Api::all(client),
            audiences: audiences
                .iter()
                .filter(|name| !name.is_empty())
                .cloned()
                .collect(),
            turns: Semaphore::new(AT_ONCE),
            meters,
        }
    }

    /// The account that a token was made for.
    ///
    /// # Errors
    /// When it does not count here, or the API server does not answer in time.
    pub(crate) async fn review(&self, token: &str) -> Result<Account, ReviewRefusal> {
        let result = self.ask(token).await;
        self.meters.reviewed(match &result {
            Ok(_) => "accepted",
            Err(refusal) => refusal.reason(),
        });
        result
    }

    async fn ask(&self, token: &str) -> Result<Account, ReviewRefusal> {
        let unavailable = |reason: String| ReviewRefusal::Unavailable(shortened(&reason));
        let turn = tokio::time::timeout(DEADLINE, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| unavailable("too many reviews are under way".to_owned()))?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(self.audiences.clone()),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let answered = answer(self.reviews.create(&PostParams::default(), &review)).await;
        let status = answered.map_err(unavailable)?.status;
        let status = status.ok_or_else(|| unavailable("an answer without a status".to_owned()))?;
        let account = judge(&status, &self.audiences)?;
        let extra = |key: &str| bound(status.user.as_ref(), key);
        tracing::info!(target: "citadel::audit", namespace = account.namespace, account = account.name,
            pod = extra("pod-name"), pod_uid = extra("pod-uid"), node = extra("node-name"),
            credential = extra("credential-id"), "token reviewed");
        Ok(account)
    }
}

/// What a review's answer means.
fn judge(status: &TokenReviewStatus, audiences: &[String]) -> Result<Account, ReviewRefusal> {
    if let Some(error) = status.error.as_deref().filter(|error| !error.is_empty()) {
        return Err(ReviewRefusal::NotAuthenticated(shortened(error)));
    }
    if status.authenticated != Some(true) {
        return Err(ReviewRefusal::NotAuthenticated("no reason given".to_owned()));
    }
    let granted = status.audiences.as_deref().unwrap_or_default();
    if !granted.iter().any(|name| audiences.contains(name)) {
        return Err(ReviewRefusal::Audience(audiences.join(" or ")));
    }
    let user = status.user.as_ref().ok_or(ReviewRefusal::Subject)?;
    let groups = user.groups.as_deref().unwrap_or_default();
    if !groups.iter().any(|group| group == GROUP) {
        return Err(ReviewRefusal::NotAccount);
    }
    let name = user.username.as_deref().unwrap_or_default();
    jwt::account(name).ok_or(ReviewRefusal::Subject)
}

/// What a token says of the Pod that it is bound to, for people; empty where it says nothing.
fn bound<'a>(user: Option<&'a UserInfo>, key: &str) -> &'a str {
    let extra = user.and_then(|user| user.extra.as_ref());
    let values = extra.and_then(|extra| extra.get(&format!("authentication.kubernetes.io/{key}")));
    values
        .and_then(|values| values.first())
        .map_or("", String::as_str)
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> TokenReviewStatus {
        TokenReviewStatus {
            audiences: Some(vec!["argosy-ca".to_owned()]),
            authenticated: Some(true),
            error: None,
            user: Some(UserInfo {
                groups: Some(vec![
                    GROUP.to_owned(),
                    "system:serviceaccounts:shop".to_owned(),
                    "system:authenticated".to_owned(),
                ]),
                username: Some("system:serviceaccount:shop:orders".to_owned()),
                ..UserInfo::default()
            }),
        }
    }

    fn check(change: impl FnOnce(&mut TokenReviewStatus), expected: Result<&str, &str>) {
        let mut status = good();
        change(&mut status);
        let seen = judge(&status, &["argosy-ca".to_owned(), "istio-ca".to_owned()]);
        let seen = seen.map(|account| format!("{}/{}", account.namespace, account.name));
        let seen = seen.as_deref().map_err(ReviewRefusal::reason);
        assert_eq!(seen, expected, "{status:?}");
    }

    fn named(name: &str) -> impl FnOnce(&mut TokenReviewStatus) {
        let name = name.to_owned();
        move |status| {
            if let Some(user) = &mut status.user {
                user.username = Some(name);
            }
        }
    }

    #[test]
    fn an_answer_counts_only_when_all_of_it_holds() {
        check(|_| {}, Ok("shop/orders"));
        check(
            |status| status.authenticated = Some(false),
            Err("token_not_authenticated"),
        );
        check(
            |status| status.authenticated = None,
            Err("token_not_authenticated"),
        );
        check(
            |status| status.error = Some("expired".to_owned()),
            Err("token_not_authenticated"),
        );
        // An authenticator that knows nothing of audiences leaves them out.
        check(|status| status.audiences = None, Err("wrong_audience"));
        check(
            |status| status.audiences = Some(Vec::new()),
            Err("wrong_audience"),
        );
        check(
            |status| status.audiences = Some(vec!["https://kubernetes.default.svc".to_owned()]),
            Err("wrong_audience"),
        );
        check(|status| status.user = None, Err("malformed_subject"));
        check(
            |status| {
                if let Some(user) = &mut status.user {
                    user.groups = Some(vec!["system:authenticated".to_owned()]);
                }
            },
            Err("not_service_account"),
        );
        for name in [
            "",
            "admin",
            "system:serviceaccount:shop",
            "system:serviceaccount:shop:orders:more",
            "system:serviceaccount::orders",
            "system:serviceaccount:shop:",
            "system:serviceaccount:shop:../bank",
            "system:node:node1:x",
        ] {
            check(named(name), Err("malformed_subject"));
        }
    }
}
