//! Times and durations of messages in nanoseconds, clamped to what 64 bits hold.

use envoy_types::pb::google::protobuf::{Duration, Timestamp};

const SECOND: i64 = 1_000_000_000;

pub(crate) fn timestamp(at: Option<&Timestamp>) -> Option<expr::Timestamp> {
    at.map(|at| expr::Timestamp(nanos(at.seconds, at.nanos)))
}

pub(crate) fn duration(length: Option<&Duration>) -> Option<i64> {
    length.map(|length| nanos(length.seconds, length.nanos))
}

pub(crate) fn nanos(seconds: i64, nanos: i32) -> i64 {
    seconds.saturating_mul(SECOND).saturating_add(nanos.into())
}
