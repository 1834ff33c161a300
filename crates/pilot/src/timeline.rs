//! What became of the newest pushes, from the change in the feed to the last proxy's answer: the contents of
//! `/debug/pushes`. It is told what happens and knows neither proxies nor streams.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

/// Pushes that are remembered.
const KEPT: usize = 64;

/// One push: what a new snapshot set off.
#[derive(Debug, Clone)]
struct Push {
    epoch: u64,
    /// When the change was seen.
    seen: Instant,
    /// From there until a proxy's table was first generated, and until the last was.
    started: Duration,
    generated: Option<Duration>,
    /// Proxies that were connected, and those whose tables it changed.
    connected: usize,
    changed: usize,
    /// Messages and resources that were sent, and when first.
    messages: u64,
    resources: u64,
    bytes: u64,
    first_sent: Option<Duration>,
    /// Proxies that have answered all of it, and when the newest did.
    synced: usize,
    last_synced: Option<Duration>,
    rejections: u64,
}

/// The newest pushes.
#[derive(Debug, Default)]
pub struct Timeline {
    pushes: Mutex<VecDeque<Push>>,
}

impl Timeline {
    /// A snapshot that answers a change seen at `seen` is about to be taken up.
    pub fn begin(&self, epoch: u64, seen: Instant) {
        let mut pushes = self.pushes.lock();
        while pushes.len() >= KEPT {
            pushes.pop_front();
        }
        pushes.push_back(Push {
            epoch,
            seen,
            started: seen.elapsed(),
            generated: None,
            connected: 0,
            changed: 0,
            messages: 0,
            resources: 0,
            bytes: 0,
            first_sent: None,
            synced: 0,
            last_synced: None,
            rejections: 0,
        });
    }

    /// All tables of the newest push are there.
    pub fn generated(&self, connected: usize, changed: usize) {
        self.newest(|push| {
            push.generated = Some(push.seen.elapsed());
            push.connected = connected;
            push.changed = changed;
        });
    }

    /// A message was sent.
    pub fn sent(&self, resources: usize, bytes: usize) {
        self.newest(|push| {
            push.messages += 1;
            push.resources += u64::try_from(resources).unwrap_or(u64::MAX);
            push.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            push.first_sent.get_or_insert_with(|| push.seen.elapsed());
        });
    }

    /// A proxy has answered all that `epoch` asks of it.
    pub fn synced(&self, epoch: u64) {
        let mut pushes = self.pushes.lock();
        if let Some(push) = pushes.iter_mut().rev().find(|push| push.epoch == epoch) {
            push.synced += 1;
            push.last_synced = Some(push.seen.elapsed());
        }
    }

    /// A proxy rejected something.
    pub fn rejected(&self) {
        self.newest(|push| push.rejections += 1);
    }

    fn newest(&self, change: impl FnOnce(&mut Push)) {
        if let Some(push) = self.pushes.lock().back_mut() {
            change(push);
        }
    }

    /// The pushes, newest first; times in milliseconds from when the change was seen.
    #[must_use]
    pub fn json(&self) -> Value {
        let millis = |time: Option<Duration>| time.map(|time| (time.as_secs_f64() * 10_000.0).round() / 10.0);
        let pushes = self.pushes.lock();
        let pushes = pushes.iter().rev().map(|push| {
            json!({
                "snapshot": push.epoch,
                "seconds_ago": push.seen.elapsed().as_secs(),
                "proxies": { "connected": push.connected, "changed": push.changed, "synced": push.synced },
                "messages": push.messages,
                "resources": push.resources,
                "bytes": push.bytes,
                "rejections": push.rejections,
                "milliseconds": {
                    "snapshot_built": millis(Some(push.started)),
                    "tables_generated": millis(push.generated),
                    "first_sent": millis(push.first_sent),
                    "last_acked": millis(push.last_synced),
                },
            })
        });
        pushes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_followed_to_its_last_answer() {
        let timeline = Timeline::default();
        timeline.begin(7, Instant::now());
        timeline.generated(3, 2);
        timeline.sent(5, 100);
        timeline.sent(1, 10);
        timeline.synced(7);
        timeline.synced(7);
        timeline.synced(6);
        timeline.rejected();
        let page = timeline.json();
        let push = &page[0];
        assert_eq!(
            push["proxies"],
            json!({ "connected": 3, "changed": 2, "synced": 2 })
        );
        assert_eq!(
            (
                push["messages"].as_u64(),
                push["resources"].as_u64(),
                push["bytes"].as_u64()
            ),
            (Some(2), Some(6), Some(110))
        );
        assert_eq!(push["rejections"], 1);
        for step in ["snapshot_built", "tables_generated", "first_sent", "last_acked"] {
            assert!(push["milliseconds"][step].is_number(), "{step}");
        }
    }

    #[test]
    fn old_pushes_are_forgotten() {
        let timeline = Timeline::default();
        for epoch in 1..=200 {
            timeline.begin(epoch, Instant::now());
        }
        let page = timeline.json();
        assert_eq!(page.as_array().unwrap().len(), KEPT);
        assert_eq!(page[0]["snapshot"], 200);
    }
}
