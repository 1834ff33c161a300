//! Mixer's kinds: rules with their expressions, handlers, instances, attributes, and the quota and HTTP API specifications.
//! Which attributes, handlers and instances exist is not known here: `policy` resolves names.

use super::common::regex;
use super::{host, mixer_params};
use crate::adapters::Problem;
use crate::mixer::{
    Action, Adapter, AttributeManifest, Attributes, Handler, HttpApiSpec, HttpApiSpecBinding, Instance,
    IstioService, QuotaSpec, QuotaSpecBinding, Rule, SpecReference, Template,
};
use crate::networking::StringMatch;
use crate::path::At;
use crate::structure::nearest;
use crate::templates::{OwnError, OwnTemplate};
use crate::{Kind, Meta, adapters, meta, mixer, syntax};

/// Checks a rule.
pub(super) fn rule(spec: &Rule, meta: &Meta, at: &At<'_>) {
    mixer_params::rule(spec, meta, at);
    let operations =
        !spec.request_header_operations.is_empty() || !spec.response_header_operations.is_empty();
    at.key("actions").require(
        !spec.actions.is_empty() || operations,
        "at least one action is needed",
    );
    at.each("actions", &spec.actions, action);
}

fn action(action: &Action, at: &At<'_>) {
    at.key("handler")
        .require(!action.handler.is_empty(), "this field is required");
    super::common::no_empty_values("instances", &action.instances, at);
    if action.instances.is_empty() {
        at.key("instances")
            .warning("the handler gets no instance, so it has nothing to do");
    }
}

/// One of two fields is needed, the first of which names something built in and comes first where both are given.
fn one_of(
    built_in: (&str, &str),
    other: (&str, &str),
    known: impl Fn(Kind) -> bool,
    more: &'static [&'static str],
    at: &At<'_>,
) {
    let (field, name) = built_in;
    if name.is_empty() {
        at.require(!other.1.is_empty(), &format!("{field} or {} is needed", other.0));
        return;
    }
    if !other.1.is_empty() {
        at.key(other.0).warning(format!("has no effect beside {field}"));
    }
    let names = Kind::ALL
        .iter()
        .filter(|kind| known(**kind))
        .map(|kind| kind.as_str())
        .chain(more.iter().copied());
    if !names.clone().any(|known| known == name) {
        let help = match nearest(name, names.clone()) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("use one of {}", names.collect::<Vec<_>>().join(", ")),
        };
        at.key(field)
            .error_help(format!("{name:?} is not built in"), help);
    }
}

/// Checks a handler.
pub(super) fn handler(kind: Kind, spec: &Handler, at: &At<'_>) {
    one_of(
        ("compiledAdapter", &spec.compiled_adapter),
        ("adapter", &spec.adapter),
        Kind::is_adapter,
        // Argosy's own, which never was a kind.
        &["opentelemetry"],
        at,
    );
    at.some("connection", spec.connection.as_ref(), |connection, at| {
        if at
            .key("address")
            .require(!connection.address.is_empty(), "this field is required")
            && let Err(problem) = adapters::connection_address(&connection.address)
        {
            at.key("address").error(problem.message);
        }
        if let Err(problem) = adapters::Tls::of_connection(connection) {
            mixer_params::say(
                &Problem::new(problem.path.trim_start_matches("connection."), problem.message),
                at,
            );
        }
    });
    mixer_params::handler(kind, spec, at);
}

/// Checks an instance.
pub(super) fn instance(kind: Kind, spec: &Instance, meta: &Meta, at: &At<'_>) {
    one_of(
        ("compiledTemplate", &spec.compiled_template),
        ("template", &spec.template),
        Kind::is_template,
        &[],
        at,
    );
    mixer_params::instance(kind, spec, meta, at);
}

/// Checks an attribute manifest.
pub(super) fn attribute_manifest(spec: &AttributeManifest, at: &At<'_>) {
    for (name, info) in &spec.attributes {
        let at = at.key("attributes");
        let at = at.key(name);
        at.require(!name.is_empty(), "an attribute's name must not be empty");
        at.key("valueType").require(
            info.value_type != mixer::ValueType::Unspecified,
            "this field is required",
        );
    }
}

/// Checks a template.
pub(super) fn template(spec: &Template, meta: &Meta, at: &At<'_>) {
    at.key("descriptor")
        .require(!spec.descriptor.is_empty(), "this field is required");
    let at = at.key("descriptor");
    descriptor(&spec.descriptor, &at);
    // One that is built in is known by its own table.
    let own = match crate::templates::is_served(&meta.name) {
        true => Ok(()),
        false => OwnTemplate::read(&spec.descriptor).map(|_| ()),
    };
    match own {
        Ok(()) | Err(OwnError::Descriptor(_)) => {}
        Err(problem) => at.warning(format!("{problem}: rules cannot use the template")),
    }
}

/// Checks an adapter.
pub(super) fn adapter(spec: &Adapter, at: &At<'_>) {
    super::common::no_empty_values("templates", &spec.templates, at);
    descriptor(&spec.config, &at.key("config"));
}

fn descriptor(text: &str, at: &At<'_>) {
    if let Err(problem) = crate::descriptor::read(text) {
        at.error(problem.to_string());
    }
}

