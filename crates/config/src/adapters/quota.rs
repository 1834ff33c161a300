//! The limits of quotas: what `memquota` and `redisquota` have in common, and `memquota` itself.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::bounded;
use super::named::named;
use super::params::{self, Problem};
use super::redis_quota::Algorithm;

/// How much may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Units within the window.
    pub amount: u64,
    /// Nanoseconds after which a used unit comes back; 0 for never.
    pub window: i64,
}

/// A quota's limit.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaLimit {
    /// The instance, as referred to.
    pub name: String,
    /// What holds where no override does.
    pub limit: Limit,
    /// How units come back.
    pub algorithm: Algorithm,
    /// Limits for dimensions of these values; the first whose dimensions all match counts.
    pub overrides: Vec<(BTreeMap<String, String>, Limit)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    quotas: Vec<Quota>,
    /// Envoy's rate limit calls carry no deduplication id, so nothing is deduplicated.
    #[serde(rename = "minDeduplicationDuration")]
    _min_deduplication_duration: Option<crate::Duration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Quota {
    name: String,
    #[serde(default, deserialize_with = "params::integer")]
    max_amount: i64,
    #[serde(default)]
    valid_duration: crate::Duration,
    #[serde(default)]
    overrides: Vec<Override>,
    /// Istio's memquota has rolling windows alone; the names are those of its redisquota.
    #[serde(default)]
    rate_limit_algorithm: AlgorithmName,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum AlgorithmName {
    #[default]
    RollingWindow,
    FixedWindow,
}

named!(AlgorithmName { "FIXED_WINDOW" = 0 => FixedWindow, "ROLLING_WINDOW" = 1 => RollingWindow });

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Override {
    #[serde(default, deserialize_with = "params::expressions")]
    dimensions: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "params::integer")]
    max_amount: i64,
    #[serde(default)]
    valid_duration: crate::Duration,
}

/// A limit whose parameters stand at `path`.
pub(super) fn limit(max_amount: i64, duration: crate::Duration, path: &str) -> Result<Limit, Problem> {
    let amount = u64::try_from(max_amount)
        .map_err(|_| Problem::new(format!("{path}.maxAmount"), format!("{max_amount} is negative")))?;
    let Ok(window) = i64::try_from(duration.0.as_nanos()) else {
        return Err(Problem::new(
            format!("{path}.validDuration"),
            "longer than 292 years",
        ));
    };
    Ok(Limit { amount, window })
}

/// Reads the parameters of `memquota`; the error names the one that is wrong.
pub(super) fn read(params: Params) -> Result<Vec<QuotaLimit>, Problem> {
    bounded(&params.quotas, "quotas")?;
    let quotas = params.quotas.into_iter().enumerate();
    quotas
        .map(|(i, quota)| read_quota(quota, &format!("quotas[{i}]")))
        .collect()
}

fn read_quota(quota: Quota, path: &str) -> Result<QuotaLimit, Problem> {
    bounded(&quota.overrides, &format!("{path}.overrides"))?;
    let mut overrides = Vec::new();
    for (j, other) in quota.overrides.into_iter().enumerate() {
        let path = format!("{path}.overrides[{j}]");
        let own = limit(other.max_amount, other.valid_duration, &path)?;
        overrides.push((other.dimensions, own));
    }
    Ok(QuotaLimit {
        name: quota.name,
        limit: limit(quota.max_amount, quota.valid_duration, path)?,
        algorithm: match quota.rate_limit_algorithm {
            AlgorithmName::FixedWindow => Algorithm::FixedWindow,
            // The windows choose their own steps.
            AlgorithmName::RollingWindow => Algorithm::RollingWindow { bucket: 0 },
        },
        overrides,
    })
}
