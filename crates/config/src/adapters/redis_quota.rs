//! The parameters of Istio's `redisquota` adapter: quotas that are counted in a Redis and shared by all Mixers.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use super::bounded;
use super::named::named;
use super::params::{self, Problem};
use super::quota::{QuotaLimit, limit};
use super::tls::{self, Tls};

/// Most buckets of a rolling window: what one key may hold in Redis.
const MAX_BUCKETS: i64 = 1000;
/// Connections to one Redis unless told; requests share each of them.
const CONNECTIONS: u32 = 10;
/// Most connections to one Redis.
const MAX_CONNECTIONS: u32 = 100;

/// A Redis that counts quotas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisServer {
    /// Where it is.
    pub place: RedisPlace,
    /// How many connections are held.
    pub connections: u32,
    /// How it is known; `None` for connections in plain text.
    pub security: Option<Security>,
}

/// How a Redis that speaks TLS is known, by the name in its address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Security {
    /// By the authorities of the system that Mixer runs on.
    System,
    /// By authorities, and with a certificate of Mixer's own, from files; their `server_name` is `None`.
    Files(Tls),
}

/// Where a Redis is. Addresses are `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RedisPlace {
    /// One server.
    Server(String),
    /// A cluster, of which some nodes are named.
    Cluster(Vec<String>),
    /// The master that sentinels name.
    Sentinel {
        /// What the sentinels call it.
        master: String,
        /// The sentinels.
        sentinels: Vec<String>,
    },
}

impl fmt::Display for RedisPlace {
    /// As `redisServerUrl` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(address) => f.write_str(address),
            Self::Cluster(nodes) => write!(f, "{CLUSTER}{}", nodes.join(",")),
            Self::Sentinel { master, sentinels } => write!(f, "{SENTINEL}{}/{master}", sentinels.join(",")),
        }
    }
}

/// Before the nodes of a cluster.
const CLUSTER: &str = "redis+cluster://";
/// Before the sentinels.
const SENTINEL: &str = "redis+sentinel://";
/// At the beginning of an address with TLS; without its second `s` it is one without.
const SECURE: &str = "rediss";
/// Most nodes or sentinels that are named.
const MAX_NODES: usize = 32;

