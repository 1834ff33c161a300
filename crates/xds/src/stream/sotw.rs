//! Requests of the state-of-the-world variant.

use super::{Refused, Stream, nonce_of};
use crate::types::TypeUrl;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use std::time::Duration;

impl Stream {
    /// A request on a state-of-the-world stream: an answer, and the whole list of names each time. One with a stale
    /// nonce is ignored, since the client will answer the newer response with its newest list.
    ///
    /// # Errors
    /// The request breaks a bound; the stream is to be closed.
    pub fn on_sotw(&mut self, now: Duration, request: DiscoveryRequest) -> Result<(), Refused> {
        let url = TypeUrl::from(request.type_url);
        if !request.resource_locators.is_empty() {
            return Err(Refused::Locators { type_url: url });
        }
        if request.resource_names.len() > self.settings.names {
            return Err(Refused::TooManyNames {
                type_url: url,
                limit: self.settings.names,
            });
        }
        self.check_bytes(&url, &request.resource_names, false)?;
        let mut events = Vec::new();
        let pool = self.pool.clone();
        let (kind, first) = self.kind_mut(url.clone())?;
        let nonce = nonce_of(&request.response_nonce);
        if !first && nonce != kind.last_nonce {
            return Ok(());
        }
        if let Some(nonce) = nonce {
            let error = request
                .error_detail
                .as_ref()
                .map(|status| status.message.as_str());
            kind.answered(nonce, error, now, &mut events);
        }
        let changed = kind
            .subscription
            .replace(request.resource_names, url.legacy_wildcard(), &pool);
        let news = first || changed.is_news();
        kind.answer |= changed.widened || (first && url.whole_state());
        kind.subscribed(changed, |_| false);
        if first {
            self.pay_owed(&url, false);
        }
        self.events.append(&mut events);
        if news {
            self.note_subscribed(&url);
        }
        Ok(())
    }
}
