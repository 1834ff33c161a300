//! How far each object has come among all proxies: what every Pilot tells, added up.
//!
//! Pure: reports and the time come in. A Pilot that is gone counts for a while yet, because its proxies are on their way
//! to another one or back.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use config::{Kind, ObjectKey};
use feed::distribution::{DistributionReport, ObjectName, ObjectProgress};

/// How long a Pilot's counts stay after its stream has ended.
pub const GRACE: Duration = Duration::from_secs(30);
/// Most Pilots.
const MAX_PILOTS: usize = 256;
/// Most objects of one Pilot.
const MAX_OBJECTS: usize = 200_000;
/// Longest text that is kept of a rejection, in characters.
const MAX_REASON: usize = 512;

/// A report that is not taken; the stream that brought it ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The first message has no name.
    #[error("the first report names no Pilot")]
    NoName,
    /// More Pilots than are kept.
    #[error("more than {MAX_PILOTS} Pilots report")]
    TooManyPilots,
    /// More objects than are kept.
    #[error("more than {MAX_OBJECTS} objects are reported")]
    TooManyObjects,
    /// A kind that this release does not know, or a name that is none.
    #[error("{type_url} {name:?} is no object that this release knows; run the same release everywhere")]
    Unknown {
        /// As received.
        type_url: String,
        /// As received.
        name: String,
    },
}

/// How far a version of an object has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Proxies whose configuration depends on it.
    pub proxies: u32,
    /// Those that have accepted it.
    pub accepted: u32,
    /// Those that reject something that comes from it.
    pub rejected: u32,
    /// Envoy's words for one of the rejections.
    pub reason: String,
}

impl Progress {
    /// Whether more proxies reject this, or do not have it yet, than the other.
    pub(super) fn is_behind(&self, other: &Self) -> bool {
        let missing = |each: &Self| (each.rejected, each.proxies.saturating_sub(each.accepted));
        missing(self) > missing(other)
    }
}

#[derive(Debug, Clone, Default)]
struct Told {
    uid: String,
    generation: i64,
    progress: Progress,
}

type Objects = HashMap<ObjectKey, Told>;

#[derive(Debug, Default)]
struct Pilot {
    /// The stream that speaks for it; an older one is not listened to.
    stream: u64,
    objects: Objects,
    /// What the stream has told, until it has told all.
    beginning: Option<Objects>,
    /// When its stream ended.
    gone: Option<Duration>,
}

/// What all Pilots tell.
#[derive(Debug, Default)]
pub struct Distribution {
    pilots: BTreeMap<String, Pilot>,
    streams: u64,
}

impl Distribution {
    /// A Pilot's stream begins; the number stands for it in later calls.
    ///
    /// # Errors
    /// When it has no name, or there are too many.
    pub fn begin(&mut self, pilot: &str) -> Result<u64, ReportError> {
        if pilot.is_empty() {
            return Err(ReportError::NoName);
        }
        if self.pilots.len() >= MAX_PILOTS && !self.pilots.contains_key(pilot) {
            return Err(ReportError::TooManyPilots);
        }
        self.streams += 1;
        let entry = self.pilots.entry(pilot.to_owned()).or_default();
        entry.stream = self.streams;
        entry.gone = None;
        entry.beginning = Some(Objects::new());
        Ok(self.streams)
    }

    /// Takes a report. Says whether the counts are other ones now.
    ///
    /// # Errors
    /// When it is not one; what it had before the fault is taken.
    pub fn take(
        &mut self,
        pilot: &str,
        stream: u64,
        report: DistributionReport,
    ) -> Result<bool, ReportError> {
        let Some(pilot) = self.pilots.get_mut(pilot).filter(|pilot| pilot.stream == stream) else {
            return Ok(false);
        };
        let objects = pilot.beginning.as_mut().unwrap_or(&mut pilot.objects);
        for name in &report.removed {
            objects.remove(&key(name)?);
        }
        for progress in report.changed {
            let key = key(progress.object.as_ref().unwrap_or(&ObjectName::default()))?;
            if objects.len() >= MAX_OBJECTS && !objects.contains_key(&key) {
                return Err(ReportError::TooManyObjects);
            }
            objects.insert(key, told(progress));
        }
        if report.complete
            && let Some(all) = pilot.beginning.take()
        {
            pilot.objects = all;
        }
        Ok(pilot.beginning.is_none())
    }

