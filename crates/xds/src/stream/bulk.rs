//! The common case at the price of one stream, however many there are: a client that differs in nothing from an older
//! table (or has nothing yet) and wants all of the newer one. It is sent runs of the table that all streams share, and
//! what is un-ACKed is noted as those runs.

use super::held::{Hold, before};
use super::kind::{Change, InFlight, Kind, Sending};
use super::names::Set;
use super::{Resources, Response, Stage, Variant};
use crate::table::{Chunk, Diff, Resource, TypeTable};
use std::sync::Arc;

/// What an un-ACKed response changed, and what the client had before.
#[derive(Debug)]
pub(super) enum Changes {
    Listed(Vec<(Change, Hold)>),
    Shared(Shared),
}

/// Whole runs of a table.
#[derive(Debug)]
pub(super) struct Shared {
    /// What the client had before.
    before: Arc<TypeTable>,
    asked: Option<Arc<Set>>,
    chunks: Vec<Arc<Chunk>>,
    /// Names that it asked for in vain.
    missing: Vec<Arc<str>>,
}

impl Changes {
    /// One by one, as a rejection needs them.
    pub(super) fn listed(self) -> Vec<(Change, Hold)> {
        let shared = match self {
            Self::Listed(list) => return list,
            Self::Shared(shared) => shared,
        };
        let hold = |name: &str| before(&shared.before, shared.asked.as_deref(), name);
        let upserts = shared.chunks.iter().flat_map(|chunk| chunk.iter());
        let upserts = upserts.map(|each| (Change::Upsert(each.clone()), hold(&each.name)));
        let missing = shared.missing.iter();
        let missing = missing.map(|name| (Change::Remove(name.clone()), hold(name)));
        upserts.chain(missing).collect()
    }

    /// The resources that were new or changed.
    pub(super) fn resources(&self) -> Box<dyn Iterator<Item = &Resource> + '_> {
        match self {
            Self::Listed(list) => Box::new(list.iter().filter_map(|(change, _)| match change {
                Change::Upsert(resource) => Some(resource),
                Change::Remove(_) => None,
            })),
            Self::Shared(shared) => Box::new(shared.chunks.iter().flat_map(|chunk| chunk.iter())),
        }
    }
}

/// Runs to be sent.
struct Batch {
    base: Arc<TypeTable>,
    chunks: Vec<Arc<Chunk>>,
    missing: Vec<Arc<str>>,
    complete: bool,
}

impl Kind {
    /// The next response towards `source`, if it is such a case.
    pub(super) fn next_bulk(
        &mut self,
        source: &Stage,
        target: &Arc<TypeTable>,
        sending: Sending,
    ) -> Option<Response> {
        let batch = self.bulk(target, sending)?;
        let whole = self.whole_state(sending.variant);
        let resources = if whole {
            target.chunks().to_vec()
        } else {
            batch.chunks.clone()
        };
        let response = Response {
            type_url: self.url.clone(),
            nonce: sending.nonce,
            version: target.version(),
            complete: batch.complete,
            resources: Resources::Shared(resources),
            removed: batch.missing.clone(),
        };
        let reached = if batch.complete {
            target.clone()
        } else {
            Arc::new(batch.base.with_chunks(&batch.chunks))
        };
        let changes = Changes::Shared(Shared {
            asked: self.held.asked().cloned(),
            before: batch.base,
            chunks: batch.chunks,
            missing: batch.missing,
        });
        self.held.advance(reached, batch.complete);
        if batch.complete {
            self.sent = Some(source.clone());
        }
        self.sent_now(&response, changes, source, sending);
        Some(response)
    }

    /// Notes a response that is about to be sent.
    pub(super) fn sent_now(
        &mut self,
        response: &Response,
        changes: Changes,
        source: &Stage,
        sending: Sending,
    ) {
        self.dirty = false;
        self.partial |= !response.complete;
        self.answer = false;
        self.last_nonce = Some(sending.nonce);
        self.in_flight = Some(InFlight {
            nonce: sending.nonce,
            sent_at: sending.now,
            version: response.version,
            changes,
            completes: response.complete.then(|| source.clone()),
        });
    }

    fn bulk(&self, target: &Arc<TypeTable>, sending: Sending) -> Option<Batch> {
        let base = self.held.plain()?;
        let exceptions = !self.rejected.is_empty() || !self.isolate.is_empty() || !self.unused.is_empty();
        if exceptions {
            return None;
        }
        let diff = target.difference_from(base);
        if !diff.removed.is_empty() || diff.changed.is_empty() {
            return None;
        }
        let missing = self.missing(target, &diff, sending.variant)?;
        let limit = if self.whole_state(sending.variant) {
            usize::MAX
        } else {
            sending.bytes
        };
        let all = diff.changed.chunks();
        let chunks = first_of(all, limit);
        if chunks.is_empty() {
            return None;
        }
        let complete = chunks.len() == all.len();
        Some(Batch {
            base: base.clone(),
            chunks,
            missing: if complete { missing } else { Vec::new() },
            complete,
        })
    }

    /// Names that were asked for in vain; `None` when the client does not want all that is new.
    fn missing(&self, target: &TypeTable, diff: &Diff, variant: Variant) -> Option<Vec<Arc<str>>> {
        let asked = self.held.asked();
        if self.subscription.wildcard {
            return asked.is_none().then(Vec::new);
        }
        let names = self.subscription.names.only_shared()?;
        match asked {
            None => {
                let covers_all =
                    names.coverage(target).all || diff.changed.iter().all(|each| names.contains(&each.name));
                covers_all.then(Vec::new)
            }
            Some(asked) if Arc::ptr_eq(asked, names) => {
                let coverage = names.coverage(target);
                // State of the world has words of its own for what is not there.
                let sayable = variant == Variant::Delta || coverage.missing.is_empty();
                (coverage.all && sayable).then(|| coverage.missing.clone())
            }
            Some(_) => None,
        }
    }
}

