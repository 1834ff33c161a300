//! Quotas that are counted in a Redis: two scripts, each one step for Redis, so that Mixers that ask at once grant no unit
//! twice. Time is Redis' own, so the Mixers' clocks play no part.
//!
//! A Redis that does not answer within the deadline is taken for away; after a few such answers it is left alone for a
//! moment, so that requests do not each wait for it. That is said at once and for good ([`Away::is_settled`]): a proxy that asked
//! again would hold its request to the deadline.

mod link;
mod tls;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::redis::{RedisError, Script};
use futures::future::join_all;
use parking_lot::Mutex;
use policy::{Algorithm, Charge, Due, RedisPlace, RedisServer};

use link::{Connection, Link};
use tls::Certificates;

use crate::circuit::Circuit;

/// Failures one after the other, so as many deadlines without an answer, after which Redis is left alone.
const FAILURES: u32 = 3;
/// For how long it is.
const REST: Duration = Duration::from_millis(250);
/// Longest time for the first connections to all servers that are new.
const GREETING: Duration = Duration::from_secs(3);
/// Longest dimensions that are kept as they are, in bytes.
const MAX_DIMENSIONS: usize = 256;
/// Nanoseconds in a millisecond, Redis' unit of time.
const MILLI: i64 = 1_000_000;

/// Redis did not decide.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Away {
    /// No answer in time.
    #[error("no answer from Redis within {} ms", .0.as_millis())]
    Late(Duration),
    /// Left alone after failures.
    #[error("Redis failed a moment ago")]
    Resting,
    /// Tried after such a rest, and away still.
    #[error("{0}, as before")]
    Still(Box<Away>),
    /// It cannot be reached, or refuses.
    #[error("Redis: {0}")]
    Failed(String),
}

impl Away {
    /// Whether asking again within a request's time would tell nothing else.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Away::Resting | Away::Still(_))
    }
}

/// Used units, counted until the window that began with the first of them ends.
/// KEYS: the counter. ARGV: limit, wanted, window in milliseconds. Gives whether they are granted, units in use, and
/// milliseconds until they come back.
const FIXED: &str = r"
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local wanted = tonumber(ARGV[2])
local granted = 0
if used + wanted <= tonumber(ARGV[1]) then
  granted = 1
  used = redis.call('INCRBY', KEYS[1], wanted)
  if used == wanted then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
end
return {granted, used, redis.call('PTTL', KEYS[1])}
";

/// Used units by bucket of time; a bucket's units come back when the window has passed it.
/// KEYS: a hash. ARGV: limit, wanted, window and bucket in milliseconds. Answers as [`FIXED`].
const ROLLING: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window, length = tonumber(ARGV[3]), tonumber(ARGV[4])
local wanted, used, oldest = tonumber(ARGV[2]), 0, -1
local buckets = redis.call('HGETALL', KEYS[1])
for i = 1, #buckets, 2 do
  local start = tonumber(buckets[i]) * length
  if start + length + window <= now then
    redis.call('HDEL', KEYS[1], buckets[i])
  else
    used = used + tonumber(buckets[i + 1])
    if oldest < 0 or start < oldest then oldest = start end
  end
end
local granted = 0
if used + wanted <= tonumber(ARGV[1]) then
  granted = 1
  used = used + wanted
  local bucket = math.floor(now / length)
  redis.call('HINCRBY', KEYS[1], bucket, wanted)
  redis.call('PEXPIRE', KEYS[1], window + 2 * length)
  if oldest < 0 then oldest = bucket * length end
end
if oldest < 0 then return {granted, used, -1} end
return {granted, used, oldest + length + window - now}
";

/// All Redis servers that rules name.
#[derive(Debug)]
pub(crate) struct Stores {
    deadline: Duration,
    /// The folder of certificates; without one there is no TLS by files.
    certificates: Option<PathBuf>,
    by_server: Mutex<HashMap<RedisServer, Arc<Redis>>>,
}

impl Stores {
    /// No servers yet; `deadline` is how long a request waits for one.
    pub(crate) fn new(deadline: Duration, certificates: Option<PathBuf>) -> Self {
        Self {
            deadline,
            certificates,
            by_server: Mutex::default(),
        }
    }

    /// The store of a server; connects with the first charge, unless it was greeted.
    pub(crate) fn of(&self, server: &RedisServer) -> Result<Arc<Redis>, Away> {
        let mut stores = self.by_server.lock();
        if let Some(store) = stores.get(server) {
            return Ok(store.clone());
        }
        let store = Arc::new(self.made(server)?);
        stores.insert(server.clone(), store.clone());
        Ok(store)
    }

    fn made(&self, server: &RedisServer) -> Result<Redis, Away> {
        let read = |security| Certificates::read(security, self.certificates.as_deref());
        let certificates = server.security.as_ref().map(read).transpose();
        let certificates = certificates.map_err(Away::Failed)?;
        Redis::new(server, self.deadline, certificates).map_err(|error| failed(&error))
    }

    /// Takes up certificates that were replaced: connections are made anew. Reads files, so it is not for a request's path. What
    /// cannot be read changes nothing.
    pub(crate) fn refresh(&self) {
        let stores = self.by_server.lock().clone();
        for (server, store) in stores.into_iter().filter(|(server, _)| server.security.is_some()) {
            if let Ok(new) = self.made(&server)
                && new.certificates != store.certificates
            {
                tracing::info!(redis = %server.place, "the certificates of a quota's Redis are replaced");
                // Meanwhile no rule may name it any more.
                if let Some(slot) = self.by_server.lock().get_mut(&server) {
                    *slot = Arc::new(new);
                }
            }
        }
    }