/// How used units come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// All at once, a window after the first of them was used.
    FixedWindow,
    /// Each bucket's when the window has passed it.
    RollingWindow {
        /// Length of a bucket in nanoseconds.
        bucket: i64,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Params {
    redis_server_url: String,
    #[serde(deserialize_with = "params::integer")]
    connection_pool_size: i64,
    tls: Option<tls::Params>,
    quotas: Vec<Quota>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Quota {
    name: String,
    #[serde(deserialize_with = "params::integer")]
    max_amount: i64,
    valid_duration: crate::Duration,
    bucket_duration: crate::Duration,
    rate_limit_algorithm: Name,
    overrides: Vec<Override>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Override {
    #[serde(deserialize_with = "params::expressions")]
    dimensions: BTreeMap<String, String>,
    #[serde(deserialize_with = "params::integer")]
    max_amount: i64,
}

#[derive(Clone, Copy, Debug, Default)]
enum Name {
    #[default]
    FixedWindow,
    RollingWindow,
}

named!(Name { "FIXED_WINDOW" = 0 => FixedWindow, "ROLLING_WINDOW" = 1 => RollingWindow });

/// Reads the parameters; the error names the one that is wrong.
pub(super) fn read(params: Params) -> Result<(RedisServer, Vec<QuotaLimit>), Problem> {
    let (url, secure) = plain(&params.redis_server_url);
    let server = RedisServer {
        place: place(&url)?,
        connections: connections(params.connection_pool_size)?,
        security: security(secure, tls::read(params.tls)?)?,
    };
    bounded(&params.quotas, "quotas")?;
    let quotas = params.quotas.into_iter().enumerate();
    let limits: Result<Vec<_>, _> = quotas
        .map(|(i, quota)| read_quota(quota, &format!("quotas[{i}]")))
        .collect();
    Ok((server, limits?))
}

/// The address without TLS, and whether it is one with.
fn plain(url: &str) -> (String, bool) {
    let rest = url.strip_prefix(SECURE);
    let rest = rest.filter(|rest| rest.starts_with(':') || rest.starts_with('+'));
    // `rediss:6379` is a host of that name.
    let rest = rest.filter(|rest| rest.contains("://"));
    rest.map_or_else(|| (url.to_owned(), false), |rest| (format!("redis{rest}"), true))
}

fn security(secure: bool, files: Option<Tls>) -> Result<Option<Security>, Problem> {
    match (secure, files) {
        (false, None) => Ok(None),
        (true, None) => Ok(Some(Security::System)),
        (false, Some(_)) => Err(Problem::new(
            "tls",
            "is for an address with TLS; write rediss:// (or rediss+cluster://, rediss+sentinel://) before it",
        )),
        (true, Some(files)) if files.server_name.is_some() => Err(Problem::new(
            "tls.serverName",
            "is not served for Redis: its certificate must have the name of its address",
        )),
        (true, Some(files)) => Ok(Some(Security::Files(files))),
    }
}

fn place(url: &str) -> Result<RedisPlace, Problem> {
    if let Some(nodes) = url.strip_prefix(CLUSTER) {
        return addresses(nodes).map(RedisPlace::Cluster);
    }
    if let Some(rest) = url.strip_prefix(SENTINEL) {
        let (sentinels, master) = rest
            .split_once('/')
            .filter(|(_, master)| !master.is_empty())
            .ok_or_else(|| {
                Problem::new(
                    "redisServerUrl",
                    "names no master; write redis+sentinel://HOST:PORT,HOST:PORT/MASTER",
                )
            })?;
        let sentinels = addresses(sentinels)?;
        let master = master.to_owned();
        return Ok(RedisPlace::Sentinel { master, sentinels });
    }
    address(url.strip_prefix("redis://").unwrap_or(url)).map(RedisPlace::Server)
}

fn addresses(list: &str) -> Result<Vec<String>, Problem> {
    let nodes: Vec<String> = list.split(',').map(address).collect::<Result<_, _>>()?;
    match nodes.len() <= MAX_NODES {
        true => Ok(nodes),
        false => Err(Problem::new(
            "redisServerUrl",
            format!("names more than {MAX_NODES} addresses; a few suffice to find the others"),
        )),
    }
}

fn address(address: &str) -> Result<String, Problem> {
    let problem = |message: &str| Problem::new("redisServerUrl", message);
    match address.rsplit_once(':') {
        _ if address.contains("://") => Err(problem(
            "has a scheme that is not served; write HOST:PORT, redis+cluster://HOST:PORT,… or \
             redis+sentinel://HOST:PORT,…/MASTER, with TLS rediss://, rediss+cluster:// or rediss+sentinel://",
        )),
        Some((host, port))
            if !host.is_empty()
                && !host.contains([',', '/', '@'])
                && port.parse::<u16>().is_ok_and(|port| port > 0) =>
        {
            Ok(address.to_owned())
        }
        _ => Err(problem("is not an address; write HOST:PORT")),
    }
}

fn connections(size: i64) -> Result<u32, Problem> {
    match u32::try_from(size) {
        Ok(0) => Ok(CONNECTIONS),
        Ok(size) if size <= MAX_CONNECTIONS => Ok(size),
        _ => Err(Problem::new(
            "connectionPoolSize",
            format!("{size} is not from 0 (the default, {CONNECTIONS}) to {MAX_CONNECTIONS}"),
        )),
    }
}

fn read_quota(quota: Quota, path: &str) -> Result<QuotaLimit, Problem> {
    let own = limit(quota.max_amount, quota.valid_duration, path)?;
    if own.window < 1_000_000 {
        return Err(Problem::new(
            format!("{path}.validDuration"),
            "must be a millisecond or longer: Redis forgets a quota when its window ends",
        ));
    }
    bounded(&quota.overrides, &format!("{path}.overrides"))?;
    let mut overrides = Vec::new();
    for (i, other) in quota.overrides.into_iter().enumerate() {
        if other.dimensions.is_empty() {
            let path = format!("{path}.overrides[{i}].dimensions");
            return Err(Problem::new(
                path,
                "is empty: the override would hold for everything",
            ));
        }
        let own = limit(
            other.max_amount,
            quota.valid_duration,
            &format!("{path}.overrides[{i}]"),
        )?;
        overrides.push((other.dimensions, own));
    }
    let algorithm = algorithm(
        quota.rate_limit_algorithm,
        quota.bucket_duration,
        own.window,
        path,
    )?;
    if own.amount == 0 {
        return Err(Problem::new(
            format!("{path}.maxAmount"),
            "must be 1 or more, or nothing would ever be granted",
        ));
    }
    Ok(QuotaLimit {
        name: quota.name,
        limit: own,
        algorithm,
        overrides,
    })
}

fn algorithm(name: Name, bucket: crate::Duration, window: i64, path: &str) -> Result<Algorithm, Problem> {
    let problem = |message: &str| Err(Problem::new(format!("{path}.bucketDuration"), message));
    match (name, i64::try_from(bucket.0.as_nanos()).unwrap_or(i64::MAX)) {
        (Name::FixedWindow, 0) => Ok(Algorithm::FixedWindow),
        (Name::FixedWindow, _) => problem("is for ROLLING_WINDOW; take it out, or set rateLimitAlgorithm"),
        (Name::RollingWindow, bucket) if bucket < 1_000_000 => problem("must be a millisecond or longer"),
        (Name::RollingWindow, bucket) if bucket >= window => problem("must be shorter than validDuration"),
        (Name::RollingWindow, bucket) if window / bucket > MAX_BUCKETS => {
            problem("is less than a thousandth of validDuration; take longer buckets")
        }
        (Name::RollingWindow, bucket) => Ok(Algorithm::RollingWindow { bucket }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(RedisServer, Vec<QuotaLimit>), Problem> {
        read(params::read(&serde_json::from_str(text).unwrap())?)
    }

    #[test]
    fn istios_sample_is_read() {
        let (server, limits) = parse(
            r#"{"redisServerUrl": "redis-release-master:6379", "connection_pool_size": 20, "quotas": [
                {"name": "requestcountquota.instance.istio-system", "max_amount": 500, "validDuration": "1s",
                 "bucketDuration": "500ms", "rateLimitAlgorithm": "ROLLING_WINDOW",
                 "overrides": [{"dimensions": {"destination": "reviews"}, "maxAmount": "1"}]}]}"#,
        )
        .unwrap();
        assert_eq!(
            (server.place.to_string().as_str(), server.connections),
            ("redis-release-master:6379", 20)
        );
        let half = Algorithm::RollingWindow { bucket: 500_000_000 };
        assert_eq!((limits[0].limit.amount, limits[0].algorithm), (500, half));
        assert_eq!(limits[0].overrides[0].1.amount, 1);
    }

    #[test]
    fn clusters_and_sentinels_are_addresses_too() {
        let check = |url: &str, expected: RedisPlace| {
            let text = format!(r#"{{"redisServerUrl": "{url}"}}"#);
            let place = parse(&text).unwrap().0.place;
            assert_eq!((place.to_string().as_str(), &place), (url, &expected));
        };
        let nodes = vec!["a:1".to_owned(), "b:2".to_owned()];
        check("redis+cluster://a:1,b:2", RedisPlace::Cluster(nodes.clone()));
        let master = "quota".to_owned();
        let sentinels = nodes;
        check(
            "redis+sentinel://a:1,b:2/quota",
            RedisPlace::Sentinel { master, sentinels },
        );
    }

    #[test]
    fn with_tls_redis_is_known_by_files_or_by_the_system() {
        let check = |url: &str, tls: &str, expected: Result<Option<bool>, &str>| {
            let text = format!(r#"{{"redisServerUrl": "{url}"{tls}}}"#);
            let files = |security| matches!(security, Security::Files(_));
            let seen = parse(&text).map(|(server, _)| server.security.map(files));
            assert_eq!(
                seen.as_ref().map_err(|problem| problem.path.as_str()),
                expected.as_ref().map_err(|path| *path)
            );
        };
        let files = r#", "tls": {"caCertificates": "ca.pem"}"#;
        check("a:1", "", Ok(None));
        check("rediss:1", "", Ok(None));
        check("rediss://a:1", "", Ok(Some(false)));
        check("rediss://a:1", files, Ok(Some(true)));
        check("rediss+cluster://a:1,b:2", files, Ok(Some(true)));
        check("rediss+sentinel://a:1/m", files, Ok(Some(true)));
        check("a:1", files, Err("tls"));
        check(
            "rediss://a:1",
            r#", "tls": {"caCertificates": "/etc/ca.pem"}"#,
            Err("tls.caCertificates"),
        );
        check(
            "rediss://a:1",
            r#", "tls": {"caCertificates": "ca.pem", "serverName": "b"}"#,
            Err("tls.serverName"),
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |url: &str, quota: &str, path: &str| {
            let text = format!(r#"{{"redisServerUrl": "{url}", "quotas": [{quota}]}}"#);
            assert_eq!(parse(&text).unwrap_err().path, path, "{text}");
        };
        for url in [
            "",
            "redis",
            "redis:",
            "redis:0",
            ":6379",
            "a:1,b:2",
            "redisss://a:1",
            "rediss:0",
            "sentinel://m@a:1",
            "redis+sentinel://a:1",
            "redis+cluster://a:1,b",
        ] {
            check(url, "", "redisServerUrl");
        }
        let rolling = r#""rateLimitAlgorithm": "ROLLING_WINDOW", "validDuration": "1s""#;
        for (quota, path) in [
            (r#"{"maxAmount": 1}"#.to_owned(), "quotas[0].validDuration"),
            (
                r#"{"maxAmount": -1, "validDuration": "1s"}"#.to_owned(),
                "quotas[0].maxAmount",
            ),
            (format!("{{{rolling}}}"), "quotas[0].bucketDuration"),
            (
                format!(r#"{{{rolling}, "bucketDuration": "1s"}}"#),
                "quotas[0].bucketDuration",
            ),
            (
                r#"{"bucketDuration": "1s", "validDuration": "2s"}"#.to_owned(),
                "quotas[0].bucketDuration",
            ),
            (
                r#"{"validDuration": "1s", "overrides": [{"maxAmount": 1}]}"#.to_owned(),
                "quotas[0].overrides[0].dimensions",
            ),
            (
                r#"{"validDuration": "1s", "rateLimitAlgorithm": "LEAKY"}"#.to_owned(),
                "quotas[0].rateLimitAlgorithm",
            ),
        ] {
            check("a:1", &quota, path);
        }
        assert_eq!(
            parse(r#"{"redisServerUrl": "a:1", "connectionPoolSize": 101}"#)
                .unwrap_err()
                .path,
            "connectionPoolSize"
        );
    }
}
