//! Instances: templates filled with expressions, checked against the vocabulary of attributes.

use std::collections::BTreeMap;

use config::mixer;
use expr::{Expression, ValueType, Vocabulary};
use serde::Deserialize;

use crate::params::{self, Problem};
use crate::reference::Name;

/// An instance.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// The object's name: what a QuotaSpec refers to.
    pub(crate) short_name: String,
    pub(crate) name: Name,
    pub(crate) template: Template,
}

/// What an instance is made of.
#[derive(Clone, Debug)]
pub(crate) enum Template {
    CheckNothing,
    ListEntry(Expression),
    Quota(BTreeMap<String, Expression>),
    Metric {
        value: Expression,
        dimensions: BTreeMap<String, Expression>,
    },
    /// Nothing but the fact that there was a request.
    ReportNothing,
    /// Attributes of workloads, which the feed provides.
    Kubernetes,
    /// Checked, but taken by no adapter that is served.
    Other(&'static str),
}

impl Template {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::CheckNothing => "checknothing",
            Self::ListEntry(_) => "listentry",
            Self::Quota(_) => "quota",
            Self::Metric { .. } => "metric",
            Self::ReportNothing => "reportnothing",
            Self::Kubernetes => "kubernetes",
            Self::Other(name) => name,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListEntryParams {
    #[serde(deserialize_with = "params::expression")]
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct QuotaParams {
    #[serde(deserialize_with = "params::expressions")]
    dimensions: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct MetricParams {
    #[serde(deserialize_with = "params::expression")]
    value: String,
    #[serde(deserialize_with = "params::expressions")]
    dimensions: BTreeMap<String, String>,
    /// For backends with monitored resources; Prometheus has none, in Istio either.
    #[serde(deserialize_with = "params::expression")]
    monitored_resource_type: String,
    #[serde(deserialize_with = "params::expressions")]
    monitored_resource_dimensions: BTreeMap<String, String>,
}

/// Templates whose adapters are not served yet.
const OTHERS: [&str; 7] = [
    "apikey",
    "authorization",
    "edge",
    "logentry",
    "tracespan",
    "servicecontrolreport",
    "adapter",
];

impl Instance {
    /// Reads an instance. The error names the parameter.
    pub(crate) fn new(
        name: Name,
        spec: &mixer::Instance,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Self, Problem> {
        let template = if spec.compiled_template.is_empty() {
            &spec.template
        } else {
            &spec.compiled_template
        };
        let template = match template.as_str() {
            "checknothing" => Template::CheckNothing,
            "reportnothing" => Template::ReportNothing,
            "kubernetes" => Template::Kubernetes,
            "listentry" => {
                let params: ListEntryParams = params::read(&spec.params)?;
                Template::ListEntry(compile("value", &params.value, vocabulary)?)
            }
            "quota" => {
                let params: QuotaParams = params::read(&spec.params)?;
                Template::Quota(compile_all("dimensions", &params.dimensions, vocabulary)?)
            }
            "metric" => metric(&params::read(&spec.params)?, vocabulary)?,
            "" => return Err(Problem::new("", "names no template; set compiledTemplate")),
            other => match OTHERS.into_iter().find(|known| *known == other) {
                Some(known) => Template::Other(known),
                None => return Err(Problem::new("", format!("there is no template {other}"))),
            },
        };
        Ok(Self {
            short_name: name.name.clone(),
            name,
            template,
        })
    }
}

fn compile(path: &str, text: &str, vocabulary: &dyn Vocabulary) -> Result<Expression, Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new(path, "is empty; write an expression"));
    }
    Expression::compile(text, vocabulary).map_err(|e| Problem::new(path, e))
}

fn compile_all(
    path: &str,
    texts: &BTreeMap<String, String>,
    vocabulary: &dyn Vocabulary,
) -> Result<BTreeMap<String, Expression>, Problem> {
    let one = |(name, text): (&String, &String)| {
        compile(&format!("{path}[{name}]"), text, vocabulary).map(|expression| (name.clone(), expression))
    };
    texts.iter().map(one).collect()
}

fn metric(params: &MetricParams, vocabulary: &dyn Vocabulary) -> Result<Template, Problem> {
    use ValueType::{Double, Duration, Int64, String};
    let value = compile("value", &params.value, vocabulary)?;
    // Istio writes the value of a counter as the text "1".
    let number = matches!(value.ty(), Int64 | Double | Duration | String);
    if !number {
        return Err(Problem::new(
            "value",
            format!("is {}, but must be a number or a DURATION", value.ty()),
        ));
    }
    if !params.monitored_resource_type.is_empty() {
        compile(
            "monitoredResourceType",
            &params.monitored_resource_type,
            vocabulary,
        )?;
    }
    compile_all(
        "monitoredResourceDimensions",
        &params.monitored_resource_dimensions,
        vocabulary,
    )?;
    let dimensions = compile_all("dimensions", &params.dimensions, vocabulary)?;
    Ok(Template::Metric { value, dimensions })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(template: &str, params: &str) -> Result<Instance, Problem> {
        let name = Name {
            namespace: "shop".into(),
            name: "i".into(),
            kind: "instance".into(),
        };
        let params = serde_json::from_str(params).unwrap();
        let spec = mixer::Instance {
            compiled_template: template.into(),
            params,
            ..Default::default()
        };
        Instance::new(name, &spec, &expr::STANDARD)
    }

    #[test]
    fn expressions_are_checked_where_they_stand() {
        let check = |template: &str, params: &str, path: &str, message: &str| {
            let problem = instance(template, params).unwrap_err();
            assert!(
                problem.path == path && problem.message.contains(message),
                "{problem:?}"
            );
        };
        check(
            "listentry",
            r#"{"value":"source.lables"}"#,
            "value",
            "did you mean source.labels",
        );
        check(
            "quota",
            r#"{"dimensions":{"a.b":"("}}"#,
            "dimensions[a.b]",
            "column 2",
        );
        check("metric", r#"{"value":"source.ip"}"#, "value", "must be a number");
        check("metric", "{}", "value", "is empty");
        check("metrics", "{}", "", "no template metrics");
    }

    #[test]
    fn bare_numbers_are_expressions_too() {
        let Template::Metric { value, .. } = instance("metric", r#"{"value":1}"#).unwrap().template else {
            panic!("no metric")
        };
        assert_eq!(value.text(), "1");
    }
}
