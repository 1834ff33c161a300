//! Prometheus' text format, version 0.0.4 (prometheus.io, "Exposition formats").

use std::fmt::{self, Write as _};

use policy::MetricKind;

use super::family::{Family, State};

/// Writes a metric and its series; nothing without series.
pub(super) fn write(page: &mut String, family: &Family) {
    if family.len() > 0 {
        // Writing to a String cannot fail.
        let _ = write_family(page, family);
    }
}

fn write_family(page: &mut String, family: &Family) -> fmt::Result {
    let definition = family.definition();
    let name = definition.name.as_str();
    let kind = match definition.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Distribution => "histogram",
    };
    let help = definition.help.replace('\\', r"\\").replace('\n', r"\n");
    writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}")?;
    for (values, state) in family.sorted() {
        let labels = labels(&definition.label_names, values);
        match state {
            State::Number(number) => writeln!(page, "{name}{} {number}", braced(&labels, None))?,
            State::Distribution { counts, sum } => {
                let mut total = 0;
                let bounds = definition
                    .buckets
                    .iter()
                    .map(f64::to_string)
                    .chain(["+Inf".to_owned()]);
                for (bound, count) in bounds.zip(counts) {
                    total += count;
                    writeln!(page, "{name}_bucket{} {total}", braced(&labels, Some(&bound)))?;
                }
                let labels = braced(&labels, None);
                writeln!(page, "{name}_sum{labels} {sum}\n{name}_count{labels} {total}")?;
            }
        }
    }
    Ok(())
}

fn labels(names: &[String], values: &[String]) -> String {
    let pairs = names
        .iter()
        .zip(values)
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn braced(labels: &str, bound: Option<&str>) -> String {
    match (labels, bound) {
        ("", None) => String::new(),
        (labels, None) => format!("{{{labels}}}"),
        ("", Some(bound)) => format!("{{le=\"{bound}\"}}"),
        (labels, Some(bound)) => format!("{{{labels},le=\"{bound}\"}}"),
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prometheus::family::tests::definition;

    #[test]
    fn a_counter_with_awkward_labels() {
        let mut metric = definition(
            "istio_requests_total",
            MetricKind::Counter,
            vec!["path".into(), "app".into()],
        );
        metric.help = "Requests\nby \\ path".into();
        let mut family = Family::new(metric);
        family
            .observe(vec!["/a\"b\\c\nd".into(), "x".into()], 2.5, 0, 9)
            .unwrap();
        let mut page = String::new();
        write(&mut page, &family);
        let expected = r#"# HELP istio_requests_total Requests\nby \\ path
# TYPE istio_requests_total counter
istio_requests_total{path="/a\"b\\c\nd",app="x"} 2.5
"#;
        assert_eq!(page, expected);
    }

    #[test]
    fn a_distribution_is_cumulative() {
        let mut metric = definition("seconds", MetricKind::Distribution, Vec::new());
        metric.buckets = vec![0.5, 1.0];
        let mut family = Family::new(metric);
        for value in [0.1, 0.7, 0.8, 3.0] {
            family.observe(Vec::new(), value, 0, 9).unwrap();
        }
        let mut page = String::new();
        write(&mut page, &family);
        let samples: Vec<&str> = page.lines().skip(2).collect();
        let expected = [
            "seconds_bucket{le=\"0.5\"} 1",
            "seconds_bucket{le=\"1\"} 3",
            "seconds_bucket{le=\"+Inf\"} 4",
            "seconds_sum 4.6",
            "seconds_count 4",
        ];
        assert_eq!(samples, expected);
    }
}
