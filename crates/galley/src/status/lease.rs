//! Keeps this process's part in the election: the shell around [`super::election`] that reads and writes the Lease.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::{Client, Error};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::election::{Election, LEASE, Move, RETRY, Record};
use super::owner;

/// Annotation of the Lease with the leader's address for Pilots' reports, `HOST:PORT`.
pub const ADDRESS: &str = "galley.argosy.io/address";
/// Kubernetes' MicroTime.
const MICROSECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
/// Longest time for one turn's requests to the API server. [`super::election::DEADLINE`], the wait before the next turn and
/// this together are no longer than a Lease: a leader that is cut off has noticed before the next one begins.
const PATIENCE: Duration = Duration::from_secs(3);

/// Who leads, as far as is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leader {
    /// Whether it is this process.
    pub is_me: bool,
    /// Where another one takes reports, if it says so.
    pub address: Option<String>,
}

/// What this process is called in the election, and the Lease's place.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// A name that no other process has, such as the Pod's and something random.
    pub name: String,
    /// Where it takes Pilots' reports; written into the Lease for others to tell.
    pub address: Option<String>,
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub lease: String,
}

/// Takes part until `shutdown`, then gives the Lease back if it is held.
pub async fn run(
    client: Client,
    candidate: Candidate,
    leader: watch::Sender<Leader>,
    shutdown: CancellationToken,
) {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("coordination.k8s.io", "v1", "Lease"));
    let mut keeper = Keeper {
        api: Api::namespaced_with(client, &candidate.namespace, &kind),
        kind,
        election: Election::new(candidate.name.clone()),
        owner: owner::of_pod(&candidate.namespace),
        candidate,
        start: Instant::now(),
        told: None,
    };
    loop {
        let seen = tokio::time::timeout(PATIENCE, keeper.turn()).await;
        keeper.tell(seen, &leader);
        if shutdown
            .run_until_cancelled(tokio::time::sleep(RETRY))
            .await
            .is_none()
        {
            break;
        }
    }
    if leader.send_replace(Leader::default()).is_me {
        let given = tokio::time::timeout(PATIENCE, keeper.give_back()).await;
        if let Ok(Err(error)) = given {
            tracing::warn!(%error, "the lease is not given back; the next leader waits until it runs out");
        }
    }
}

struct Keeper {
    api: Api<DynamicObject>,
    kind: ApiResource,
    candidate: Candidate,
    election: Election,
    /// With whom the Lease goes.
    owner: Option<OwnerReference>,
    start: Instant,
    /// The fault that is in the log already.
    told: Option<String>,
}

impl Keeper {
    /// Looks at the Lease and writes it if it is this one's turn; the leader's address when it is another's.
    async fn turn(&mut self) -> Result<Option<String>, Error> {
        let asked = self.start.elapsed();
        let lease = self.api.get_opt(&self.candidate.lease).await?;
        let record = lease.as_ref().map(record);
        let transitions = match self.election.step(record.as_ref(), self.start.elapsed()) {
            Move::Wait => {
                self.election.lost();
                let address = lease.and_then(|lease| lease.metadata.annotations?.remove(ADDRESS));
                return Ok(address);
            }
            Move::Create => 0,
            Move::Take(transitions) => transitions,
            Move::Renew => record.map_or(0, |record| record.transitions),
        };
        match self
            .write(lease, self.candidate.name.clone(), LEASE, transitions)
            .await
        {
            Ok(()) => self.election.won(asked),
            // Somebody else was faster.
            Err(Error::Api(status)) if status.code == 409 => self.election.lost(),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    async fn give_back(&mut self) -> Result<(), Error> {
        let lease = self.api.get_opt(&self.candidate.lease).await?;
        match lease.as_ref().map(record) {
            Some(record) if record.holder == self.candidate.name => {
                let second = Duration::from_secs(1);
                self.write(lease, String::new(), second, record.transitions).await
            }
            _ => Ok(()),
        }
    }

    /// Writes the Lease; `old` guards against having been overtaken.
    async fn write(
        &self,
        old: Option<DynamicObject>,
        holder: String,
        duration: Duration,
        transitions: i64,
    ) -> Result<(), Error> {
        let now = OffsetDateTime::now_utc().format(MICROSECONDS).unwrap_or_default();
        let renewing = old.as_ref().is_some_and(|old| record(old).holder == holder);
        let acquired = match old.as_ref().and_then(|old| old.data.pointer("/spec/acquireTime")) {
            Some(time) if renewing => time.clone(),
            _ => json!(now),
        };
        let exists = old.is_some();
        let mut lease = old.unwrap_or_else(|| DynamicObject::new(&self.candidate.lease, &self.kind));
        if let Some(owner) = &self.owner {
            lease.metadata.owner_references = Some(vec![owner.clone()]);
        }
        let annotations = lease.metadata.annotations.get_or_insert_default();
        match &self.candidate.address {
            Some(address) if !holder.is_empty() => annotations.insert(ADDRESS.to_owned(), address.clone()),
            _ => annotations.remove(ADDRESS),
        };
        lease.data = json!({ "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration.as_secs(),
            "acquireTime": acquired,
            "renewTime": now,
            "leaseTransitions": transitions,
        }});
        let params = PostParams::default();
        match exists {
            true => self.api.replace(&self.candidate.lease, &params, &lease).await,
            false => self.api.create(&params, &lease).await,
        }
        .map(drop)
    }

    fn tell(
        &mut self,
        seen: Result<Result<Option<String>, Error>, tokio::time::error::Elapsed>,
        leader: &watch::Sender<Leader>,
    ) {
        let is_me = self.election.leads(self.start.elapsed());
        let (address, fault) = match seen {
            Ok(Ok(address)) => (address, None),
            Ok(Err(error)) => (None, Some(error.to_string())),
            Err(_) => (None, Some("no answer in time".to_owned())),
        };
        if let Some(fault) = fault.as_ref().filter(|fault| self.told.as_ref() != Some(fault)) {
            let lease = &self.candidate.lease;
            tracing::warn!(
                lease,
                fault,
                "cannot take part in the election of a leader; trying again"
            );
        }
        self.told = fault;
        leader.send_if_modified(|before| {
            if before.is_me != is_me {
                tracing::info!(leads = is_me, "leader of the Galleys");
            }
            let now = Leader { is_me, address };
            let changed = *before != now;
            *before = now;
            changed
        });
    }
}

fn record(lease: &DynamicObject) -> Record {
    let spec = lease.data.get("spec");
    let text = |field: &str| {
        let text = spec.and_then(|spec| spec.get(field)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    let number = |field: &str| {
        spec.and_then(|spec| spec.get(field)?.as_i64())
            .unwrap_or_default()
    };
    Record {
        holder: text("holderIdentity"),
        duration: Duration::from_secs(u64::try_from(number("leaseDurationSeconds")).unwrap_or_default()),
        renewed: text("renewTime"),
        transitions: number("leaseTransitions"),
    }
}
