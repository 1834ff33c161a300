//! What instances of `kubernetes` bind attributes to (Istio 1.4, "Kubernetesenv": `attributeBindings`, `$out`). Mixer has the
//! attributes of workloads from the feed under their standard names, so a binding that gives an attribute its own meaning is
//! kept by itself; any other is named.

use std::collections::BTreeMap;

use config::adapters::Problem;
use config::mixer;
use config::templates::Record;
use expr::Use;

/// The template's outputs, without `source_` or `destination_`, and the attribute of that end which each gives; none for what
/// the feed does not have.
const OUTPUTS: [(&str, Option<&str>); 12] = [
    ("pod_uid", Some("uid")),
    ("pod_ip", Some("ip")),
    ("pod_name", Some("name")),
    ("labels", Some("labels")),
    ("namespace", Some("namespace")),
    ("service_account_name", Some("serviceAccount")),
    ("host_ip", None),
    ("workload_uid", Some("workload.uid")),
    ("workload_name", Some("workload.name")),
    ("workload_namespace", Some("workload.namespace")),
    ("owner", Some("owner")),
    ("container_name", Some("container.name")),
];

/// The template's fields by which a workload is found, and the attribute by which Mixer finds it.
const INPUTS: [(&str, &str); 5] = [
    ("sourceUid", "source.uid"),
    ("sourceIp", "source.ip"),
    ("destinationUid", "destination.uid"),
    ("destinationIp", "destination.ip"),
    ("destinationPort", "destination.port"),
];

/// What of an instance's bindings is not served. `record` are the expressions of its fields, if it is one of `kubernetes`.
pub(crate) fn problems(spec: &mixer::Instance, record: Option<&Record>) -> Vec<Problem> {
    let bindings = bindings(spec);
    let Some(record) = record else {
        let message = "only instances of kubernetes bind attributes, so these are bound to nothing";
        let given = (!bindings.is_empty()).then(|| Problem::new("attributeBindings", message));
        return given.into_iter().collect();
    };
    let bound = bindings.iter().filter_map(|(attribute, text)| {
        let message = unserved(attribute, text)?;
        Some(Problem::new(format!("attributeBindings[{attribute}]"), message))
    });
    let found = INPUTS.iter().filter_map(|(field, attribute)| {
        let uses = record.one(field)?.uses();
        let other = uses.iter().map(Use::name).find(|name| name != attribute)?;
        let message = format!(
            "is made of {other}, and has no effect: workloads are found by {attribute} as it was authenticated"
        );
        Some(Problem::new(format!("params.{field}"), message))
    });
    bound.chain(found).collect()
}

/// The bindings, wherever they stand: as a kind of its own the template has them among its parameters.
fn bindings(spec: &mixer::Instance) -> BTreeMap<String, String> {
    let mut all = spec.attribute_bindings.clone();
    let beside = ["attributeBindings", "attribute_bindings"].into_iter();
    let beside = beside.filter_map(|name| spec.params.get(name)?.as_object());
    for (attribute, value) in beside.flatten() {
        all.insert(attribute.clone(), value.as_str().unwrap_or_default().to_owned());
    }
    all
}

/// Why a binding is not served; none if the attribute has this meaning anyway.
fn unserved(attribute: &str, text: &str) -> Option<String> {
    let Some(output) = output(text) else {
        return Some(format!(
            "{text:?} begins with no output of the template ($out.NAME), and has no effect: {attribute} is what the feed tells"
        ));
    };
    let mut ends = ["source", "destination"].into_iter();
    let given = ends.find_map(|end| {
        let rest = output.strip_prefix(end)?.strip_prefix('_')?;
        let (_, field) = OUTPUTS.iter().find(|(name, _)| *name == rest)?;
        Some(field.map(|field| format!("{end}.{field}")))
    });
    match given {
        None => Some(format!("the template has no output {output}")),
        Some(None) => Some(format!(
            "the feed does not tell {output}, so {attribute} is not bound to it"
        )),
        Some(Some(own)) if own == attribute => None,
        Some(Some(own)) => Some(format!(
            "{attribute} is not bound to {output}: that is {own} here, so write {own} in expressions"
        )),
    }
}

/// The name of the output with which a binding begins, in snake_case.
fn output(text: &str) -> Option<String> {
    let rest = text.trim().strip_prefix("$out.")?;
    let name = rest
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_');
    let mut snake = String::new();
    for c in name {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    (!snake.is_empty()).then_some(snake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_that_gives_an_attribute_its_own_meaning_is_served() {
        let check = |attribute: &str, text: &str, expected: Option<&str>| {
            let told = unserved(attribute, text);
            match expected {
                None => assert_eq!(told, None, "{text}"),
                Some(part) => assert!(told.as_ref().is_some_and(|told| told.contains(part)), "{told:?}"),
            }
        };
        check("source.name", r#"$out.source_pod_name | "unknown""#, None);
        check("source.name", "$out.sourcePodName", None);
        check(
            "destination.container.name",
            r#"$out.destination_container_name | """#,
            None,
        );
        check("source.serviceAccount", "$out.source_service_account_name", None);
        check(
            "source.name",
            "$out.source_workload_name",
            Some("source.workload.name"),
        );
        check("source.ip", "$out.destination_pod_ip", Some("destination.ip"));
        check("my.pod", "$out.source_pod_name", Some("write source.name"));
        check("source.ip", "$out.source_host_ip", Some("the feed does not tell"));
        check("source.ip", "$out.source_port", Some("no output source_port"));
        check("source.ip", r#"ip("10.0.0.1")"#, Some("begins with no output"));
    }

    #[test]
    fn fields_that_find_another_workload_are_named() {
        let read = |template: &str, params: serde_json::Value| {
            let params = params.as_object().unwrap().clone();
            let record = config::templates::read(template, &params, &expr::STANDARD)
                .unwrap()
                .1;
            let spec = mixer::Instance {
                params,
                ..Default::default()
            };
            let problems = problems(&spec, (template == "kubernetes").then_some(&record));
            problems
                .into_iter()
                .map(|problem| problem.path)
                .collect::<Vec<_>>()
        };
        let usual = serde_json::json!({"source_uid": "source.uid | \"\"", "destination_port": "destination.port | 0"});
        assert_eq!(read("kubernetes", usual), [""; 0]);
        let other = serde_json::json!({"source_ip": "origin.ip | ip(\"0.0.0.0\")", "attribute_bindings": {"source.name": "$out.source_owner"}});
        assert_eq!(
            read("kubernetes", other),
            ["attributeBindings[source.name]", "params.sourceIp"]
        );
        let bound = serde_json::json!({"attribute_bindings": {"source.name": "$out.source_pod_name"}});
        assert_eq!(read("reportnothing", bound), ["attributeBindings"]);
    }
}
