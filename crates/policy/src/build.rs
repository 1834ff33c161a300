//! Objects to [`Rules`]: references resolved, expressions compiled, what cannot be used named in findings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use config::mesh::MeshConfig;
use config::mixer::{self, ValueType};
use config::templates::{self, OwnTemplate};
use config::{Finding, Kind, Object, Severity, Spec};
use expr::{LANGUAGE_ANNOTATION, Language, Manifest, Speaking, Use};

use crate::api_spec::ApiSpec;
use crate::backend::Remotes;
use crate::binding;
use crate::cel;
use crate::condition::Condition;
use crate::handler::{Adapter, Handler};
use crate::header::Operation;
use crate::instance::{Instance, Template};
use crate::quota_spec::QuotaSpecs;
use crate::reference::{Name, Names};
use crate::rules::{Rule, Rules};
use crate::sampling::Sampling;
use crate::{
    FAIL_OPEN_ANNOTATION, PER_MESH, PER_PROXY, QUOTA_SCOPE_ANNOTATION, REPORTS_ANNOTATION, REPORTS_TO_MIXER,
};
use config::adapters::Problem;

/// A handler or instance that is there but cannot be used is `None`: its own finding says why.
type Usable<T> = Option<Arc<T>>;

#[derive(Default)]
pub(crate) struct Builder<'a> {
    findings: Vec<Finding>,
    manifest: Manifest,
    remotes: Remotes<'a>,
    handlers: Names<Usable<Handler>>,
    pub(crate) instances: Names<Usable<Instance>>,
    quota_specs: BTreeMap<(String, String), &'a mixer::QuotaSpec>,
    api_specs: BTreeMap<(String, String), Usable<ApiSpec>>,
    pub(crate) rules: Rules,
    /// Metrics by name and instance, and by which handler.
    pub(crate) metrics: BTreeMap<String, (usize, String)>,
}

impl Rules {
    /// The rules among `objects`, given in any order, and what could not be used, and why. A bad object takes nothing
    /// else with it: of a rule, the actions that can be taken are.
    pub fn build<'a>(
        objects: impl IntoIterator<Item = &'a Arc<Object>>,
        mesh: &MeshConfig,
    ) -> (Self, Vec<Finding>) {
        let mut objects: Vec<&'a Object> = objects
            .into_iter()
            .map(|o| &**o)
            .filter(|o| is_mixers(o.kind))
            .collect();
        objects.sort_by_cached_key(|object| object.key());
        let mut builder = Builder {
            manifest: Manifest::standard(),
            ..Builder::default()
        };
        objects.iter().for_each(|object| builder.manifest(object));
        objects.iter().for_each(|object| builder.remote(object));
        objects.iter().for_each(|object| builder.parts(object));
        objects.iter().for_each(|object| builder.binding(object));
        // A namespace's handler must not take away the name of a metric of the mesh's: the first one has it.
        let (of_mesh, others): (Vec<&Object>, Vec<&Object>) = objects
            .iter()
            .partition(|object| object.meta.namespace == mesh.root_namespace);
        for object in of_mesh.into_iter().chain(others) {
            if let Spec::Rule(rule) = &object.spec {
                builder.rule(object, rule, mesh);
            }
        }
        (builder.rules, builder.findings)
    }
}

fn is_mixers(kind: Kind) -> bool {
    kind.group() == "config.istio.io"
}

/// Where the parameters of an object stand. An adapter outside of the process is named beside them.
fn params_path(object: &Object, path: &str) -> String {
    let own = matches!(object.kind, Kind::Handler | Kind::Instance);
    let field = path.split('.').next().unwrap_or_default();
    let beside = object.kind == Kind::Handler && matches!(field, "adapter" | "connection");
    match (own && !beside, path.is_empty()) {
        (true, false) => format!("spec.params.{path}"),
        (false, false) => format!("spec.{path}"),
        (_, true) => "spec".to_owned(),
    }
}

/// The language of an object's expressions, as its annotation says.
fn language(object: &Object) -> Result<Language, String> {
    let given = object.meta.annotations.get(LANGUAGE_ANNOTATION);
    given.map_or(Ok(Language::Cexl), |name| name.parse())
}

fn name_of(object: &Object) -> Name {
    Name {
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
        kind: object.kind.as_str().to_owned(),
    }
}

