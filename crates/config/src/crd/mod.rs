//! CustomResourceDefinitions of the kinds that are Argosy's to define (all groups of Istio's API but mesh.istio.io), made
//! from the Rust types: schema, defaults, printer columns. Kubernetes' own kinds and Gateway API's come with those.
//!
//! The schema admits whatever [`crate::decode`] accepts, but for what only files may have: fields in snake_case, and an
//! IPv6 address without quotes. It refuses a part of what `decode` refuses, so that mistakes are found even while no
//! webhook answers. The versions of a kind have the same schema, so conversion between them changes nothing.

mod names;
mod structural;

use serde_json::{Map, Value, json};

use crate::kind::Scope;
use crate::{Kind, Spec, cel};

/// Istio's API has no defaults in its definitions: a field that is left out means its type's zero, and so it is here.
const API_VERSION: &str = "apiextensions.k8s.io/v1";

impl Kind {
    /// Whether Argosy brings the kind's CustomResourceDefinition.
    pub fn is_defined_here(self) -> bool {
        !self.is_kubernetes() && !matches!(self, Self::MeshConfig | Self::MeshNetworks)
    }
}

/// The CustomResourceDefinitions of all kinds, in the order of [`Kind::ALL`].
pub fn all() -> Vec<Value> {
    Kind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.is_defined_here())
        .map(definition)
        .collect()
}

/// The CustomResourceDefinition of a kind; none when it is not Argosy's to define.
pub fn of(kind: Kind) -> Option<Value> {
    kind.is_defined_here().then(|| definition(kind))
}

fn definition(kind: Kind) -> Value {
    let schema = schema(kind);
    let versions: Vec<Value> = kind
        .versions()
        .iter()
        .map(|version| self::version(kind, version, &schema))
        .collect();
    json!({
        "apiVersion": API_VERSION,
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{}.{}", kind.plural(), kind.group()),
            "labels": {"app.kubernetes.io/name": "galley", "app.kubernetes.io/part-of": "argosy"},
            // Helm would delete all objects of the kind together with its definition.
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": kind.group(),
            "scope": match kind.scope() { Scope::Namespaced => "Namespaced", Scope::Cluster => "Cluster" },
            "names": names::of(kind),
            "conversion": {"strategy": "None"},
            "versions": versions,
        },
    })
}

fn version(kind: Kind, version: &str, schema: &Value) -> Value {
    let mut all = Map::new();
    all.insert("name".into(), version.into());
    all.insert("served".into(), true.into());
    all.insert("storage".into(), (version == kind.stored_version()).into());
    if let Some(successor) = names::successor(kind) {
        let warning = format!("{} {kind} is a kind of Istio 1.4; use {successor}", kind.group());
        all.insert("deprecated".into(), true.into());
        all.insert("deprecationWarning".into(), warning.into());
    }
    all.insert("additionalPrinterColumns".into(), names::columns(kind).into());
    all.insert("subresources".into(), json!({"status": {}}));
    all.insert("schema".into(), json!({"openAPIV3Schema": schema}));
    all.into()
}

/// The schema of a whole object.
fn schema(kind: Kind) -> Value {
    let mut body = structural::schema(&Spec::schema(kind));
    // The type is a WorkloadGroup's template and a ServiceEntry's endpoint too.
    if let (Kind::WorkloadEntry, Some(Value::Array(rules))) = (kind, body.get_mut("x-kubernetes-validations"))
    {
        rules.extend(
            cel::rules(&[cel::REACHED])
                .as_array()
                .cloned()
                .unwrap_or_default(),
        );
    }
    let required =
        body.contains_key("required") || matches!(kind, Kind::WorkloadEntry | Kind::TrafficExtension);
    let description = body.remove("description").unwrap_or_default();
    if !required {
        body.insert("nullable".into(), true.into());
    }
    let mut schema = json!({
        "description": description,
        "type": "object",
        "properties": {"spec": body, "status": status()},
    });
    if let Some(fields) = schema.as_object_mut().filter(|_| required) {
        fields.insert("required".into(), json!(["spec"]));
    }
    schema
}

/// What controllers write about an object: Istio's `IstioStatus`, open for what others add.
fn status() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let count = |description: &str| json!({"description": description, "x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]});
    let time =
        |description: &str| json!({"type": "string", "format": "date-time", "description": description});
    json!({
        "description": "What is known of the object; written by Argosy.",
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "observedGeneration": count("The generation that the status is about."),
            "conditions": {
                "type": "array",
                "description": "States of the object.",
                "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "type": text("Which state."),
                    "status": text("True, False or Unknown."),
                    "reason": text("One word why."),
                    "message": text("Why, for people."),
                    "observedGeneration": count("The generation that the condition is about."),
                    "lastTransitionTime": time("When the state last changed."),
                    "lastProbeTime": time("When the state was last looked at."),
                }},
            },
            "validationMessages": {
                "type": "array",
                "description": "What analysis found.",
                "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                    "type": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
                        "name": text("The message's name."),
                        "code": text("The message's code, such as IST0101."),
                    }},
                    "level": {"type": "string", "enum": ["UNKNOWN", "ERROR", "WARNING", "INFO"], "description": "How bad it is."},
                    "documentationUrl": text("The message's page."),
                }},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kubernetes refuses larger annotations, into which `kubectl apply` writes the whole definition.
    const MAX_APPLIED: usize = 262_144;

    #[test]
    fn definitions_can_be_applied() {
        for definition in all() {
            let size = definition.to_string().len();
            assert!(
                size < MAX_APPLIED,
                "{}: {size} bytes",
                definition["metadata"]["name"]
            );
        }
    }

    #[test]
    fn each_served_version_has_the_same_schema_and_one_is_stored() {
        let definition = of(Kind::VirtualService).unwrap();
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let names: Vec<_> = versions.iter().map(|version| &version["name"]).collect();
        assert_eq!(names, ["v1", "v1beta1", "v1alpha3"]);
        assert!(
            versions
                .iter()
                .all(|v| v["schema"] == versions[0]["schema"] && v["served"] == true)
        );
        let stored: Vec<_> = versions
            .iter()
            .map(|version| version["storage"] == true)
            .collect();
        assert_eq!(stored, [true, false, false]);
        assert_eq!(of(Kind::Service), None);
        assert_eq!(of(Kind::MeshConfig), None);
    }
}