    /// A Pilot's stream has ended.
    pub fn end(&mut self, pilot: &str, stream: u64, now: Duration) {
        if let Some(pilot) = self.pilots.get_mut(pilot).filter(|pilot| pilot.stream == stream) {
            pilot.gone = Some(now);
            pilot.beginning = None;
        }
    }

    /// Forgets Pilots that have been gone for [`GRACE`]. Says whether there were any.
    pub fn expire(&mut self, now: Duration) -> bool {
        let before = self.pilots.len();
        self.pilots
            .retain(|_, pilot| pilot.gone.is_none_or(|gone| now.saturating_sub(gone) < GRACE));
        self.pilots.len() != before
    }

    /// How far this version of an object has come; `None` when no Pilot has told of the object. Proxies of a Pilot that
    /// has another version of it have not accepted this one.
    #[must_use]
    pub fn progress(&self, key: &ObjectKey, uid: &str, generation: i64) -> Option<Progress> {
        let told = self.pilots.values().filter_map(|pilot| pilot.objects.get(key));
        told.fold(None, |sum, told| {
            let mut sum: Progress = sum.unwrap_or_default();
            sum.proxies = sum.proxies.saturating_add(told.progress.proxies);
            if told.uid == uid && told.generation == generation {
                sum.accepted = sum.accepted.saturating_add(told.progress.accepted);
                sum.rejected = sum.rejected.saturating_add(told.progress.rejected);
                if sum.reason.is_empty() {
                    sum.reason.clone_from(&told.progress.reason);
                }
            }
            Some(sum)
        })
    }

    /// All objects that Pilots have told of, with the newest version told and its progress.
    #[must_use]
    pub fn all(&self) -> BTreeMap<ObjectKey, (i64, Progress)> {
        let mut newest: BTreeMap<&ObjectKey, &Told> = BTreeMap::new();
        for (key, told) in self.pilots.values().flat_map(|pilot| &pilot.objects) {
            let known = newest.entry(key).or_insert(told);
            if told.generation > known.generation {
                *known = told;
            }
        }
        let progress = |key: &ObjectKey, told: &Told| self.progress(key, &told.uid, told.generation);
        newest
            .into_iter()
            .filter_map(|(key, told)| Some((key.clone(), (told.generation, progress(key, told)?))))
            .collect()
    }

    /// Pilots that report, and those that are gone and still count.
    #[must_use]
    pub fn pilots(&self) -> (usize, usize) {
        let gone = self.pilots.values().filter(|pilot| pilot.gone.is_some()).count();
        (self.pilots.len() - gone, gone)
    }
}

fn key(name: &ObjectName) -> Result<ObjectKey, ReportError> {
    Kind::from_type_url(&name.type_url)
        .and_then(|kind| ObjectKey::from_resource_name(kind, &name.name))
        .ok_or_else(|| ReportError::Unknown {
            type_url: name.type_url.chars().take(128).collect(),
            name: name.name.chars().take(128).collect(),
        })
}

