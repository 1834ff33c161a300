//! To whom the Lease belongs: this process's account, so that it goes when Argosy is uninstalled. Kubernetes removes what belongs to an
//! object that is gone (its garbage collection).
//!
//! An account's uid is in its own token (Kubernetes, "ServiceAccount token structure"), so that no right is needed to know it.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;

/// Where the kubelet puts the token of a Pod's account.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The account of this Pod, in its own namespace; `None` elsewhere.
pub(super) fn of_pod(namespace: &str) -> Option<OwnerReference> {
    let token = std::fs::read_to_string(Path::new(TOKEN)).ok()?;
    of_token(&token, namespace)
}

/// The account of a token. An owner of another namespace would be none: what belongs to it would be removed at once.
fn of_token(token: &str, namespace: &str) -> Option<OwnerReference> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let of = claims.get("kubernetes.io")?;
    if of.get("namespace")?.as_str()? != namespace {
        return None;
    }
    let text = |field: &str| Some(of.get("serviceaccount")?.get(field)?.as_str()?.to_owned());
    Some(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ServiceAccount".to_owned(),
        name: text("name")?,
        uid: text("uid")?,
        ..OwnerReference::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accounts_token_names_the_owner() {
        let claims = r#"{"kubernetes.io":{"namespace":"argosy-system","serviceaccount":{"name":"galley","uid":"u-1"}}}"#;
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let owner = of_token(&token, "argosy-system").expect("an owner");
        assert_eq!(
            (&*owner.kind, &*owner.name, &*owner.uid),
            ("ServiceAccount", "galley", "u-1")
        );
        assert_eq!(of_token(&token, "other"), None);
        for other in ["", "e30.e30.x", "no token", "e30.!.x"] {
            assert_eq!(of_token(other, "argosy-system"), None, "{other}");
        }
    }
}