    /// Connects to the servers that are new, so that no request pays for that within its deadline. Bounded: one that is away
    /// is tried again by the charges.
    pub(crate) async fn greet(&self) {
        let all = self.by_server.lock().clone();
        let new = all
            .into_iter()
            .filter(|(_, store)| !store.greeted.swap(true, Ordering::Relaxed));
        let greetings = new.map(|(server, store)| async move {
            let why = match tokio::time::timeout(GREETING, store.greet()).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => failed(&error),
                Err(_) => Away::Late(GREETING),
            };
            tracing::warn!(redis = %server.place, %why, "a quota's Redis cannot be reached yet");
        });
        join_all(greetings).await;
    }

    /// Closes connections to servers that no rule names any more, and gets ready for those that one names; tells those for which
    /// that cannot be done. Reads files, so it is not for a request's path.
    pub(crate) fn keep(&self, named: &[Arc<RedisServer>]) -> Vec<(RedisPlace, Away)> {
        self.by_server
            .lock()
            .retain(|server, _| named.iter().any(|other| **other == *server));
        let mut seen: HashSet<&RedisServer> = HashSet::new();
        let broken = named
            .iter()
            .filter(|server| seen.insert(server))
            .filter_map(|server| Some((server.place.clone(), self.of(server).err()?)));
        broken.collect()
    }
}

fn failed(error: &RedisError) -> Away {
    Away::Failed(error.to_string())
}

/// One Redis.
pub(crate) struct Redis {
    link: Link,
    certificates: Option<Certificates>,
    deadline: Duration,
    greeted: AtomicBool,
    circuit: Circuit,
    fixed: Script,
    rolling: Script,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Redis {
    fn new(
        server: &RedisServer,
        deadline: Duration,
        certificates: Option<Certificates>,
    ) -> Result<Self, RedisError> {
        Ok(Self {
            link: Link::new(server, deadline, certificates.as_ref())?,
            certificates,
            deadline,
            greeted: AtomicBool::new(false),
            circuit: Circuit::new(FAILURES, REST),
            fixed: Script::new(FIXED),
            rolling: Script::new(ROLLING),
        })
    }

    /// Makes its connections, and leaves the scripts with it.
    async fn greet(&self) -> Result<(), RedisError> {
        for mut connection in self.link.all().await? {
            self.fixed.load_async(&mut connection).await?;
            self.rolling.load_async(&mut connection).await?;
        }
        Ok(())
    }

    /// Makes the charge. `now` is the process's clock in nanoseconds.
    pub(crate) async fn charge(&self, algorithm: Algorithm, due: &Due, now: i64) -> Result<Charge, Away> {
        let now = Duration::from_nanos(u64::try_from(now).unwrap_or_default());
        let Some(pass) = self.circuit.allows(now) else {
            return Err(Away::Resting);
        };
        let start = Instant::now();
        let asked = tokio::time::timeout(self.deadline, self.ask(algorithm, due)).await;
        let answer = match asked {
            Ok(Err(error)) if error.is_timeout() => Err(Away::Late(self.deadline)),
            Ok(answer) => answer.map_err(|error| failed(&error)),
            Err(_) => Err(Away::Late(self.deadline)),
        };
        if answer.is_err() {
            self.link.failed();
        }
        let rests = self.circuit.ended(pass, answer.is_ok(), now + start.elapsed());
        answer.map_err(|away| match rests {
            true => Away::Still(Box::new(away)),
            false => away,
        })
    }

    async fn ask(&self, algorithm: Algorithm, due: &Due) -> Result<Charge, RedisError> {
        let start = Instant::now();
        let mut connection = self.link.connection().await?;
        let script = match algorithm {
            Algorithm::FixedWindow => &self.fixed,
            Algorithm::RollingWindow { .. } => &self.rolling,
        };
        let mut call = script.key(key(due, algorithm));
        call.arg(due.limit.amount)
            .arg(due.amount)
            .arg(due.limit.window / MILLI);
        if let Algorithm::RollingWindow { bucket } = algorithm {
            call.arg(bucket / MILLI);
        }
        let (granted, used, reset): (u8, u64, i64) = match call.invoke_async(&mut connection).await {
            // It has ended since it was used last, by a restart of Redis, say, or could not be made then; this one mends itself
            // within the deadline. Of one that waited for an answer it is not known whether it was charged.
            Err(error)
                if matches!(connection, Connection::Server(_))
                    && (error.is_connection_dropped()
                        || error.is_io_error() && start.elapsed() < self.deadline / 2) =>
            {
                self.link.failed();
                call.invoke_async(&mut connection).await?
            }
            answer => answer?,
        };
        Ok(Charge {
            granted: granted == 1,
            remaining: due.limit.amount.saturating_sub(used),
            reset: (reset >= 0).then(|| reset.saturating_mul(MILLI)),
        })
    }
}

/// A counter of another window must not be taken for this one's. Of what clients may make long, Redis keeps a hash, the same for
/// all Mixers.
fn key(due: &Due, algorithm: Algorithm) -> String {
    let window = due.limit.window / MILLI;
    let dimensions = match due.key.len() {
        0..=MAX_DIMENSIONS => due.key.clone(),
        _ => format!("\n#{}", sha256(&due.key)),
    };
    let owner = format!("{}{dimensions}", due.counted);
    match algorithm {
        Algorithm::FixedWindow => format!("argosy:quota:{window}:{owner}"),
        Algorithm::RollingWindow { bucket } => {
            format!("argosy:quota:{window}/{}:{owner}", bucket / MILLI)
        }
    }
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
