//! What each proxy has accepted and rejected, from the events of its stream.
//!
//! Pure: events in, status out. Which object is behind a resource comes in as a function.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::ObjectKey;
use serde_json::{Value, json};
use xds::{Event, Rejection, TypeUrl};

/// The objects behind a resource, by its type and name.
pub type Origins<'a> = dyn Fn(&TypeUrl, &str) -> Vec<ObjectKey> + 'a;

/// A resource that a proxy rejects, with the objects that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// The resource's name.
    pub name: Arc<str>,
    /// Envoy's words.
    pub message: Arc<str>,
    /// The objects that it came from.
    pub objects: Vec<ObjectKey>,
}

/// One type of resources on one stream.
#[derive(Debug, Clone, Default)]
pub struct TypeStatus {
    sent: u64,
    acked: u64,
    resources: usize,
    acked_after: Duration,
    nacks: u64,
    rejected: Vec<Rejected>,
}

impl TypeStatus {
    /// As Istio's proxy-status says it.
    fn word(&self) -> &'static str {
        match () {
            () if !self.rejected.is_empty() => "REJECTED",
            () if self.sent == self.acked => "SYNCED",
            () => "STALE",
        }
    }

    fn json(&self) -> Value {
        let rejected = |each: &Rejected| {
            let objects: Vec<String> = each.objects.iter().map(ToString::to_string).collect();
            json!({ "resource": &*each.name, "message": &*each.message, "objects": objects })
        };
        json!({
            "status": self.word(),
            "sentVersion": format!("{:016x}", self.sent),
            "ackedVersion": format!("{:016x}", self.acked),
            "lastSentResources": self.resources,
            "lastAckMilliseconds": self.acked_after.as_millis(),
            "nacks": self.nacks,
            "rejected": self.rejected.iter().map(rejected).collect::<Vec<_>>(),
        })
    }
}

/// All types of one stream.
#[derive(Debug, Clone, Default)]
pub struct Status {
    types: BTreeMap<TypeUrl, TypeStatus>,
}

impl Status {
    /// Takes an event into account. Gives what is rejected now, when that changed.
    pub fn observe(&mut self, event: &Event, origins: &Origins<'_>) -> Option<&[Rejected]> {
        match event {
            Event::Sent {
                type_url,
                version,
                resources,
                ..
            } => {
                let status = self.of(type_url);
                (status.sent, status.resources) = (*version, *resources);
            }
            Event::Acked {
                type_url,
                version,
                after,
                ..
            } => {
                let status = self.of(type_url);
                (status.acked, status.acked_after) = (*version, *after);
            }
            Event::Nacked { type_url, .. } => self.of(type_url).nacks += 1,
            Event::Rejected { type_url, resources } => {
                let status = self.of(type_url);
                status.rejected = resources
                    .iter()
                    .map(|each| rejected(type_url, each, origins))
                    .collect();
                return Some(&status.rejected);
            }
            Event::Connected | Event::Subscribed { .. } | Event::Synced { .. } | Event::Closed => {}
        }
        None
    }

    /// Everything that is rejected, with its type.
    pub fn rejected(&self) -> impl Iterator<Item = (&TypeUrl, &Rejected)> {
        self.types
            .iter()
            .flat_map(|(type_url, status)| status.rejected.iter().map(move |each| (type_url, each)))
    }

    /// By the short names of the types.
    #[must_use]
    pub fn json(&self) -> Value {
        self.types
            .iter()
            .map(|(type_url, status)| (short(type_url).to_owned(), status.json()))
            .collect()
    }

    fn of(&mut self, type_url: &TypeUrl) -> &mut TypeStatus {
        self.types.entry(type_url.clone()).or_default()
    }
}

fn rejected(type_url: &TypeUrl, rejection: &Rejection, origins: &Origins<'_>) -> Rejected {
    Rejected {
        name: rejection.name.clone(),
        message: rejection.message.clone(),
        objects: origins(type_url, &rejection.name),
    }
}

/// `cds`, `eds`, `lds`, `rds`, … as Istio's metrics and tools call the types.
#[must_use]
pub fn short(type_url: &TypeUrl) -> &str {
    use xds::types::{CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTE, SECRET};
    let known = [
        (CLUSTER, "cds"),
        (ENDPOINTS, "eds"),
        (LISTENER, "lds"),
        (ROUTE, "rds"),
        (SECRET, "sds"),
        (EXTENSION, "ecds"),
    ];
    known
        .into_iter()
        .find(|(known, _)| known == type_url)
        .map_or(type_url.as_str(), |(_, short)| short)
}

#[cfg(test)]
mod tests {
    use config::Kind;
    use xds::types::ROUTE;

    use super::*;

    fn origins(_: &TypeUrl, name: &str) -> Vec<ObjectKey> {
        vec![ObjectKey::new(Kind::VirtualService, "shop", name)]
    }

    #[test]
    fn a_rejection_names_the_object_behind_it_until_it_is_over() {
        let mut status = Status::default();
        let sent = |version| Event::Sent {
            type_url: ROUTE,
            nonce: 1,
            version,
            resources: 2,
            removed: 0,
            bytes: 9,
        };
        status.observe(&sent(7), &origins);
        assert_eq!(status.json()["rds"]["status"], "STALE");
        let rejection = Rejection {
            name: "7080".into(),
            version: 1,
            message: "bad regex".into(),
        };
        let event = Event::Rejected {
            type_url: ROUTE,
            resources: vec![rejection],
        };
        let rejected = status.observe(&event, &origins).expect("news").to_vec();
        assert_eq!(rejected[0].objects[0].to_string(), "VirtualService shop/7080");
        assert_eq!(status.json()["rds"]["rejected"][0]["message"], "bad regex");
        assert_eq!(status.json()["rds"]["status"], "REJECTED");
        status.observe(
            &Event::Rejected {
                type_url: ROUTE,
                resources: Vec::new(),
            },
            &origins,
        );
        let after = Duration::from_millis(3);
        status.observe(
            &Event::Acked {
                type_url: ROUTE,
                nonce: 1,
                version: 7,
                after,
            },
            &origins,
        );
        assert_eq!(status.json()["rds"]["status"], "SYNCED");
        assert_eq!(status.rejected().count(), 0);
    }
}
