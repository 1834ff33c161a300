//! Requests of the incremental variant.

use super::held::Hold;
use super::kind::Kind;
use super::{Refused, Stream, nonce_of};
use crate::table::{Resource, TypeTable};
use crate::types::{Rank, TypeUrl};
use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

impl Stream {
    /// A request on a delta stream: an answer, a change of the subscription, or both.
    ///
    /// # Errors
    /// The request breaks a bound; the stream is to be closed.
    pub fn on_delta(&mut self, now: Duration, request: DeltaDiscoveryRequest) -> Result<(), Refused> {
        let url = TypeUrl::from(request.type_url);
        if !request.resource_locators_subscribe.is_empty()
            || !request.resource_locators_unsubscribe.is_empty()
        {
            return Err(Refused::Locators { type_url: url });
        }
        let add = request.resource_names_subscribe;
        let versions = request.initial_resource_versions;
        self.check_names(&url, add.len())?;
        self.check_bytes(&url, &add, true)?;
        self.check_names(&url, versions.len())?;
        let none = HashMap::new();
        let mut events = Vec::new();
        let (kind, first) = self.kind_mut(url.clone())?;
        if let Some(nonce) = nonce_of(&request.response_nonce) {
            let error = request
                .error_detail
                .as_ref()
                .map(|status| status.message.as_str());
            kind.answered(nonce, error, now, &mut events);
        }
        self.events.append(&mut events);
        let remove = request.resource_names_unsubscribe;
        if first || !add.is_empty() || !remove.is_empty() {
            self.subscribe(&url, first, (add, remove), if first { &versions } else { &none })?;
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        url: &TypeUrl,
        first: bool,
        (add, remove): (Vec<String>, Vec<String>),
        versions: &HashMap<String, String>,
    ) -> Result<(), Refused> {
        let pool = self.pool.clone();
        let table = self.newest.table.of_type(url);
        let (kind, _) = self.kind_mut(url.clone())?;
        let changed = kind
            .subscription
            .change(add, remove, first, url.legacy_wildcard(), &pool);
        // An empty wildcard is an answer too: Envoy waits for it when it starts, the feed's readers for completeness.
        kind.answer |= changed.widened || (first && kind.rank == Rank::Free);
        kind.subscribed(changed, |name| versions.contains_key(name));
        if !versions.is_empty() {
            kind.resume(&table, versions);
        }
        if first {
            self.pay_owed(url, !versions.is_empty());
        }
        self.note_subscribed(url);
        Ok(())
    }
}

impl Kind {
    /// Takes what the client says that it has from an earlier stream. Most of it is in the table as it is.
    fn resume(&mut self, table: &Arc<TypeTable>, versions: &HashMap<String, String>) {
        let subscription = &self.subscription;
        let has = |each: &Resource| {
            let said = versions.get(&*each.name).map(|version| number(version));
            said == Some(each.version) && subscription.covers(&each.name)
        };
        self.held.resume(table.clone(), has);
        for (name, version) in versions {
            let version = number(version);
            let known = table.get(name).is_some_and(|each| each.version == version);
            if !known && self.subscription.covers(name) {
                let name: Arc<str> = name.as_str().into();
                self.held.set(name.clone(), Hold::Has(reported(name, version)));
            }
        }
    }
}

/// A version as this side writes it; one that this side did not write equals none.
fn number(version: &str) -> u64 {
    u64::from_str_radix(version, 16).unwrap_or_default()
}

/// A resource that the client has from an earlier stream.
fn reported(name: Arc<str>, version: u64) -> Resource {
    Resource {
        name,
        version,
        bytes: Bytes::new(),
        endpoints: None,
    }
}
