//! Kinds of Kubernetes that only analysis reads, as far as it does.

use std::collections::BTreeMap;

use super::PodSpec;
use crate::api::api;
use crate::selector::LabelSelector;

api! {
    /// core/v1 Node; what is read of it is its metadata.
    pub struct Node {}

    /// core/v1 ConfigMap.
    pub struct ConfigMap {
        data: BTreeMap<String, String>,
    }

    /// apps/v1 Deployment.
    pub struct Deployment {
        spec: DeploymentSpec,
    }

    /// apps/v1 DaemonSet.
    pub struct DaemonSet {
        spec: DaemonSetSpec,
    }

    /// What a DaemonSet runs.
    pub struct DaemonSetSpec {
        template: PodTemplateSpec,
    }

    /// core/v1 ServiceAccount; what is read of it is its metadata.
    pub struct ServiceAccount {
        /// Whether its Pods get a token; absent means that they do.
        automount_service_account_token: Option<bool>,
    }

    /// What a Deployment runs.
    pub struct DeploymentSpec {
        template: PodTemplateSpec,
    }

    /// The Pods that a Deployment makes.
    pub struct PodTemplateSpec {
        metadata: TemplateMeta,
        spec: PodSpec,
    }

    /// Metadata of Pods made from a template.
    pub struct TemplateMeta {
        labels: BTreeMap<String, String>,
        annotations: BTreeMap<String, String>,
    }

    /// admissionregistration.k8s.io/v1 MutatingWebhookConfiguration or ValidatingWebhookConfiguration.
    pub struct WebhookConfiguration {
        webhooks: Vec<Webhook>,
    }

    /// One webhook.
    pub struct Webhook {
        name: String,
        client_config: WebhookClientConfig,
        /// Absent selects all namespaces.
        namespace_selector: Option<LabelSelector>,
        /// Absent selects all objects.
        object_selector: Option<LabelSelector>,
    }

    /// Where a webhook is: one of the two.
    pub struct WebhookClientConfig {
        url: Option<String>,
        service: Option<ServiceReference>,
    }

    /// A Service that serves a webhook.
    pub struct ServiceReference {
        namespace: String,
        name: String,
    }

    /// apiextensions.k8s.io/v1 CustomResourceDefinition, as far as which kind it defines.
    pub struct CustomResourceDefinition {
        spec: CustomResourceDefinitionSpec,
    }

    /// The kind that a definition is for.
    pub struct CustomResourceDefinitionSpec {
        group: String,
        names: CustomResourceDefinitionNames,
        versions: Vec<CustomResourceDefinitionVersion>,
    }

    /// A version of a kind.
    pub struct CustomResourceDefinitionVersion {
        name: String,
        served: bool,
    }

    /// Names of a kind.
    pub struct CustomResourceDefinitionNames {
        kind: String,
        plural: String,
    }
}
