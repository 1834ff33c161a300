//! Identities: mutual TLS, plaintext refused, who may call whom.

use std::collections::{BTreeMap, BTreeSet};

use testkit::wait;

use super::PATIENCE;
use crate::mesh::{Call, Mesh};
use crate::table::{Seen, Table};

const FRONTEND: &str = "spiffe://cluster.local/ns/shop/sa/frontend";

pub(super) async fn rows(mesh: &Mesh, table: &mut Table) {
    let expected = format!("catalog sees {FRONTEND}");
    table
        .row("STRICT mTLS: the peer's identity", &expected, peer(mesh))
        .await;
    table
        .row(
            "a client's own x-forwarded-client-cert",
            "replaced by the verified one",
            forged(mesh),
        )
        .await;
    table
        .row(
            "STRICT mTLS: a plaintext client",
            "refused without an HTTP answer",
            plaintext(mesh),
        )
        .await;
    table
        .row(
            "AuthorizationPolicy allows one identity",
            "frontend calls orders: 200",
            allowed(mesh),
        )
        .await;
    table
        .row(
            "AuthorizationPolicy denies another",
            "catalog calls orders: 403 by RBAC",
            denied(mesh),
        )
        .await;
}

async fn peer(mesh: &Mesh) -> anyhow::Result<Seen> {
    let outcome = mesh.call("frontend-v1", &Call::to("catalog", "/")).await?;
    let peer = outcome
        .first_peer()
        .map_or_else(|| format!("no peer: {}", outcome.first_text()), str::to_owned);
    Ok(Seen::new(outcome.status("200") == 1 && peer == FRONTEND, peer))
}

async fn forged(mesh: &Mesh) -> anyhow::Result<Seen> {
    let call = Call::to("catalog", "/").header(
        "x-forwarded-client-cert",
        "URI=spiffe://cluster.local/ns/shop/sa/king",
    );
    let outcome = mesh.call("frontend-v1", &call).await?;
    let xfcc = outcome
        .first_body()
        .get("headers")
        .and_then(|all| all.get("x-forwarded-client-cert"));
    let xfcc = xfcc.and_then(|value| value.as_str()).unwrap_or_default();
    let ok = outcome.first_peer() == Some(FRONTEND) && !xfcc.contains("sa/king");
    Ok(Seen::new(
        ok,
        if ok {
            FRONTEND.to_owned()
        } else {
            format!("{xfcc} {}", outcome.first_text())
        },
    ))
}

async fn plaintext(mesh: &Mesh) -> anyhow::Result<Seen> {
    let url = format!("http://{}:8080/", mesh.workload("catalog-v1")?.entry.address);
    Ok(match mesh.client.get(url).send().await {
        Ok(answer) => Seen::new(false, format!("answered {}: {}", answer.status, answer.text())),
        Err(error) => {
            let text = format!("{error:#}");
            // Nobody listening would be refused too, and would show nothing.
            Seen::new(
                !text.contains("Connection refused") && !text.contains("no answer within"),
                text,
            )
        }
    })
}

async fn allowed(mesh: &Mesh) -> anyhow::Result<Seen> {
    let outcome = mesh.call("frontend-v1", &Call::to("orders", "/")).await?;
    Ok(Seen::new(outcome.status("200") == 1, outcome.statuses()))
}

async fn denied(mesh: &Mesh) -> anyhow::Result<Seen> {
    let outcome = mesh.call("catalog-v1", &Call::to("orders", "/")).await?;
    let text = outcome.first_text();
    let ok = outcome.status("403") == 1 && text.contains("RBAC: access denied");
    Ok(Seen::new(ok, format!("{}: {text}", outcome.statuses())))
}

/// The certificates that the Envoys presented when the scenario began.
pub(super) struct Renewals {
    before: anyhow::Result<BTreeMap<String, BTreeSet<String>>>,
}

impl Renewals {
    pub(super) async fn begin(mesh: &Mesh) -> Self {
        Self {
            before: serials(mesh).await,
        }
    }
}

async fn serials(mesh: &Mesh) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut all = BTreeMap::new();
    for workload in mesh.workloads() {
        let serials = workload.envoy()?.serials().await?;
        anyhow::ensure!(
            !serials.is_empty(),
            "the Envoy of {} presents no certificate",
            workload.entry.name
        );
        all.insert(workload.entry.name.clone(), serials);
    }
    Ok(all)
}

pub(super) async fn renewed(mesh: &Mesh, renewals: Renewals) -> anyhow::Result<Seen> {
    let before = renewals.before?;
    let look = || async {
        let now = serials(mesh).await?;
        let old: Vec<&String> = before
            .iter()
            .filter(|(name, old)| now.get(*name) == Some(old))
            .map(|(name, _)| name)
            .collect();
        anyhow::ensure!(old.is_empty(), "still with its first certificate: {old:?}");
        Ok(now.len())
    };
    let (count, _) = wait::until("new certificates", PATIENCE, look).await?;
    let outcome = mesh
        .call("frontend-v1", &Call::to("catalog", "/").times(20))
        .await?;
    Ok(Seen::new(
        outcome.status("200") == 20,
        format!("{count} of {count}; requests: {}", outcome.statuses()),
    ))
}
