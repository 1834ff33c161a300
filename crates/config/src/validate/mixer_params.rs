//! What Mixer's objects hold for adapters and templates: parameters and expressions, read as `policy` reads them.

use expr::{LANGUAGE_ANNOTATION, Language, STANDARD, Speaking};

use crate::adapters::{self, Adapter, Problem};
use crate::mixer::{Handler, HeaderOperationTemplate, Instance, Rule};
use crate::path::At;
use crate::{Kind, Meta, rule, templates};

/// How to add an attribute.
const DECLARE: &str = "declare it in an attributemanifest, or correct its name";

/// Says a problem at its field; what another object may make right is a warning.
pub(super) fn say(problem: &Problem, at: &At<'_>) {
    descend(&problem.path, at, &|at| match problem.open {
        true => at.warning_help(problem.message.clone(), DECLARE),
        false => at.error(problem.message.clone()),
    });
}

/// Goes down a path such as `quotas[0].maxAmount` or `dimensions[a.b]`.
fn descend(path: &str, at: &At<'_>, then: &dyn Fn(&At<'_>)) {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.is_empty() {
        return then(at);
    }
    if let Some((inside, rest)) = path.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
        return match inside.parse() {
            Ok(index) => descend(rest, &at.index(index), then),
            Err(_) => descend(rest, &at.key(inside), then),
        };
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (name, rest) = path.split_at_checked(end.max(1)).unwrap_or((path, ""));
    descend(rest, &at.key(name), then);
}

/// The language of an object's expressions, by its annotation. Another one than those there are is an error.
pub(super) fn vocabulary(meta: &Meta, at: &At<'_>) -> Speaking<'static> {
    let given = meta.annotations.get(LANGUAGE_ANNOTATION);
    let language = given.map_or(Ok(Language::Cexl), |name| name.parse());
    if let Err(problem) = &language {
        at.error(format!("annotation {LANGUAGE_ANNOTATION}: {problem}"));
    }
    Speaking(&STANDARD, language.unwrap_or_default())
}

/// Checks a handler's parameters: those of an adapter that is built in. Of a kind of its own they are the body itself.
pub(super) fn handler(kind: Kind, spec: &Handler, at: &At<'_>) {
    if spec.compiled_adapter.is_empty() {
        return;
    }
    for problem in adapters::idle(&spec.compiled_adapter, &spec.params) {
        let warn = |at: &At<'_>| at.warning(problem.message.clone());
        match kind == Kind::Handler {
            true => descend(&problem.path, &at.key("params"), &warn),
            false => descend(&problem.path, at, &warn),
        }
    }
    match Adapter::read(&spec.compiled_adapter, &spec.params) {
        Some(Ok(_)) => {}
        Some(Err(problem)) if kind == Kind::Handler => say(&problem, &at.key("params")),
        Some(Err(problem)) => say(&problem, at),
        None => at.warning_help(
            format!(
                "the adapter {} is not served: rules cannot use it",
                spec.compiled_adapter
            ),
            format!("use one of {}", adapters::SERVED.join(", ")),
        ),
    }
}

/// Checks an instance's parameters by the template that is built in, which one outside of the process takes too.
pub(super) fn instance(kind: Kind, spec: &Instance, meta: &Meta, at: &At<'_>) {
    let own = kind == Kind::Instance;
    let template = match spec.compiled_template.as_str() {
        "" => &spec.template,
        compiled => compiled,
    };
    if template.is_empty() {
        return;
    }
    // One that is not built in is described by a template object, with which `policy` reads the instance.
    if spec.compiled_template.is_empty() && !templates::is_served(template) {
        return;
    }
    if !templates::is_served(template) {
        let message = format!("the template {template} is not served: rules cannot use it");
        return at.warning(message);
    }
    let vocabulary = vocabulary(meta, at);
    if let Err(problems) = templates::read(template, &spec.params, &vocabulary) {
        for problem in &problems {
            match own {
                true => say(problem, &at.key("params")),
                false => say(problem, at),
            }
        }
    }
}

/// Checks the expressions of a rule.
pub(super) fn rule(spec: &Rule, meta: &Meta, at: &At<'_>) {
    let vocabulary = vocabulary(meta, at);
    if let Err(problem) = rule::predicate(&spec.r#match, &vocabulary) {
        say(&problem, at);
    }
    let operation = |operation: &HeaderOperationTemplate, at: &At<'_>| {
        if let Err(problem) = rule::header_values(operation, &vocabulary) {
            say(&problem, at);
        }
    };
    at.each(
        "requestHeaderOperations",
        &spec.request_header_operations,
        operation,
    );
    at.each(
        "responseHeaderOperations",
        &spec.response_header_operations,
        operation,
    );
}
