//! Requests of the incremental variant.

use super::held::Hold;
use super::{Refused, Stream, nonce_of};
use crate::table::Resource;
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
        self.check_names(&url, versions.len())?;
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
            self.subscribe(
                &url,
                first,
                (add, remove),
                if first { versions } else { HashMap::new() },
            )?;
        }
        Ok(())
    }

    fn subscribe(
        &mut self,
        url: &TypeUrl,
        first: bool,
        (add, remove): (Vec<String>, Vec<String>),
        versions: HashMap<String, String>,
    ) -> Result<(), Refused> {
        let (kind, _) = self.kind_mut(url.clone())?;
        let changed = kind
            .subscription
            .change(add, remove, first, url.legacy_wildcard());
        // An empty wildcard is an answer too: Envoy waits for it when it starts, the feed's readers for completeness.
        kind.answer |= changed.widened || (first && kind.rank == Rank::Free);
        kind.subscribed(changed, |name| versions.contains_key(name));
        for (name, version) in versions {
            if kind.subscription.covers(&name) {
                let name: Arc<str> = name.into();
                kind.held.set(name.clone(), Hold::Has(reported(name, &version)));
            }
        }
        if first {
            self.pay_owed(url);
        }
        self.note_subscribed(url);
        Ok(())
    }
}

/// A resource that the client has from an earlier stream. A version that this side did not write equals none.
fn reported(name: Arc<str>, version: &str) -> Resource {
    let version = u64::from_str_radix(version, 16).unwrap_or_default();
    Resource {
        name,
        version,
        bytes: Bytes::new(),
        endpoints: None,
    }
}
