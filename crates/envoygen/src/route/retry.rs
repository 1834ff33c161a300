//! Retries of a route.

use config::networking::HttpRetry;
use envoy_types::pb::envoy::config::route::v3::{RetryPolicy, retry_policy};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use crate::wire::{duration, plain_any, u32_value};

/// What is retried when a route does not say.
const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled";
/// How often another host is sought that was not tried before.
const HOST_ATTEMPTS: i64 = 5;

/// Envoy's retry policy; `None` if nothing is retried. `hashed` says that a hash chooses the host, so that the same one is
/// tried again.
pub(super) fn policy(retries: Option<&HttpRetry>, hashed: bool) -> Option<RetryPolicy> {
    let retries = retries?;
    let attempts = u32::try_from(retries.attempts)
        .ok()
        .filter(|attempts| *attempts > 0)?;
    let (retry_on, codes) = conditions(&retries.retry_on);
    let ignore_previous = retries.retry_ignore_previous_hosts.unwrap_or(!hashed);
    let mut out = RetryPolicy {
        num_retries: u32_value(attempts),
        retry_on,
        retriable_status_codes: codes,
        per_try_timeout: retries
            .per_try_timeout
            .filter(|t| !t.is_zero())
            .and_then(|t| duration(t.0)),
        ..Default::default()
    };
    if ignore_previous {
        out.retry_host_predicate.push(retry_policy::RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_policy::retry_host_predicate::ConfigType::TypedConfig(
                plain_any(&PreviousHostsPredicate {}),
            )),
        });
        out.host_selection_retry_max_attempts = HOST_ATTEMPTS;
    }
    if retries.retry_remote_localities == Some(true) {
        let config = PreviousPrioritiesConfig { update_frequency: 2 };
        out.retry_priority = Some(retry_policy::RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_policy::retry_priority::ConfigType::TypedConfig(plain_any(
                &config,
            ))),
        });
    }
    if let Some(backoff) = retries.backoff.filter(|b| !b.is_zero()) {
        out.retry_back_off = Some(retry_policy::RetryBackOff {
            base_interval: duration(backoff.0),
            ..Default::default()
        });
    }
    Some(out)
}

/// Retries towards the application: of requests that it has not seen, such as those that meet a connection that it closes.
pub(crate) fn inbound() -> RetryPolicy {
    RetryPolicy {
        num_retries: u32_value(2),
        retry_on: "reset-before-request".to_owned(),
        ..Default::default()
    }
}

/// `retryOn` mixes names of conditions with status codes; Envoy has them apart.
fn conditions(text: &str) -> (String, Vec<u32>) {
    if text.trim().is_empty() {
        return (DEFAULT_RETRY_ON.to_owned(), Vec::new());
    }
    let (mut names, mut codes): (Vec<&str>, Vec<u32>) = (Vec::new(), Vec::new());
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse() {
            Ok(code) => codes.push(code),
            Err(_) => names.push(part),
        }
    }
    if !codes.is_empty() && !names.contains(&"retriable-status-codes") {
        names.push("retriable-status-codes");
    }
    (names.join(","), codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_are_told_apart() {
        assert_eq!(
            conditions("5xx, 429,reset"),
            ("5xx,reset,retriable-status-codes".into(), vec![429])
        );
        assert_eq!(conditions("5xx"), ("5xx".into(), vec![]));
        assert_eq!(conditions("").0, DEFAULT_RETRY_ON);
    }

    #[test]
    fn zero_attempts_mean_none() {
        assert_eq!(
            policy(
                Some(&HttpRetry {
                    attempts: 0,
                    ..Default::default()
                }),
                false
            ),
            None
        );
    }
}
