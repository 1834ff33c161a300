//! `fluentd`: log entries by the forward protocol.

use serde::Deserialize;

use super::params::{self, Problem};
use super::tls::{self, Tls};
use super::{address, nanos};

/// Entries that may wait unless told (Istio's default).
const QUEUE: usize = 1024;
/// Bytes of a batch unless told (Istio's default).
const BATCH: usize = 8 << 20;
/// A minute, in nanoseconds: Istio's default of both times.
const MINUTE: i64 = 60_000_000_000;

/// Parameters (adapter.fluentd.config).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fluentd {
    /// `HOST:PORT`.
    pub address: String,
    /// TLS to it; plain text without.
    pub tls: Option<Tls>,
    /// Durations as milliseconds instead of text.
    pub integer_duration: bool,
    /// Most entries that wait, 1 to 1,000,000.
    pub queue: usize,
    /// Bytes after which a batch is sent.
    pub batch: usize,
    /// Nanoseconds after which what waits is sent.
    pub interval: i64,
    /// Nanoseconds within which a batch must be taken.
    pub timeout: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    address: String,
    integer_duration: bool,
    #[serde(deserialize_with = "params::integer")]
    instance_buffer_size: i64,
    #[serde(deserialize_with = "params::integer")]
    max_batch_size_bytes: i64,
    push_interval_duration: crate::Duration,
    push_timeout_duration: crate::Duration,
    tls: Option<tls::Params>,
}

fn size(path: &str, given: i64, default: usize, most: usize) -> Result<usize, Problem> {
    match usize::try_from(given) {
        Ok(0) => Ok(default),
        Ok(size) if size <= most => Ok(size),
        _ => Err(Problem::new(
            path,
            format!("{given} is not from 0 (the default, {default}) to {most}"),
        )),
    }
}

pub(super) fn read(params: Params) -> Result<Fluentd, Problem> {
    Ok(Fluentd {
        address: address("address", &params.address, "localhost:24224")?,
        tls: tls::read(params.tls)?,
        integer_duration: params.integer_duration,
        queue: size(
            "instanceBufferSize",
            params.instance_buffer_size,
            QUEUE,
            1_000_000,
        )?,
        batch: size("maxBatchSizeBytes", params.max_batch_size_bytes, BATCH, 64 << 20)?,
        interval: nanos("pushIntervalDuration", params.push_interval_duration, MINUTE)?,
        timeout: nanos("pushTimeoutDuration", params.push_timeout_duration, MINUTE)?,
    })
}
