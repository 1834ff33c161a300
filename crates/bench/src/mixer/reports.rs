//! Access logs of a proxy, streamed to Mixer at a fixed rate.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use envoy_types::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_client::AccessLogServiceClient;
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use tonic::transport::Channel;

use crate::process::{Cpu, Memory};

/// What the reports cost the server.
pub(super) struct Cost {
    /// Of one processor.
    pub(super) share: f64,
    /// Bytes before and after.
    pub(super) memory: (u64, u64),
    /// Reports that were sent, a second.
    pub(super) rate: f64,
}

/// How many reports a message has.
pub(super) fn entries(message: &StreamAccessLogsMessage) -> usize {
    match &message.log_entries {
        Some(LogEntries::HttpLogs(logs)) => logs.log_entry.len(),
        Some(LogEntries::TcpLogs(logs)) => logs.log_entry.len(),
        None => 0,
    }
}

/// Sends these messages over and over, `rate` reports a second for so long, and sees what `pid` needs for them.
pub(super) async fn measure(
    channel: Channel,
    pid: u32,
    messages: Vec<StreamAccessLogsMessage>,
    rate: usize,
    time: Duration,
) -> anyhow::Result<Cost> {
    let all: usize = messages.iter().map(entries).sum();
    anyhow::ensure!(all > 0, "there is nothing to report");
    let count = (rate as f64 * time.as_secs_f64()) as usize;
    let start = Instant::now();
    let sent = futures::stream::unfold((0, 0), move |(number, before): (usize, usize)| {
        let next = messages
            .get(number % messages.len())
            .filter(|_| before < count)
            .cloned();
        async move {
            let due = start + Duration::from_secs_f64(before as f64 / rate as f64);
            let message = next?;
            tokio::time::sleep_until(due.into()).await;
            let sum = before + entries(&message);
            Some((message, (number + 1, sum)))
        }
    });
    let (before, memory) = (Cpu::of(pid)?, Memory::of(pid)?);
    AccessLogServiceClient::new(channel)
        .stream_access_logs(sent)
        .await
        .context("Mixer does not take the reports")?;
    let took = start.elapsed().as_secs_f64();
    let spent = Cpu::of(pid)?.since(&before).as_secs_f64();
    Ok(Cost {
        share: spent / took,
        memory: (memory.resident, Memory::of(pid)?.resident),
        rate: count as f64 / took,
    })
}
