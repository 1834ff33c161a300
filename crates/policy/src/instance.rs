//! Instances: templates filled with expressions, checked against the vocabulary of attributes, and what they are for one
//! request.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::adapters::Problem;
use config::mixer;
use config::templates::{self, OwnTemplate, Record};
use expr::{Attributes, Expression, Use, Vocabulary};

use crate::record::{self, Fields};
use crate::reference::Name;

/// An instance as configured.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    /// The object's name: what a QuotaSpec refers to.
    pub(crate) short_name: String,
    pub(crate) name: Name,
    pub(crate) template: Template,
    full_name: Arc<str>,
    template_name: Arc<str>,
    record: Record,
}

/// What an instance is made of, where the decision needs its parts.
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
    /// One that only adapters beside the decision take.
    Other(&'static str),
    /// One that is none of Istio's, `NAME.NAMESPACE`.
    Own(String),
}

/// An instance for one request: what an adapter is given.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceValue {
    /// `NAME.KIND.NAMESPACE`, as Istio shows it: `accesslog.instance.istio-system`.
    pub name: Arc<str>,
    /// The template: `logentry`, `authorization`, …; of one that is none of Istio's `NAME.NAMESPACE`.
    pub template: Arc<str>,
    /// The name by which the handler's parameters speak of the instance, where they list instances.
    pub key: Option<Arc<str>>,
    /// The fields' values.
    pub fields: Fields,
}

impl Template {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::CheckNothing => "checknothing",
            Self::ListEntry(_) => "listentry",
            Self::Quota(_) => "quota",
            Self::Metric { .. } => "metric",
            Self::ReportNothing => "reportnothing",
            Self::Kubernetes => "kubernetes",
            Self::Other(name) => name,
            Self::Own(name) => name,
        }
    }
}

impl Instance {
    /// Reads an instance; `own` is its template if that is none of Istio's. The error names the parameter.
    pub(crate) fn new(
        name: Name,
        spec: &mixer::Instance,
        own: Option<(String, Arc<OwnTemplate>)>,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Self, Problem> {
        if let Some((template, own)) = own {
            let read = own.record(&spec.params, vocabulary);
            let record = read.map_err(|problems| first(problems, &template))?;
            return Ok(Self::of(name, Template::Own(template), record));
        }
        let template = match spec.compiled_template.as_str() {
            "" => &spec.template,
            compiled => compiled,
        };
        if template.is_empty() {
            return Err(Problem::new("", "names no template; set compiledTemplate"));
        }
        let read = templates::read(template, &spec.params, vocabulary);
        let (known, record) = read.map_err(|problems| first(problems, template))?;
        Ok(Self::of(name, parts(known, &record)?, record))
    }

    fn of(name: Name, template: Template, record: Record) -> Self {
        Self {
            short_name: name.name.clone(),
            full_name: name.full().into(),
            name,
            template_name: template.name().into(),
            template,
            record,
        }
    }

    /// `NAME.KIND.NAMESPACE`, as Istio shows it.
    pub(crate) fn shown(&self) -> &str {
        &self.full_name
    }

    /// What fills its fields.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// The attributes that its expressions read.
    pub(crate) fn uses(&self) -> Vec<Use> {
        self.record.uses()
    }

    /// What it is for a request. The error names the field that has no value.
    pub(crate) fn eval(&self, key: Option<&Arc<str>>, bag: &dyn Attributes) -> Result<InstanceValue, String> {
        Ok(InstanceValue {
            name: self.full_name.clone(),
            template: self.template_name.clone(),
            key: key.cloned(),
            fields: record::eval(&self.record, bag)?,
        })
    }
}

fn parts(template: &'static str, record: &Record) -> Result<Template, Problem> {
    let value = || {
        let value = record.one("value").cloned();
        value.ok_or_else(|| Problem::new("value", "is empty; write an expression"))
    };
    Ok(match template {
        "checknothing" => Template::CheckNothing,
        "reportnothing" => Template::ReportNothing,
        "kubernetes" => Template::Kubernetes,
        "listentry" => Template::ListEntry(value()?),
        "quota" => Template::Quota(record.many("dimensions")),
        "metric" => Template::Metric {
            value: value()?,
            dimensions: record.many("dimensions"),
        },
        other => Template::Other(other),
    })
}

/// An instance is used whole or not at all: the first problem is told, all are when the object is validated.
fn first(problems: Vec<Problem>, template: &str) -> Problem {
    let first = problems.into_iter().next();
    first.unwrap_or_else(|| Problem::new("", format!("cannot be read by the template {template}")))
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
        Instance::new(name, &spec, None, &expr::STANDARD)
    }

    #[test]
    fn what_is_wrong_is_told() {
        let problem = instance("quota", r#"{"dimensions":{"a.b":"("}}"#).unwrap_err();
        assert_eq!(problem.path, "dimensions[a.b]");
        assert_eq!(
            instance("", "{}").unwrap_err().message,
            "names no template; set compiledTemplate"
        );
    }

    #[test]
    fn bare_numbers_are_expressions_too() {
        let Template::Metric { value, .. } = instance("metric", r#"{"value":1}"#).unwrap().template else {
            panic!("no metric")
        };
        assert_eq!(value.text(), "1");
    }

    #[test]
    fn an_instance_for_a_request() {
        let instance = instance("logentry", r#"{"severity":"\"info\""}"#).unwrap();
        let value = instance.eval(None, &expr::Bag::default()).unwrap();
        assert_eq!((&*value.name, &*value.template), ("i.instance.shop", "logentry"));
        assert_eq!(value.fields.text("severity"), "info");
    }
}