fn told(progress: ObjectProgress) -> Told {
    Told {
        uid: progress.uid,
        generation: progress.generation,
        progress: Progress {
            proxies: progress.proxies,
            accepted: progress.accepted,
            rejected: progress.rejected,
            reason: progress.reason.chars().take(MAX_REASON).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "networking.istio.io/v1/VirtualService";

    fn object(generation: i64, proxies: u32, accepted: u32, rejected: u32) -> ObjectProgress {
        ObjectProgress {
            object: Some(ObjectName {
                type_url: TYPE.to_owned(),
                name: "shop/reviews".to_owned(),
            }),
            uid: "u".to_owned(),
            generation,
            proxies,
            accepted,
            rejected,
            reason: if rejected > 0 {
                "bad regex".to_owned()
            } else {
                String::new()
            },
        }
    }

    fn report(changed: Vec<ObjectProgress>, complete: bool) -> DistributionReport {
        DistributionReport {
            changed,
            complete,
            ..DistributionReport::default()
        }
    }

    fn key() -> ObjectKey {
        ObjectKey::new(Kind::VirtualService, "shop", "reviews")
    }

    #[track_caller]
    fn check(distribution: &Distribution, generation: i64, expected: Option<(u32, u32, u32, &str)>) {
        let seen = distribution.progress(&key(), "u", generation);
        let seen = seen
            .as_ref()
            .map(|p| (p.proxies, p.accepted, p.rejected, p.reason.as_str()));
        assert_eq!(seen, expected);
    }

    #[test]
    fn several_pilots_add_up_and_an_older_version_counts_as_not_accepted() {
        let mut all = Distribution::default();
        check(&all, 2, None);
        let first = all.begin("a").unwrap();
        all.take("a", first, report(vec![object(2, 60, 58, 0)], true))
            .unwrap();
        let second = all.begin("b").unwrap();
        all.take("b", second, report(vec![object(1, 40, 40, 0)], true))
            .unwrap();
        check(&all, 2, Some((100, 58, 0, "")));
        all.take("b", second, report(vec![object(2, 40, 37, 3)], false))
            .unwrap();
        check(&all, 2, Some((100, 95, 3, "bad regex")));
        assert_eq!(all.progress(&key(), "another", 2).unwrap().accepted, 0);
        assert_eq!(all.all()[&key()].0, 2);
    }

    #[test]
    fn a_pilot_that_comes_back_replaces_what_it_told_once_it_has_told_all() {
        let mut all = Distribution::default();
        let stream = all.begin("a").unwrap();
        assert!(
            all.take("a", stream, report(vec![object(1, 9, 9, 0)], true))
                .unwrap()
        );
        let again = all.begin("a").unwrap();
        assert!(
            !all.take("a", again, report(vec![object(1, 4, 0, 0)], false))
                .unwrap()
        );
        check(&all, 1, Some((9, 9, 0, "")));
        assert!(
            !all.take("a", stream, report(vec![object(1, 1, 1, 0)], true))
                .unwrap(),
            "the older stream is over"
        );
        all.end("a", stream, Duration::ZERO);
        assert!(all.take("a", again, report(Vec::new(), true)).unwrap());
        check(&all, 1, Some((4, 0, 0, "")));
        let removed = DistributionReport {
            removed: vec![ObjectName {
                type_url: TYPE.to_owned(),
                name: "shop/reviews".to_owned(),
            }],
            ..DistributionReport::default()
        };
        assert!(all.take("a", again, removed).unwrap());
        check(&all, 1, None);
    }

    #[test]
    fn a_pilot_that_is_gone_counts_for_a_while() {
        let mut all = Distribution::default();
        let stream = all.begin("a").unwrap();
        all.take("a", stream, report(vec![object(1, 9, 9, 0)], true))
            .unwrap();
        all.end("a", stream, Duration::from_secs(100));
        assert!(!all.expire(Duration::from_secs(129)));
        check(&all, 1, Some((9, 9, 0, "")));
        assert_eq!(all.pilots(), (0, 1));
        assert!(all.expire(Duration::from_secs(130)));
        check(&all, 1, None);
    }

    #[test]
    fn what_is_no_report_is_refused() {
        let mut all = Distribution::default();
        assert_eq!(all.begin(""), Err(ReportError::NoName));
        let stream = all.begin("a").unwrap();
        for (type_url, name) in [("x/y/Z", "a/b"), (TYPE, "nameonly"), (TYPE, "a/b/c")] {
            let mut odd = object(1, 1, 1, 0);
            odd.object = Some(ObjectName {
                type_url: type_url.to_owned(),
                name: name.to_owned(),
            });
            assert!(matches!(
                all.take("a", stream, report(vec![odd], true)),
                Err(ReportError::Unknown { .. })
            ));
        }
        for number in 1..MAX_PILOTS {
            all.begin(&format!("p{number}")).unwrap();
        }
        assert_eq!(all.begin("one more"), Err(ReportError::TooManyPilots));
        assert!(all.begin("a").is_ok());
    }
}
