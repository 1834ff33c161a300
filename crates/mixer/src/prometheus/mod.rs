//! The Prometheus adapter's metrics: as many as handlers define, with a bounded number of series each, and their page in
//! Prometheus' text format. It knows nothing of reports or rules; time is an argument (nanoseconds).

mod family;
mod text;

use std::collections::BTreeMap;

use parking_lot::Mutex;
use policy::MetricDefinition;

use family::Family;
pub(crate) use family::Refusal;

/// All metrics of all handlers.
#[derive(Debug)]
pub(crate) struct Registry {
    families: Mutex<BTreeMap<String, Family>>,
    /// Most series of one metric.
    limit: usize,
}

impl Registry {
    /// An empty registry that keeps at most `limit` series of each metric.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            families: Mutex::default(),
            limit,
        }
    }

    /// From now on these metrics exist, each name once. One that is as it was keeps its series; one that has changed
    /// begins anew (as in Istio); one that is gone is forgotten.
    pub(crate) fn install(&self, definitions: &[MetricDefinition]) {
        let mut families = self.families.lock();
        let mut old = std::mem::take(&mut *families);
        for definition in definitions {
            let kept = old
                .remove(&definition.name)
                .filter(|family| family.is(definition));
            let family = kept.unwrap_or_else(|| Family::new(definition.clone()));
            families.insert(definition.name.clone(), family);
        }
    }

    /// Adds a value to a series. `labels` are in the definition's order.
    ///
    /// # Errors
    /// When the value is not kept, and why.
    pub(crate) fn observe(
        &self,
        definition: &MetricDefinition,
        labels: Vec<String>,
        value: f64,
        now: i64,
    ) -> Result<(), Refusal> {
        let mut families = self.families.lock();
        let family = families
            .get_mut(&definition.name)
            .filter(|family| family.is(definition));
        family
            .ok_or(Refusal::Unknown)?
            .observe(labels, value, now, self.limit)
    }

    /// The page. Series that have expired are forgotten.
    pub(crate) fn page(&self, now: i64) -> String {
        let mut page = String::new();
        for family in self.families.lock().values_mut() {
            family.expire(now);
            text::write(&mut page, family);
        }
        page
    }

    /// Series of all metrics.
    pub(crate) fn series(&self) -> usize {
        self.families.lock().values().map(Family::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use policy::MetricKind;

    use super::*;

    fn definition(name: &str, kind: MetricKind, labels: &[&str]) -> MetricDefinition {
        let labels: Vec<String> = labels.iter().map(|&l| l.to_owned()).collect();
        family::tests::definition(name, kind, labels)
    }

    fn labels(values: &[&str]) -> Vec<String> {
        values.iter().map(|&v| v.to_owned()).collect()
    }

    #[test]
    fn metrics_keep_their_series_as_long_as_their_definition_stays() {
        let registry = Registry::new(10);
        let counter = definition("istio_requests_total", MetricKind::Counter, &["code"]);
        let gauge = definition("istio_load", MetricKind::Gauge, &[]);
        registry.install(&[counter.clone(), gauge.clone()]);
        registry.observe(&counter, labels(&["200"]), 1.0, 0).unwrap();
        registry.observe(&counter, labels(&["200"]), 1.0, 0).unwrap();
        registry.observe(&gauge, labels(&[]), 5.0, 0).unwrap();
        registry.install(std::slice::from_ref(&counter));
        let page = registry.page(0);
        assert!(page.contains("istio_requests_total{code=\"200\"} 2\n"), "{page}");
        assert!(!page.contains("istio_load"), "{page}");
        let changed = definition("istio_requests_total", MetricKind::Counter, &["code", "app"]);
        registry.install(&[changed]);
        assert_eq!(registry.series(), 0);
        assert_eq!(
            registry.observe(&counter, labels(&["200"]), 1.0, 0),
            Err(Refusal::Unknown)
        );
    }
}
