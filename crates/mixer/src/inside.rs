//! Mixer's core by itself, for measurements and for fuzzing: messages in, what becomes of them out, and no socket. No interface for
//! programs.

use std::sync::Arc;

use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use feed::State;
use policy::{Asked, LOG_INBOUND};
use prost::Message;
use proto::mixer::CompressedAttributes;
use runtime::Metrics;

use crate::args::Args;
use crate::attributes::descriptor::Call;
use crate::attributes::http_log::HttpLog;
use crate::attributes::log::Sender;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::wire::references::referenced;
use crate::wire::sent::Sent;

/// A Mixer without front-ends.
#[derive(Debug)]
pub struct Core {
    engine: Arc<Engine>,
    caller: String,
    sender: Sender,
}

impl Core {
    /// One with a configuration, and a caller (an identity without `spiffe://`, and a node id).
    pub fn new(state: Arc<State>, caller: &str, node_id: &str) -> Self {
        let engine = Engine::new(&Args::default(), Clock::system(), &Metrics::new());
        engine.configure(state);
        Self {
            engine: Arc::new(engine),
            caller: caller.to_owned(),
            sender: Sender {
                principal: caller.to_owned(),
                node_id: Some(node_id.to_owned()),
                told: None,
                reporter: Sender::reporter_of(LOG_INBOUND),
            },
        }
    }

    /// The status of the answer to a check; none if it cannot be decided.
    pub async fn check(&self, message: &CheckRequest) -> Option<u16> {
        let asked = Asked {
            fail_open: None,
            rules: None,
        };
        let decided = self.engine.check(message, &self.caller, &asked, None).await;
        decided.ok().map(|decision| decision.http_status)
    }

    /// Whether a quota is granted; none if it cannot be decided.
    pub async fn charge(&self, descriptor: &RateLimitDescriptor) -> Option<bool> {
        let now = crate::frontends::wall();
        let mut call = Call::new(std::slice::from_ref(descriptor), 0);
        let charged = self.engine.charge(descriptor, &mut call, &self.caller, now).await;
        charged.ok().map(|denial| denial.is_none())
    }

    /// Reports a finished request; whether it made sense.
    pub fn report(&self, entry: HttpAccessLogEntry) -> bool {
        let (Ok(policies), Some(log)) = (self.engine.policies(), HttpLog::new(entry)) else {
            return false;
        };
        log.with_request(&policies.mesh, &self.sender, |request| {
            self.engine.report(&policies, request);
        });
        true
    }

    /// Decides on and reports what the bytes of a set of attributes of Istio's Mixer API say; whether they made sense.
    pub fn attributes(&self, bytes: &[u8]) -> bool {
        let Ok(policies) = self.engine.policies() else {
            return false;
        };
        let Ok(set) = CompressedAttributes::decode(bytes) else {
            return false;
        };
        let Ok(sent) = Sent::new(&set) else {
            return false;
        };
        let own = sent.own(&policies.mesh, &self.caller, None);
        sent.with_request(&sent.derived(), &policies.mesh, &self.caller, own, |request| {
            self.engine.weigh(&policies, request);
            let uses = policies.rules.check_reads(Some("shop"));
            referenced(&uses, &sent, u32::MAX);
            self.engine.report(&policies, request);
        });
        true
    }

    /// The Prometheus adapter's page.
    pub fn page(&self) -> String {
        self.engine.page()
    }
}