/// Runs up to that many bytes.
fn first_of(chunks: &[Arc<Chunk>], limit: usize) -> Vec<Arc<Chunk>> {
    let mut left = Some(limit);
    let fits = chunks.iter().take_while(|chunk| {
        left = left.and_then(|left| left.checked_sub(chunk.weight));
        left.is_some()
    });
    fits.cloned().collect()
}

#[cfg(test)]
mod tests {
    use crate::stream::{Response, Settings, Stream, Variant, nonce_text};
    use crate::table::Table;
    use crate::types::{CLUSTER, ENDPOINTS, TypeUrl};
    use crate::{Resource, stream::Resources};
    use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Duration = Duration::ZERO;
    /// Enough for a run of three small resources.
    const RUN: usize = 150;

    fn table(url: &TypeUrl, names: std::ops::Range<u8>, content: &'static str) -> Arc<Table> {
        let mut table = Table::builder();
        for name in names {
            table.insert(url.clone(), format!("{name:03}").into(), content.into());
        }
        Arc::new(table.build(None))
    }

    fn names(names: std::ops::Range<u8>) -> Vec<String> {
        names.map(|name| format!("{name:03}")).collect()
    }

    fn ask(stream: &mut Stream, url: &TypeUrl, names: Vec<String>) {
        let request = DeltaDiscoveryRequest {
            type_url: url.to_string(),
            resource_names_subscribe: names,
            ..Default::default()
        };
        stream.on_delta(NOW, request).unwrap();
    }

    fn answer(stream: &mut Stream, response: &Response, error: Option<&str>) {
        let error = error.map(|message| envoy_types::pb::google::rpc::Status {
            message: message.into(),
            ..Default::default()
        });
        let request = DeltaDiscoveryRequest {
            type_url: response.type_url.to_string(),
            response_nonce: nonce_text(response.nonce),
            error_detail: error,
            ..Default::default()
        };
        stream.on_delta(NOW, request).unwrap();
    }

    fn sent(response: &Response) -> Vec<String> {
        response
            .resources
            .iter()
            .map(|each| each.name.to_string())
            .collect()
    }

    fn stream(table: Arc<Table>, response_bytes: usize) -> Stream {
        let settings = Settings {
            response_bytes,
            ..Settings::default()
        };
        Stream::new(Variant::Delta, settings, table)
    }

    #[test]
    fn streams_of_one_table_are_sent_the_same_runs() {
        let table = table(&CLUSTER, 0..20, "x");
        let runs = || {
            let mut stream = stream(table.clone(), 1 << 20);
            ask(&mut stream, &CLUSTER, Vec::new());
            match stream.poll(NOW).unwrap().resources {
                Resources::Shared(chunks) => chunks.iter().map(Arc::as_ptr).collect::<Vec<_>>(),
                Resources::Listed(list) => panic!("copied: {list:?}"),
            }
        };
        assert_eq!(runs(), runs());
    }

    #[test]
    fn names_that_do_not_exist_are_said_with_the_last_part() {
        let mut stream = stream(table(&ENDPOINTS, 0..6, "x"), RUN);
        ask(&mut stream, &ENDPOINTS, names(0..8));
        let first = stream.poll(NOW).unwrap();
        assert!(!first.complete && first.removed.is_empty());
        assert_eq!(sent(&first), names(0..3));
        answer(&mut stream, &first, None);
        let last = stream.poll(NOW).unwrap();
        assert_eq!(sent(&last), names(3..6));
        assert_eq!(
            last.removed.iter().map(ToString::to_string).collect::<Vec<_>>(),
            names(6..8)
        );
        answer(&mut stream, &last, None);
        assert!(stream.poll(NOW).is_none());
    }

    #[test]
    fn a_change_between_two_parts_is_not_lost() {
        let mut stream = stream(table(&ENDPOINTS, 0..6, "x"), RUN);
        ask(&mut stream, &ENDPOINTS, names(0..6));
        let first = stream.poll(NOW).unwrap();
        stream.on_table(table(&ENDPOINTS, 1..5, "y"));
        answer(&mut stream, &first, None);
        let (mut have, mut gone) = (Vec::new(), Vec::new());
        while let Some(response) = stream.poll(NOW) {
            have.extend(
                response
                    .resources
                    .iter()
                    .map(|each: &Resource| (each.name.to_string(), each.bytes.clone())),
            );
            gone.extend(response.removed.iter().map(ToString::to_string));
            answer(&mut stream, &response, None);
        }
        assert_eq!(
            have,
            names(1..5)
                .into_iter()
                .map(|name| (name, "y".into()))
                .collect::<Vec<_>>()
        );
        // The last was asked for and never sent; the first is kept for the drain time.
        assert_eq!(gone, ["005"]);
    }

    #[test]
    fn a_rejected_run_is_sent_again_in_parts_but_for_what_is_bad() {
        let mut stream = stream(table(&CLUSTER, 0..5, "x"), 1 << 20);
        ask(&mut stream, &CLUSTER, Vec::new());
        let all = stream.poll(NOW).unwrap();
        answer(
            &mut stream,
            &all,
            Some("Error adding/updating cluster(s) 002: bad"),
        );
        assert!(stream.poll(NOW).is_none(), "Envoy applied the good ones");
        stream.on_table(table(&CLUSTER, 0..5, "y"));
        let next = stream.poll(NOW).unwrap();
        assert_eq!(sent(&next), names(0..5));
        answer(&mut stream, &next, Some("something is wrong"));
        let again = stream.poll(NOW).unwrap();
        assert_eq!(sent(&again), names(0..1));
    }
}
