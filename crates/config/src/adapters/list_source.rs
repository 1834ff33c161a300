//! `listchecker` with a list that is fetched from a URL.

use super::list::{List, Params};
use super::params::Problem;

/// Shortest time between two fetches, in nanoseconds.
const MIN_REFRESH: i64 = 1_000_000_000;
/// Time between two fetches unless told (the default of Istio 1.4's adapter).
const REFRESH: i64 = 60_000_000_000;
/// How long the last good list counts unless told (likewise).
const TTL: i64 = 300_000_000_000;

/// A list that is fetched: one entry a line, blank lines and lines that begin with `#` set aside.
#[derive(Clone, Debug, PartialEq)]
pub struct ListSource {
    /// Where from: `http` or `https`.
    pub url: String,
    /// Nanoseconds between two fetches, at least one second.
    pub refresh: i64,
    /// Nanoseconds for which the last good list counts when it cannot be fetched any more.
    pub ttl: i64,
    /// Kind of entries, entries that are always on the list, and what being on it means.
    pub(super) params: Params,
}

pub(super) fn read(params: Params) -> Result<ListSource, Problem> {
    // Overrides are checked now, not with the first fetch.
    List::new(&params)?;
    let refresh = super::nanos(
        "refreshInterval",
        params.refresh_interval.unwrap_or_default(),
        REFRESH,
    )?;
    let ttl = super::nanos("ttl", params.ttl.unwrap_or_default(), TTL)?;
    if refresh < MIN_REFRESH {
        return Err(Problem::new("refreshInterval", "must be a second or longer"));
    }
    if ttl < refresh {
        return Err(Problem::new(
            "ttl",
            "is shorter than refreshInterval: the list would be forgotten before it is fetched again",
        ));
    }
    Ok(ListSource {
        url: super::url("providerUrl", &params.provider_url)?,
        refresh,
        ttl,
        params,
    })
}

impl ListSource {
    /// The list that a fetched text is, together with the handler's own entries.
    ///
    /// # Errors
    /// The line that is no entry of the handler's kind, or that there are too many.
    pub fn parse(&self, text: &str) -> Result<List, String> {
        let lines = text.lines().map(str::trim);
        let fetched = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut params = self.params.clone();
        params.overrides.extend(fetched.map(str::to_owned));
        List::new(&params).map_err(|problem| problem.message)
    }
}