/// Checks a quota specification.
pub(super) fn quota_spec(spec: &QuotaSpec, at: &At<'_>) {
    at.key("rules")
        .require(!spec.rules.is_empty(), "at least one rule is needed");
    at.each("rules", &spec.rules, |rule, at| {
        at.each("match", &rule.r#match, |found, at| {
            for (name, value) in &found.clause {
                let at = at.key("clause");
                clause(value, &at.key(name));
            }
        });
        at.key("quotas")
            .require(!rule.quotas.is_empty(), "at least one quota is needed");
        at.each("quotas", &rule.quotas, |quota, at| {
            at.key("quota")
                .require(!quota.quota.is_empty(), "this field is required");
            at.key("charge").require(quota.charge > 0, "must be at least 1");
        });
    });
}

fn clause(value: &StringMatch, at: &At<'_>) {
    match value {
        StringMatch::Any => {}
        StringMatch::Exact(text) => {
            at.key("exact").require(!text.is_empty(), "must not be empty");
        }
        StringMatch::Prefix(text) => {
            at.key("prefix").require(!text.is_empty(), "must not be empty");
        }
        StringMatch::Regex(text) => regex(text, &at.key("regex")),
    }
}

/// Checks a quota specification's binding.
pub(super) fn quota_spec_binding(spec: &QuotaSpecBinding, at: &At<'_>) {
    binding(&spec.services, "quotaSpecs", &spec.quota_specs, at);
}

/// Checks an HTTP API specification's binding.
pub(super) fn http_api_spec_binding(spec: &HttpApiSpecBinding, at: &At<'_>) {
    binding(&spec.services, "apiSpecs", &spec.api_specs, at);
}

fn binding(services: &[IstioService], key: &str, specs: &[SpecReference], at: &At<'_>) {
    at.key("services")
        .require(!services.is_empty(), "at least one service is needed");
    at.each("services", services, service);
    at.key(key)
        .require(!specs.is_empty(), "at least one specification is needed");
    at.each(key, specs, |spec, at| {
        at.key("name")
            .require(!spec.name.is_empty(), "this field is required");
        namespace(&spec.namespace, at);
    });
}

fn namespace(name: &str, at: &At<'_>) {
    if !name.is_empty() && !syntax::is_host_label(name) {
        at.key("namespace")
            .error(format!("{name:?} is not a namespace's name"));
    }
}

/// A service by name, or by `service`, which stands alone.
fn service(service: &IstioService, at: &At<'_>) {
    match (service.name.is_empty(), service.service.is_empty()) {
        (true, true) => at.error("name or service is needed"),
        (false, false) => at.error("name and service exclude one another; keep one of them"),
        (true, false) => {
            at.key("namespace").require(
                service.namespace.is_empty(),
                "excluded by service, which is the full name",
            );
            at.key("domain").require(
                service.domain.is_empty(),
                "excluded by service, which is the full name",
            );
        }
        (false, true) if !syntax::is_host_label(&service.name) => {
            at.key("name")
                .error(format!("{:?} is not the short name of a service", service.name));
        }
        (false, true) => {}
    }
    namespace(&service.namespace, at);
    if !service.domain.is_empty() {
        host::report(host::dns_name(&service.domain), &at.key("domain"));
    }
    meta::check_labels(&service.labels, &at.key("labels"));
}

/// Checks an HTTP API specification.
pub(super) fn http_api_spec(spec: &HttpApiSpec, at: &At<'_>) {
    at.some("attributes", spec.attributes.as_ref(), attributes);
    at.key("patterns")
        .require(!spec.patterns.is_empty(), "at least one pattern is needed");
    at.each("patterns", &spec.patterns, |pattern, at| {
        at.some("attributes", pattern.attributes.as_ref(), attributes);
        at.key("httpMethod")
            .require(!pattern.http_method.is_empty(), "this field is required");
        at.some("uriTemplate", pattern.uri_template.as_deref(), not_empty);
        at.some("regex", pattern.regex.as_ref(), |expression, at| {
            regex(expression, at)
        });
    });
    at.each("apiKeys", &spec.api_keys, |key, at| {
        at.some("query", key.query.as_deref(), not_empty);
        at.some("header", key.header.as_deref(), not_empty);
        at.some("cookie", key.cookie.as_deref(), not_empty);
    });
}

fn not_empty(text: &str, at: &At<'_>) {
    at.require(!text.is_empty(), "must not be empty");
}

fn attributes(values: &Attributes, at: &At<'_>) {
    at.key("attributes")
        .require(!values.attributes.is_empty(), "at least one attribute is needed");
    for (name, value) in &values.attributes {
        let at = at.key("attributes");
        let at = at.key(name);
        at.some("stringValue", value.string_value.as_deref(), not_empty);
        at.some("bytesValue", value.bytes_value.as_deref(), not_empty);
        at.some("timestampValue", value.timestamp_value.as_ref(), |text, at| {
            use time::{OffsetDateTime, format_description::well_known::Rfc3339};
            at.require(
                OffsetDateTime::parse(text, &Rfc3339).is_ok(),
                "must be a time such as 2006-01-02T15:04:05Z",
            );
        });
    }
}