fn value_type(ty: ValueType) -> Option<expr::ValueType> {
    ty.as_str().parse().ok()
}

impl<'a> Builder<'a> {
    fn say(
        &mut self,
        severity: Severity,
        object: &Object,
        path: impl Into<String>,
        message: impl Into<String>,
    ) {
        let finding = Finding::new(severity, message)
            .of(object.key())
            .at(path)
            .from(object.origin.clone());
        self.findings.push(finding);
    }

    fn manifest(&mut self, object: &Object) {
        let Spec::AttributeManifest(manifest) = &object.spec else {
            return;
        };
        for (name, info) in &manifest.attributes {
            let path = format!("spec.attributes[{name}].valueType");
            let Some(ty) = value_type(info.value_type) else {
                self.say(
                    Severity::Error,
                    object,
                    path,
                    "has no type; set one such as STRING",
                );
                continue;
            };
            if let Err(known) = self.manifest.declare(name, ty) {
                let message =
                    format!("{name} is {known} already, so it cannot be {ty}; the first declaration holds");
                self.say(Severity::Warning, object, path, message);
            }
        }
    }

    fn remote(&mut self, object: &'a Object) {
        let key = || (object.meta.namespace.clone(), object.meta.name.clone());
        match &object.spec {
            Spec::Adapter(adapter) => {
                self.remotes.adapters.insert(key(), adapter);
            }
            Spec::Template(template) => {
                self.remotes.templates.insert(key(), template);
                if !templates::is_served(&object.meta.name) {
                    match OwnTemplate::read(&template.descriptor) {
                        Ok(own) => _ = self.remotes.own.insert(key(), Arc::new(own)),
                        Err(problem) => {
                            self.say(Severity::Error, object, "spec.descriptor", problem.to_string());
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn parts(&mut self, object: &'a Object) {
        match &object.spec {
            Spec::Handler(spec) => {
                let name = name_of(object);
                let made = Handler::new(&name, spec, &self.remotes);
                let handler = made.map(|handler| Handler {
                    per_proxy: self.per_proxy(object, &handler),
                    ..handler
                });
                let usable = self.usable(object, handler);
                self.handlers.insert(name, usable);
            }
            Spec::Instance(spec) => {
                let name = name_of(object);
                let instance = self.instance(object, name.clone(), spec);
                self.instances.insert(name, instance);
            }
            Spec::QuotaSpec(spec) => {
                if let Err(problem) = QuotaSpecs::check(spec, &self.manifest) {
                    self.say(
                        Severity::Error,
                        object,
                        format!("spec.{}", problem.path),
                        problem.message,
                    );
                }
                self.quota_specs
                    .insert((object.meta.namespace.clone(), object.meta.name.clone()), spec);
            }
            Spec::HttpApiSpec(spec) => {
                let made = ApiSpec::new(spec, &self.manifest);
                let usable = self.usable(object, made);
                let key = (object.meta.namespace.clone(), object.meta.name.clone());
                self.api_specs.insert(key, usable);
            }
            _ => {}
        }
    }

    fn usable<T>(&mut self, object: &Object, made: Result<T, Problem>) -> Usable<T> {
        match made {
            Ok(made) => Some(Arc::new(made)),
            Err(problem) => {
                self.say(
                    Severity::Error,
                    object,
                    params_path(object, &problem.path),
                    problem.message,
                );
                None
            }
        }
    }

    fn instance(&mut self, object: &Object, name: Name, spec: &mixer::Instance) -> Usable<Instance> {
        let language = self.language(object);
        let own = match spec.compiled_template.is_empty() {
            true => self.remotes.own_template(&spec.template, &name.namespace),
            false => None,
        };
        let instance = Instance::new(name, spec, own, &Speaking(&self.manifest, language));
        if let Ok(instance) = &instance {
            let record = matches!(instance.template, Template::Kubernetes).then(|| instance.record());
            for problem in binding::problems(spec, record) {
                let path = format!("spec.{}", problem.path);
                self.say(Severity::Warning, object, path, problem.message);
            }
        }
        self.usable(object, instance)
    }

    fn binding(&mut self, object: &Object) {
        let (namespace, mut problems) = (&object.meta.namespace, Vec::new());
        match &object.spec {
            Spec::QuotaSpecBinding(binding) => {
                let specs = &mut self.rules.quota_specs;
                specs.bind(
                    namespace,
                    binding,
                    &self.quota_specs,
                    &self.manifest,
                    &mut problems,
                );
            }
            Spec::HttpApiSpecBinding(binding) => {
                let specs = &mut self.rules.api_specs;
                specs.bind(namespace, binding, &self.api_specs, &mut problems);
            }
            _ => {}
        }
        for problem in problems {
            self.say(
                Severity::Error,
                object,
                format!("spec.{}", problem.path),
                problem.message,
            );
        }
    }

    fn rule(&mut self, object: &Object, spec: &mixer::Rule, mesh: &MeshConfig) {
        let language = self.language(object);
        let condition = match Condition::new(&spec.r#match, &Speaking(&self.manifest, language)) {
            Ok(condition) => condition,
            Err(problem) => {
                self.say(
                    Severity::Error,
                    object,
                    format!("spec.{}", problem.path),
                    problem.message,
                );
                return;
            }
        };
        let mut rule = Rule {
            key: object.key(),
            condition,
            sampling: None,
            checks: Vec::new(),
            quotas: Vec::new(),
            metrics: Vec::new(),
            reports: Vec::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            fail_open: self.fail_open(object, mesh),
            told: self.told(object),
            remote_quota: None,
        };
        if let Some(sampling) = &spec.sampling {
            let vocabulary = Speaking(&self.manifest, language);
            match Sampling::new(sampling, &rule.full_name(), &vocabulary) {
                Ok(sampling) => rule.sampling = sampling,
                Err(problem) => {
                    let problem = problem.below("spec.sampling");
                    self.say(Severity::Error, object, problem.path, problem.message);
                    return;
                }
            }
        }
        for (i, action) in spec.actions.iter().enumerate() {
            self.action(object, &mut rule, &format!("spec.actions[{i}]"), action);
        }
        rule.request_headers =
            self.headers(object, "requestHeaderOperations", &spec.request_header_operations);
        rule.response_headers = self.headers(
            object,
            "responseHeaderOperations",
            &spec.response_header_operations,
        );
        self.warn_of_late_attributes(object, &rule);
        rule.remote_quota = self.remote_quota(object, &rule);
        let rules = if object.meta.namespace == mesh.root_namespace {
            &mut self.rules.root
        } else {
            self.rules
                .by_namespace
                .entry(object.meta.namespace.clone())
                .or_default()
        };
        if rule.has_check() || !rule.quotas.is_empty() || rule.has_report() {
            rules.push(Arc::new(rule));
        }
    }

    fn language(&mut self, object: &Object) -> Language {
        language(object).unwrap_or_else(|problem| {
            let path = format!("metadata.annotations[{LANGUAGE_ANNOTATION}]");
            self.say(Severity::Error, object, path, format!("{problem}; read as CEXL"));
            Language::Cexl
        })
    }

    fn fail_open(&mut self, object: &Object, mesh: &MeshConfig) -> bool {
        match object
            .meta
            .annotations
            .get(FAIL_OPEN_ANNOTATION)
            .map(String::as_str)
        {
            None => mesh.policy_check_fail_open,
            Some("true") => true,
            Some("false") => false,
            Some(other) => {
                let path = format!("metadata.annotations[{FAIL_OPEN_ANNOTATION}]");
                let message = format!("{other:?} is neither \"true\" nor \"false\"; the rule fails closed");
                self.say(Severity::Error, object, path, message);
                false
            }
        }
    }

    fn told(&mut self, object: &Object) -> bool {
        match object
            .meta
            .annotations
            .get(REPORTS_ANNOTATION)
            .map(String::as_str)
        {
            None => false,
            Some(REPORTS_TO_MIXER) => true,
            Some(other) => {
                let path = format!("metadata.annotations[{REPORTS_ANNOTATION}]");
                let message =
                    format!("{other:?} is not {REPORTS_TO_MIXER:?}; proxies report what they must alone");
                self.say(Severity::Error, object, path, message);
                false
            }
        }
    }

    /// Whether a handler's quotas may be counted by each proxy.
    fn per_proxy(&mut self, object: &Object, handler: &Handler) -> bool {
        let path = || format!("metadata.annotations[{QUOTA_SCOPE_ANNOTATION}]");
        let said = object.meta.annotations.get(QUOTA_SCOPE_ANNOTATION);
        match (said.map(String::as_str), &handler.adapter) {
            (None | Some(PER_MESH), _) => false,
            (Some(PER_PROXY), Adapter::MemQuota(_)) => true,
            (Some(PER_PROXY), _) => {
                let message = "is for memquota alone; it changes nothing here";
                self.say(Severity::Warning, object, path(), message);
                false
            }
            (Some(other), _) => {
                let message = format!(
                    "{other:?} is neither {PER_PROXY:?} nor {PER_MESH:?}; Mixer counts for all proxies"
                );
                self.say(Severity::Error, object, path(), message);
                false
            }
        }
    }

    fn headers(
        &mut self,
        object: &Object,
        field: &str,
        templates: &[mixer::HeaderOperationTemplate],
    ) -> Vec<Operation> {
        let mut operations = Vec::new();
        // What is wrong with the annotation was said already.
        let language = language(object).unwrap_or_default();
        for (i, template) in templates.iter().enumerate() {
            match Operation::new(template, &Speaking(&self.manifest, language)) {
                Ok(operation) => operations.push(operation),
                Err(problem) => {
                    let path = format!("spec.{field}[{i}].{}", problem.path);
                    self.say(Severity::Error, object, path, problem.message);
                }
            }
        }
        operations
    }

    /// What is known only when a request has ended is absent when it is decided.
    fn warn_of_late_attributes(&mut self, object: &Object, rule: &Rule) {
        if !rule.has_check() && rule.quotas.is_empty() {
            return;
        }
        let uses: BTreeSet<Use> = rule.check_uses().into_iter().chain(rule.quota_uses()).collect();
        let late = uses.iter().map(Use::name).find(|name| {
            name.starts_with("response.")
                || name.starts_with("connection.sent")
                || name.starts_with("connection.received")
        });
        if let Some(name) = late {
            let message =
                format!("{name} is not known yet when a request is decided on, and counts as absent");
            self.say(Severity::Warning, object, "spec", message);
        }
    }

    fn remote_quota(&mut self, object: &Object, rule: &Rule) -> Option<String> {
        if rule.quotas.is_empty() {
            return None;
        }
        let mut uses = rule.quota_uses();
        for action in &rule.quotas {
            let charged = self.rules.quota_specs.attributes_of(&action.quota);
            uses.extend(charged.into_iter().map(|name| Use::Attribute(name.to_owned())));
            if !self.rules.quota_specs.names(&action.quota) {
                let message = format!(
                    "the quota {} is never charged: no QuotaSpec that is bound to a service names it",
                    action.quota
                );
                self.say(Severity::Warning, object, "spec.actions", message);
            }
        }
        cel::entries("", "", &uses).err()
    }

    fn action(&mut self, object: &Object, rule: &mut Rule, path: &str, action: &mixer::Action) {
        let namespace = &object.meta.namespace;
        let handler = match self.handlers.resolve(&action.handler, namespace) {
            Some(Some(handler)) => handler,
            Some(None) => {
                let message = format!(
                    "the handler {:?} cannot be used, so this action is not taken",
                    action.handler
                );
                return self.say(Severity::Error, object, format!("{path}.handler"), message);
            }
            None => {
                let message = format!(
                    "there is no handler {:?}; write NAME or NAME.NAMESPACE",
                    action.handler
                );
                return self.say(Severity::Error, object, format!("{path}.handler"), message);
            }
        };
        if action.instances.is_empty() {
            self.say(
                Severity::Error,
                object,
                format!("{path}.instances"),
                "is empty, so this action does nothing",
            );
        }
        for (i, reference) in action.instances.iter().enumerate() {
            let place = format!("{path}.instances[{i}]");
            match self.instances.resolve(reference, namespace) {
                Some(Some(instance)) => {
                    if let Err(message) = self.join(rule, &handler, &instance) {
                        self.say(Severity::Error, object, place, message);
                    }
                }
                Some(None) => {
                    let message = format!("the instance {reference:?} cannot be used");
                    self.say(Severity::Error, object, place, message);
                }
                None => {
                    let message =
                        format!("there is no instance {reference:?}; write NAME or NAME.TEMPLATE.NAMESPACE");
                    self.say(Severity::Error, object, place, message);
                }
            }
        }
    }
}
