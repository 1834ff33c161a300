//! One metric and its series.

use std::collections::HashMap;

use policy::{MetricDefinition, MetricKind};

/// Longest value of a label that is kept, in bytes; the rest is cut off.
const MAX_LABEL: usize = 1024;

/// Why a value was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// The metric has as many series as it may have.
    Cardinality,
    /// Not a finite number, or a counter's step back.
    Value,
    /// The metric was redefined or removed meanwhile.
    Unknown,
}

impl Refusal {
    /// For a metric's label.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Cardinality => "cardinality",
            Self::Value => "value",
            Self::Unknown => "redefined",
        }
    }
}

/// Shortest time between two searches for room, in nanoseconds.
const SEARCH: i64 = 1_000_000_000;

/// What a series holds.
#[derive(Clone, Debug)]
pub(super) enum State {
    Number(f64),
    /// Counts by bucket, the infinite one last; not cumulative.
    Distribution {
        counts: Vec<u64>,
        sum: f64,
    },
}

#[derive(Debug)]
struct Series {
    state: State,
    written: i64,
}

/// A metric and its series.
#[derive(Debug)]
pub(super) struct Family {
    definition: MetricDefinition,
    series: HashMap<Vec<String>, Series>,
    /// When series were last looked through for room.
    searched: Option<i64>,
}

impl Family {
    pub(super) fn new(definition: MetricDefinition) -> Self {
        Self {
            definition,
            series: HashMap::new(),
            searched: None,
        }
    }

    pub(super) fn is(&self, definition: &MetricDefinition) -> bool {
        self.definition == *definition
    }

    pub(super) fn definition(&self) -> &MetricDefinition {
        &self.definition
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// The series, in the order of their labels.
    pub(super) fn sorted(&self) -> Vec<(&[String], &State)> {
        let mut all: Vec<_> = self
            .series
            .iter()
            .map(|(labels, s)| (labels.as_slice(), &s.state))
            .collect();
        all.sort_unstable_by_key(|(labels, _)| *labels);
        all
    }

    pub(super) fn observe(
        &mut self,
        mut labels: Vec<String>,
        value: f64,
        now: i64,
        limit: usize,
    ) -> Result<(), Refusal> {
        if !value.is_finite() || (self.definition.kind == MetricKind::Counter && value < 0.0) {
            return Err(Refusal::Value);
        }
        labels.iter_mut().for_each(cut);
        if !self.series.contains_key(&labels) && self.series.len() >= limit {
            self.make_room(now);
            if self.series.len() >= limit {
                return Err(Refusal::Cardinality);
            }
        }
        let definition = &self.definition;
        let series = self.series.entry(labels).or_insert_with(|| Series {
            state: State::new(definition),
            written: now,
        });
        series.written = now;
        series.state.add(definition, value);
        Ok(())
    }

    /// Looking through all series takes long: whoever sends ever new labels must not have it done for each of them.
    fn make_room(&mut self, now: i64) {
        let rested = |at: i64| now.saturating_sub(at) >= SEARCH;
        if self.searched.is_none_or(rested) {
            self.searched = Some(now);
            self.expire(now);
        }
    }

    /// Forgets series that were not written for the definition's time.
    pub(super) fn expire(&mut self, now: i64) {
        if let Some(expiry) = self.definition.expiry {
            self.series
                .retain(|_, series| now.saturating_sub(series.written) < expiry);
        }
    }
}

impl State {
    fn new(definition: &MetricDefinition) -> Self {
        match definition.kind {
            MetricKind::Counter | MetricKind::Gauge => Self::Number(0.0),
            MetricKind::Distribution => Self::Distribution {
                counts: vec![0; definition.buckets.len() + 1],
                sum: 0.0,
            },
        }
    }

    fn add(&mut self, definition: &MetricDefinition, value: f64) {
        match self {
            Self::Number(number) if definition.kind == MetricKind::Gauge => *number = value,
            Self::Number(number) => *number += value,
            Self::Distribution { counts, sum } => {
                *sum += value;
                if let Some(count) =
                    counts.get_mut(definition.buckets.partition_point(|bound| *bound < value))
                {
                    *count += 1;
                }
            }
        }
    }
}

fn cut(label: &mut String) {
    if label.len() > MAX_LABEL {
        label.truncate(label.floor_char_boundary(MAX_LABEL));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use config::mesh::MeshConfig;

    use super::*;

    /// A definition as a handler's parameters make it.
    pub(in crate::prometheus) fn definition(
        name: &str,
        kind: MetricKind,
        labels: Vec<String>,
    ) -> MetricDefinition {
        let state = crate::testing::state(&[crate::testing::SAMPLE_MIXER]);
        let (rules, _) = policy::Rules::build(state.objects.values(), &MeshConfig::default());
        let mut definition = rules.metrics()[0].clone();
        definition.name = name.to_owned();
        definition.kind = kind;
        definition.label_names = labels.clone();
        definition.labels = labels;
        definition
    }

    fn family(kind: MetricKind) -> Family {
        Family::new(definition("m", kind, vec!["a".into()]))
    }

    #[test]
    fn cardinality_is_bounded_and_expiry_makes_room() {
        let mut family = family(MetricKind::Counter);
        // In thousandths of the shortest time between two searches for room.
        let mut add = |label: &str, now: i64| {
            family.definition.expiry = Some(100_000 * (SEARCH / 1000));
            family.observe(vec![label.into()], 1.0, now * (SEARCH / 1000), 2)
        };
        assert_eq!(add("x", 0), Ok(()));
        assert_eq!(add("y", 50_000), Ok(()));
        assert_eq!(add("z", 99_000), Err(Refusal::Cardinality));
        assert_eq!(add("y", 99_500), Ok(()));
        assert_eq!(add("z", 100_000), Ok(()));
        assert_eq!(add("w", 199_600), Ok(()));
        // There is room, and nobody has looked for it since.
        assert_eq!(add("y", 200_100), Err(Refusal::Cardinality));
        assert_eq!(add("y", 200_600), Ok(()));
        let left: Vec<_> = family
            .sorted()
            .iter()
            .map(|(labels, _)| labels[0].clone())
            .collect();
        assert_eq!(left, ["w", "y"]);
    }

    #[test]
    fn a_counter_does_not_go_back_and_nothing_is_not_a_number() {
        let mut counter = family(MetricKind::Counter);
        for bad in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(counter.observe(vec!["x".into()], bad, 0, 9), Err(Refusal::Value));
        }
        assert_eq!(
            family(MetricKind::Gauge).observe(vec!["x".into()], -1.0, 0, 9),
            Ok(())
        );
        assert_eq!(counter.len(), 0);
    }

    #[test]
    fn long_labels_are_cut_between_characters() {
        let mut label = "ä".repeat(1000);
        label.insert(0, 'a');
        cut(&mut label);
        assert_eq!(label.len(), 1023);
    }

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let mut family = family(MetricKind::Distribution);
        family.definition.buckets = vec![1.0, 10.0];
        for value in [1.0, 1.5, 10.0, 11.0] {
            family.observe(vec!["x".into()], value, 0, 9).unwrap();
        }
        let all = family.sorted();
        let State::Distribution { counts, sum } = all[0].1 else {
            panic!("no distribution")
        };
        assert_eq!((counts.as_slice(), *sum), ([1, 2, 1].as_slice(), 23.5));
    }
}
