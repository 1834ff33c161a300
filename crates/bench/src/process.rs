//! What a process costs, as Linux counts it: processor time of its threads and its memory.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;

/// Processor time of each thread at one moment, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Cpu {
    threads: BTreeMap<String, u64>,
}

impl Cpu {
    /// Of a running process (`/proc/PID/task/*/schedstat`).
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let folder = format!("/proc/{pid}/task");
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("process {pid} is gone"))? {
            let thread = entry?.file_name().to_string_lossy().into_owned();
            // A thread that ends meanwhile is not counted any more.
            let Ok(text) = fs::read_to_string(format!("{folder}/{thread}/schedstat")) else {
                continue;
            };
            let spent = text
                .split_whitespace()
                .next()
                .and_then(|first| first.parse().ok());
            threads.insert(thread, spent.unwrap_or_default());
        }
        Ok(Self { threads })
    }

    /// Spent since an earlier moment. Threads that ended meanwhile are missing in it.
    pub(crate) fn since(&self, earlier: &Self) -> Duration {
        let spent = self.threads.iter().map(|(thread, now)| {
            let before = earlier.threads.get(thread).copied().unwrap_or_default();
            now.saturating_sub(before)
        });
        Duration::from_nanos(spent.sum())
    }
}

/// Memory of a process in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: u64,
    /// At most since it started.
    pub(crate) peak: u64,
}

impl Memory {
    /// Of a running process (`/proc/PID/status`).
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("process {pid} is gone"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kibibytes.unwrap_or_default() * 1024
        };
        Ok(Self {
            resident: field("VmRSS:"),
            peak: field("VmHWM:"),
        })
    }
}

/// Megabytes, for people.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The time that this share of them does not exceed; they are in order. None at all take no time.
pub(crate) fn quantile(times: &[Duration], share: f64) -> Duration {
    let at = ((times.len() as f64 * share).ceil() as usize).saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

/// Milliseconds, for people.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
